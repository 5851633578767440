//! SEV metadata ("ASEV"): the pages beside the image that the launcher adds before the start.
//!
//! Header `"ASEV" | u32 length | u32 version 1 | u32 entries`, then 12 bytes an entry:
//! `u32 address | u32 length | u32 type` (edk2 `OvmfPkg/ResetVector`, QEMU `hw/i386/pc.h`).

use crate::PAGE_BYTES;
use crate::fields::{self, Metadata, u32_at};
use std::fmt;

/// First bytes of the header.
pub const SIGNATURE: [u8; 4] = *b"ASEV";

/// The version that this crate knows.
pub const VERSION: u32 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = fields::HEADER_BYTES;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 12;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionKind {
    /// Type 1: zeroed memory that the guest need not validate.
    ValidatedMemory,
    /// Type 2: the secrets page, filled by the firmware of the processor.
    Secrets,
    /// Type 3: the CPUID page, filled by the launcher and checked by the firmware.
    Cpuid,
    /// Type 4: the calling area of an SVSM; zeros at launch.
    SvsmCallingArea,
    /// Type 0x10: the page with the hashes of kernel, initrd and command line.
    KernelHashes,
}

impl SectionKind {
    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::ValidatedMemory,
            2 => Self::Secrets,
            3 => Self::Cpuid,
            4 => Self::SvsmCallingArea,
            0x10 => Self::KernelHashes,
            _ => return None,
        })
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ValidatedMemory => "validated memory",
            Self::Secrets => "secrets page",
            Self::Cpuid => "CPUID page",
            Self::SvsmCallingArea => "SVSM calling area",
            Self::KernelHashes => "kernel hashes",
        })
    }
}

/// A section: whole pages, at least one, below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Guest-physical address of the first page.
    pub gpa: u64,
    /// Length in bytes, a multiple of 4096.
    pub bytes: u64,
    /// What it is for.
    pub kind: SectionKind,
}

impl Section {
    /// Guest-physical address behind the last page.
    pub fn end(&self) -> u64 {
        self.gpa + self.bytes
    }
}

/// Metadata with which a launch fails, or whose digest would be a matter of opinion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SevMetadataError {
    /// The header is not inside the file.
    #[error(
        "the GUID table puts the SEV metadata {from_end} bytes before the end of a file of \
         {rom_bytes} bytes"
    )]
    Offset {
        /// Distance from the file's end.
        from_end: u32,
        /// Length of the file.
        rom_bytes: usize,
    },
    /// The header does not begin with "ASEV".
    #[error("no \"ASEV\" at file offset {0:#x}, where the GUID table puts the SEV metadata")]
    Signature(usize),
    /// Another version.
    #[error("SEV metadata of version {0}; only version 1 is known")]
    Version(u32),
    /// The length in the header does not hold the entries, or not in the file.
    #[error(
        "the SEV metadata's header says {bytes} bytes and {entries} entries; {entries} entries \
         take 16 + 12 * {entries} bytes, and the file has {available} bytes from there"
    )]
    Length {
        /// Length in the header.
        bytes: u32,
        /// Number of entries in the header.
        entries: u32,
        /// Bytes of the file from the header on.
        available: usize,
    },
    /// A type that has no defined page type.
    #[error("section {index} of the SEV metadata has the unknown type {number:#x}")]
    Kind {
        /// Index of the section.
        index: usize,
        /// Its type.
        number: u32,
    },
    /// Not whole pages.
    #[error(
        "section {index} of the SEV metadata ({gpa:#x}, {bytes:#x} bytes) is not made of whole \
         4 KiB pages; KVM refuses it"
    )]
    Unaligned {
        /// Index of the section.
        index: usize,
        /// Its address.
        gpa: u64,
        /// Its length.
        bytes: u64,
    },
    /// The secrets page or the CPUID page is more than a page: QEMU then adds every page of the
    /// section, and tools that compute measurements count the first only.
    #[error("section {index} of the SEV metadata ({kind}) has {bytes:#x} bytes; make it one page")]
    NotOnePage {
        /// Index of the section.
        index: usize,
        /// What it is for.
        kind: SectionKind,
        /// Its length.
        bytes: u64,
    },
    /// The section reaches into the image or beyond 4 GiB.
    #[error(
        "section {index} of the SEV metadata ({gpa:#x} to {end:#x}) reaches into the image, which \
         begins at {rom_gpa:#x}; KVM refuses to add a page twice"
    )]
    OverImage {
        /// Index of the section.
        index: usize,
        /// Its address.
        gpa: u64,
        /// Its end.
        end: u64,
        /// Where the image begins.
        rom_gpa: u64,
    },
    /// Two sections have a page in common.
    #[error(
        "sections {first} and {second} of the SEV metadata both have the page at {gpa:#x}; KVM \
         refuses to add a page twice"
    )]
    Overlap {
        /// Index of one.
        first: usize,
        /// Index of the other.
        second: usize,
        /// A page of both.
        gpa: u64,
    },
}

/// Reads the metadata whose header is `from_end` bytes before the end of `rom`.
pub fn parse(rom: &[u8], from_end: u32) -> Result<Vec<Section>, SevMetadataError> {
    let metadata = Metadata::read(rom, from_end).ok_or(SevMetadataError::Offset {
        from_end,
        rom_bytes: rom.len(),
    })?;
    if metadata.signature != SIGNATURE {
        return Err(SevMetadataError::Signature(metadata.start));
    }
    if metadata.version != VERSION {
        return Err(SevMetadataError::Version(metadata.version));
    }
    let entries_bytes = ENTRY_BYTES as u64 * u64::from(metadata.entries);
    let (needed, available) = (HEADER_BYTES as u64 + entries_bytes, metadata.available());
    if needed > u64::from(metadata.bytes) || u64::from(metadata.bytes) > available as u64 {
        return Err(SevMetadataError::Length {
            bytes: metadata.bytes,
            entries: metadata.entries,
            available,
        });
    }
    metadata.rest[..entries_bytes as usize]
        .chunks_exact(ENTRY_BYTES)
        .enumerate()
        .map(|(index, entry)| section(index, entry))
        .collect()
}

fn section(index: usize, entry: &[u8]) -> Result<Section, SevMetadataError> {
    let [gpa, bytes, number] = [0, 4, 8].map(|at| u32_at(entry, at));
    let (gpa, bytes) = (u64::from(gpa), u64::from(bytes));
    let kind = SectionKind::from_number(number).ok_or(SevMetadataError::Kind { index, number })?;
    let whole_pages = |value: u64| value.is_multiple_of(PAGE_BYTES as u64);
    if bytes == 0 || !whole_pages(gpa) || !whole_pages(bytes) {
        return Err(SevMetadataError::Unaligned { index, gpa, bytes });
    }
    let one_page = matches!(kind, SectionKind::Secrets | SectionKind::Cpuid);
    if one_page && bytes != PAGE_BYTES as u64 {
        return Err(SevMetadataError::NotOnePage { index, kind, bytes });
    }
    Ok(Section { gpa, bytes, kind })
}

/// Checks that no page is in two sections, nor in a section and the image that begins at `rom_gpa`.
pub fn check_layout(sections: &[Section], rom_gpa: u64) -> Result<(), SevMetadataError> {
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|&index| sections[index].gpa);
    for pair in order.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let gpa = sections[second].gpa;
        if sections[first].end() > gpa {
            return Err(SevMetadataError::Overlap { first, second, gpa });
        }
    }
    for (index, section) in sections.iter().enumerate() {
        let (gpa, end) = (section.gpa, section.end());
        if end > rom_gpa {
            return Err(SevMetadataError::OverImage {
                index,
                gpa,
                end,
                rom_gpa,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sev_metadata_tests.rs"]
mod tests;
