//! What a firmware image says about its launch: the GUIDed table at its end and the SEV metadata.
//!
//! Layout: edk2 `OvmfPkg/ResetVector`; the walk is QEMU's (`hw/i386/pc_sysfw_ovmf.c`).

use core::ops::Range;

/// Offset from the image's end at which the footer GUID begins.
const FOOTER_FROM_END: usize = 0x30;
const GUID_BYTES: usize = 16;
/// A length and a GUID follow the data of every entry.
const ENTRY_OVERHEAD_BYTES: usize = 18;
/// Sections above this number are an error: an image has fewer than ten.
const MAX_SECTIONS: usize = 64;
const METADATA_HEADER_BYTES: usize = 16;
const SECTION_BYTES: usize = 12;
const METADATA_VERSION: u32 = 1;

/// 96b582de-1fb2-45f7-baea-a366c55a082d
const FOOTER: [u8; 16] = guid(0x96b5_82de, 0x1fb2, 0x45f7, 0xbaea_a366_c55a_082d);
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e
const RESET_BLOCK: [u8; 16] = guid(0x00f7_71de, 0x1a7e, 0x4fcb, 0x890e_68c7_7e2f_b44e);
/// dc886566-984a-4798-a75e-5585a7bf67cc
const METADATA_OFFSET: [u8; 16] = guid(0xdc88_6566, 0x984a, 0x4798, 0xa75e_5585_a7bf_67cc);

/// A GUID as it is stored: the first three fields little-endian.
const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// What a section's pages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Pre-validated RAM of zeros.
    Memory,
    /// The secrets page.
    Secrets,
    /// The CPUID page.
    Cpuid,
    /// The calling area of an SVSM: zeros.
    SvsmCaa,
    /// Hashes of kernel, initrd and command line: zeros here, where QEMU gives no kernel.
    KernelHashes,
}

/// One entry of the SEV metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// First guest-physical address, page aligned.
    pub base: u64,
    /// Bytes, a multiple of the page size.
    pub bytes: u64,
    /// What for.
    pub kind: SectionKind,
}

/// Why an image cannot be launched as an SNP guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirmwareError {
    /// Empty, or its size is not a multiple of 64 KiB, or above 16 MiB.
    Size(usize),
    /// There is no footer GUID 48 bytes before the end.
    NoTable,
    /// An entry's length contradicts the table's.
    BrokenTable,
    /// QEMU refuses an image without the SEV-ES reset block, or with address 0 in it.
    NoResetBlock,
    /// There is no SEV metadata.
    NoMetadata,
    /// The metadata's header or length is wrong.
    BrokenMetadata,
    /// More sections than this program wants to see.
    TooManySections(u32),
    /// A section that is empty or not made of whole pages.
    UnalignedSection {
        /// Its base.
        base: u32,
        /// Its length.
        bytes: u32,
    },
    /// A section type that the specification of the metadata does not name.
    UnknownSection(u32),
}

/// A firmware image's description of its launch.
#[derive(Clone, Debug)]
pub struct Firmware<'a> {
    reset_address: u32,
    sections: &'a [u8],
}

impl<'a> Firmware<'a> {
    /// Reads and checks the tables of an image.
    pub fn parse(image: &'a [u8]) -> Result<Self, FirmwareError> {
        if image.is_empty() || !image.len().is_multiple_of(64 << 10) || image.len() > 16 << 20 {
            return Err(FirmwareError::Size(image.len()));
        }
        let table = table(image)?;
        let reset_address = find(image, &table, &RESET_BLOCK)?
            .and_then(|data| u32_at(data, 0))
            .filter(|address| *address != 0)
            .ok_or(FirmwareError::NoResetBlock)?;
        let distance = find(image, &table, &METADATA_OFFSET)?
            .and_then(|data| u32_at(data, 0))
            .ok_or(FirmwareError::NoMetadata)?;
        let sections = metadata(image, distance as usize)?;
        let firmware = Self {
            reset_address,
            sections,
        };
        for section in firmware.raw_sections() {
            section?;
        }
        Ok(firmware)
    }

    /// Where the launcher lets the other CPUs begin (CS base and IP in one address).
    pub fn reset_address(&self) -> u32 {
        self.reset_address
    }

    /// The sections in the order of the table, which is the order of the launch.
    pub fn sections(&self) -> impl Iterator<Item = Section> {
        // `parse` has seen that none of them is an error.
        self.raw_sections().filter_map(Result::ok)
    }

    fn raw_sections(&self) -> impl Iterator<Item = Result<Section, FirmwareError>> {
        self.sections
            .as_chunks::<SECTION_BYTES>()
            .0
            .iter()
            .map(section)
    }
}

fn section(entry: &[u8; SECTION_BYTES]) -> Result<Section, FirmwareError> {
    let field = |at| u32_at(entry, at).expect("three fields of four bytes");
    let (base, bytes) = (field(0), field(4));
    if bytes == 0 || base % 4096 != 0 || bytes % 4096 != 0 {
        return Err(FirmwareError::UnalignedSection { base, bytes });
    }
    let kind = match field(8) {
        1 => SectionKind::Memory,
        2 => SectionKind::Secrets,
        3 => SectionKind::Cpuid,
        4 => SectionKind::SvsmCaa,
        0x10 => SectionKind::KernelHashes,
        other => return Err(FirmwareError::UnknownSection(other)),
    };
    Ok(Section {
        base: base.into(),
        bytes: bytes.into(),
        kind,
    })
}

/// The entries' range in the image.
fn table(image: &[u8]) -> Result<Range<usize>, FirmwareError> {
    let footer = image.len() - FOOTER_FROM_END;
    if image[footer..footer + GUID_BYTES] != FOOTER {
        return Err(FirmwareError::NoTable);
    }
    let length = usize::from(u16_at(image, footer - 2).ok_or(FirmwareError::NoTable)?);
    let entries = length
        .checked_sub(ENTRY_OVERHEAD_BYTES)
        .ok_or(FirmwareError::BrokenTable)?;
    let end = footer - 2;
    let start = end.checked_sub(entries).ok_or(FirmwareError::BrokenTable)?;
    Ok(start..end)
}

/// The data of the entry nearest to the end that has this GUID.
fn find<'a>(
    image: &'a [u8],
    table: &Range<usize>,
    wanted: &[u8; 16],
) -> Result<Option<&'a [u8]>, FirmwareError> {
    let mut end = table.end;
    while end > table.start {
        let guid = end
            .checked_sub(GUID_BYTES)
            .ok_or(FirmwareError::BrokenTable)?;
        let length = guid
            .checked_sub(2)
            .and_then(|at| u16_at(image, at))
            .ok_or(FirmwareError::BrokenTable)?;
        let length = usize::from(length);
        if length < ENTRY_OVERHEAD_BYTES || length > end - table.start {
            return Err(FirmwareError::BrokenTable);
        }
        if image[guid..end] == *wanted {
            return Ok(Some(&image[end - length..guid - 2]));
        }
        end -= length;
    }
    Ok(None)
}

/// The bytes of the metadata's sections.
fn metadata(image: &[u8], from_end: usize) -> Result<&[u8], FirmwareError> {
    let broken = FirmwareError::BrokenMetadata;
    let start = image.len().checked_sub(from_end).ok_or(broken)?;
    let metadata = &image[start..];
    let field = |at| u32_at(metadata, at).ok_or(broken);
    let (length, version, count) = (field(4)?, field(8)?, field(12)?);
    if metadata[..4] != *b"ASEV" || version != METADATA_VERSION {
        return Err(broken);
    }
    if count as usize > MAX_SECTIONS {
        return Err(FirmwareError::TooManySections(count));
    }
    let bytes = METADATA_HEADER_BYTES + count as usize * SECTION_BYTES;
    if length as usize != bytes {
        return Err(broken);
    }
    metadata.get(METADATA_HEADER_BYTES..bytes).ok_or(broken)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64 KiB image with one section of each kind.
    pub(crate) fn image(reset: u32, sections: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut image = vec![0x90; 64 << 10];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let footer = 0x1_0000 - FOOTER_FROM_END;
        put(footer, &FOOTER);
        put(footer - 2, &(18u16 + 2 * 22).to_le_bytes());
        let first = footer - 2;
        put(first - 16, &RESET_BLOCK);
        put(first - 18, &22u16.to_le_bytes());
        put(first - 22, &reset.to_le_bytes());
        let second = first - 22;
        put(second - 16, &METADATA_OFFSET);
        put(second - 18, &22u16.to_le_bytes());
        put(second - 22, &0x1000u32.to_le_bytes());
        let metadata = 0xf000;
        put(metadata, b"ASEV");
        let count = sections.len() as u32;
        for (index, field) in [16 + count * 12, 1, count].iter().enumerate() {
            put(metadata + 4 + index * 4, &field.to_le_bytes());
        }
        for (index, (base, bytes, kind)) in sections.iter().enumerate() {
            for (field, value) in [base, bytes, kind].iter().enumerate() {
                put(metadata + 16 + index * 12 + field * 4, &value.to_le_bytes());
            }
        }
        image
    }

    #[test]
    fn the_sections_of_an_image_come_in_the_order_of_the_table() {
        let image = image(0xffff_f010, &[(0x9000, 0x1000, 2), (0x1000, 0x2000, 1)]);
        let firmware = Firmware::parse(&image).expect("a good image");
        assert_eq!(firmware.reset_address(), 0xffff_f010);
        let sections: Vec<_> = firmware.sections().collect();
        assert_eq!(sections[0].kind, SectionKind::Secrets);
        assert_eq!(sections[1].base, 0x1000);
        assert_eq!(sections.len(), 2);
    }

    #[test]
    fn broken_images_are_refused() {
        let error = |image: &[u8]| Firmware::parse(image).expect_err("must be refused");
        assert_eq!(error(&[]), FirmwareError::Size(0));
        assert_eq!(error(&vec![0; 64 << 10]), FirmwareError::NoTable);
        assert_eq!(error(&image(0, &[])), FirmwareError::NoResetBlock);
        let unknown = image(1, &[(0, 0x1000, 9)]);
        assert_eq!(error(&unknown), FirmwareError::UnknownSection(9));
        let odd = image(1, &[(1, 0x1000, 1)]);
        assert!(matches!(
            error(&odd),
            FirmwareError::UnalignedSection { base: 1, .. }
        ));
        let mut cut = image(1, &[]);
        let length = cut.len() - FOOTER_FROM_END - 2;
        cut[length] = 3;
        assert_eq!(error(&cut), FirmwareError::BrokenTable);
    }
}
