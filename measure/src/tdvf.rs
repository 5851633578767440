//! TDX metadata ("TDVF"): which parts of the image, and which memory beside it, the launcher adds.
//!
//! Descriptor `"TDVF" | u32 length | u32 version 1 | u32 sections`, then 32 bytes a section (Intel's
//! TDX Virtual Firmware Design Guide, QEMU `hw/i386/tdvf.c`).

use crate::fields::{self, Metadata, u32_at, u64_at};
use crate::{MAX_PAGES, PAGE_BYTES};
use std::fmt;
use std::ops::Range;

/// First bytes of the descriptor.
pub const SIGNATURE: [u8; 4] = *b"TDVF";

/// The version that this crate knows.
pub const VERSION: u32 = 1;

/// Bytes of the descriptor before its sections.
pub const DESCRIPTOR_BYTES: usize = fields::HEADER_BYTES;

/// Bytes of a section.
pub const SECTION_BYTES: usize = 32;

/// The attribute that has a section's contents measured.
const MR_EXTEND: u32 = 1;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TdSectionKind {
    /// Type 0, BFV: code and data of the image.
    Firmware,
    /// Type 1, CFV: variables of the image.
    Variables,
    /// Type 2: the list of hand-off blocks, filled by the launcher.
    HandOffBlocks,
    /// Type 3: zeroed memory for the start.
    TemporaryMemory,
}

impl TdSectionKind {
    const ALL: [Self; 4] = [
        Self::Firmware,
        Self::Variables,
        Self::HandOffBlocks,
        Self::TemporaryMemory,
    ];

    /// Whether the image has contents for such a section.
    fn has_contents(self) -> bool {
        matches!(self, Self::Firmware | Self::Variables)
    }
}

impl fmt::Display for TdSectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "firmware",
            Self::Variables => "variables",
            Self::HandOffBlocks => "hand-off blocks",
            Self::TemporaryMemory => "temporary memory",
        })
    }
}

/// A section: whole pages, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdSection {
    /// Where its contents are in the file; empty if it has none.
    pub contents: Range<usize>,
    /// Guest-physical address of the first page.
    pub gpa: u64,
    /// Length in memory in bytes, not less than that of the contents.
    pub bytes: u64,
    /// What it is for.
    pub kind: TdSectionKind,
    /// Whether contents are measured, or addresses only.
    pub measured: bool,
}

impl TdSection {
    /// The section as it is stored.
    ///
    /// # Panics
    /// If the contents are beyond 4 GiB.
    pub fn to_bytes(&self) -> [u8; SECTION_BYTES] {
        let field = |value: usize| u32::try_from(value).expect("below 4 GiB").to_le_bytes();
        let mut bytes = [0; SECTION_BYTES];
        bytes[0..4].copy_from_slice(&field(self.contents.start));
        bytes[4..8].copy_from_slice(&field(self.contents.len()));
        bytes[8..16].copy_from_slice(&self.gpa.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[24..28].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[28..32].copy_from_slice(&u32::from(self.measured).to_le_bytes());
        bytes
    }
}

/// Metadata with which a launch fails, or whose MRTD nobody can know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TdvfError {
    /// The descriptor is not inside the file.
    #[error(
        "the GUID table puts the TDX metadata {from_end} bytes before the end of a file of \
         {rom_bytes} bytes"
    )]
    Offset {
        /// Distance from the file's end.
        from_end: u32,
        /// Length of the file.
        rom_bytes: usize,
    },
    /// The descriptor does not begin with "TDVF".
    #[error("no \"TDVF\" at file offset {0:#x}, where the GUID table puts the TDX metadata")]
    Signature(usize),
    /// Another version.
    #[error("TDX metadata of version {0}; only version 1 is known")]
    Version(u32),
    /// The length is not that of the sections, or not in the file.
    #[error(
        "the TDX metadata says {bytes} bytes and {sections} sections; it has 16 + 32 * {sections} \
         bytes, and the file has {available} from there"
    )]
    Length {
        /// Length in the descriptor.
        bytes: u32,
        /// Number of sections in the descriptor.
        sections: u32,
        /// Bytes of the file from the descriptor on.
        available: usize,
    },
    /// A type that QEMU does not launch.
    #[error("section {index} of the TDX metadata has the unknown type {number}")]
    Kind {
        /// Index of the section.
        index: usize,
        /// Its type.
        number: u32,
    },
    /// Attributes beside "measured", or "measured" where the launcher makes the contents.
    #[error(
        "section {index} of the TDX metadata ({kind}) cannot have the attributes {attributes:#x}"
    )]
    Attributes {
        /// Index of the section.
        index: usize,
        /// What it is for.
        kind: TdSectionKind,
        /// Its attributes.
        attributes: u32,
    },
    /// Not whole pages, or beyond the address space.
    #[error(
        "section {index} of the TDX metadata ({gpa:#x}, {bytes:#x} bytes) is not made of whole \
         4 KiB pages of the address space"
    )]
    Unaligned {
        /// Index of the section.
        index: usize,
        /// Its address.
        gpa: u64,
        /// Its length.
        bytes: u64,
    },
    /// Contents that are not in the file, do not fit, are missing or not expected.
    #[error(
        "section {index} of the TDX metadata ({kind}) has {bytes:#x} bytes of contents at file \
         offset {offset:#x}; only firmware and variables have contents, inside the file and not \
         longer than the section"
    )]
    Contents {
        /// Index of the section.
        index: usize,
        /// What it is for.
        kind: TdSectionKind,
        /// Offset of the contents.
        offset: u32,
        /// Their length.
        bytes: u32,
    },
    /// Two sections have a page in common.
    #[error("sections {first} and {second} of the TDX metadata both have the page at {gpa:#x}")]
    Overlap {
        /// Index of one.
        first: usize,
        /// Index of the other.
        second: usize,
        /// A page of both.
        gpa: u64,
    },
    /// More pages than any image has.
    #[error("the TDX metadata adds {0} pages; at most {MAX_PAGES} are measured")]
    TooManyPages(u64),
    /// No place for the hand-off blocks, without which QEMU stops.
    #[error("the TDX metadata has no section of type 2 (hand-off blocks), which QEMU needs")]
    NoHandOffBlocks,
    /// No code: MRTD would cover nothing of the image.
    #[error("the TDX metadata has no section of type 0 (firmware)")]
    NoFirmware,
}

/// Reads the metadata whose descriptor is `from_end` bytes before the end of `rom`.
pub fn parse(rom: &[u8], from_end: u32) -> Result<Vec<TdSection>, TdvfError> {
    let metadata = Metadata::read(rom, from_end).ok_or(TdvfError::Offset {
        from_end,
        rom_bytes: rom.len(),
    })?;
    if metadata.signature != SIGNATURE {
        return Err(TdvfError::Signature(metadata.start));
    }
    if metadata.version != VERSION {
        return Err(TdvfError::Version(metadata.version));
    }
    let sections_bytes = SECTION_BYTES as u64 * u64::from(metadata.entries);
    let (needed, available) = (
        DESCRIPTOR_BYTES as u64 + sections_bytes,
        metadata.available(),
    );
    if needed != u64::from(metadata.bytes) || needed > available as u64 {
        return Err(TdvfError::Length {
            bytes: metadata.bytes,
            sections: metadata.entries,
            available,
        });
    }
    let sections = metadata.rest[..sections_bytes as usize].chunks_exact(SECTION_BYTES);
    let sections: Vec<TdSection> = sections
        .enumerate()
        .map(|(index, entry)| section(rom.len(), index, entry))
        .collect::<Result<_, _>>()?;
    check(&sections)?;
    Ok(sections)
}

fn section(rom_bytes: usize, index: usize, entry: &[u8]) -> Result<TdSection, TdvfError> {
    let [offset, contents_bytes, number, attributes] = [0, 4, 24, 28].map(|at| u32_at(entry, at));
    let [gpa, bytes] = [8, 16].map(|at| u64_at(entry, at));
    let kind = usize::try_from(number)
        .ok()
        .and_then(|number| TdSectionKind::ALL.get(number));
    let kind = *kind.ok_or(TdvfError::Kind { index, number })?;
    let measured = attributes == MR_EXTEND;
    if attributes & !MR_EXTEND != 0 || (measured && kind == TdSectionKind::HandOffBlocks) {
        return Err(TdvfError::Attributes {
            index,
            kind,
            attributes,
        });
    }
    let whole_pages = |value: u64| value.is_multiple_of(PAGE_BYTES as u64);
    let inside = gpa.checked_add(bytes).is_some();
    if bytes == 0 || !whole_pages(gpa) || !whole_pages(bytes) || !inside {
        return Err(TdvfError::Unaligned { index, gpa, bytes });
    }
    let end = u64::from(offset) + u64::from(contents_bytes);
    let fits = u64::from(contents_bytes) <= bytes && end <= rom_bytes as u64;
    if !fits || kind.has_contents() != (contents_bytes > 0) {
        return Err(TdvfError::Contents {
            index,
            kind,
            offset,
            bytes: contents_bytes,
        });
    }
    Ok(TdSection {
        contents: offset as usize..end as usize,
        gpa,
        bytes,
        kind,
        measured,
    })
}

fn check(sections: &[TdSection]) -> Result<(), TdvfError> {
    let pages = sections.iter().fold(0_u64, |pages, section| {
        pages.saturating_add(section.bytes / PAGE_BYTES as u64)
    });
    if pages > MAX_PAGES as u64 {
        return Err(TdvfError::TooManyPages(pages));
    }
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|&index| sections[index].gpa);
    for pair in order.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let gpa = sections[second].gpa;
        if sections[first].gpa + sections[first].bytes > gpa {
            return Err(TdvfError::Overlap { first, second, gpa });
        }
    }
    let has = |kind| sections.iter().any(|section| section.kind == kind);
    if !has(TdSectionKind::HandOffBlocks) {
        return Err(TdvfError::NoHandOffBlocks);
    }
    if !has(TdSectionKind::Firmware) {
        return Err(TdvfError::NoFirmware);
    }
    Ok(())
}
