//! Naming what an edk2 firmware is known to do wrong under SNP.
//!
//! Modules of the early phases run where they lie in a firmware volume, so the file around an
//! instruction names its module (UEFI platform initialization specification, volume 3, 3.2.3).

/// Modules of the early phases are shorter than this.
const MAX_FILE_BYTES: u64 = 1 << 20;
const HEADER_BYTES: usize = 24;
/// File types: SEC core, PEI core, PEI module, driver, combined PEI and driver.
const CODE_TYPES: core::ops::RangeInclusive<u8> = 0x03..=0x08;
/// State of a file with valid data, where erased bits are ones.
const DATA_VALID: u8 = 0xf8;

/// A file's GUID as it is stored.
pub type FileGuid = [u8; 16];

/// 222c386d-5abc-4fb4-b124-fbb82488acf4
const PLATFORM_PEI: FileGuid = [
    0x6d, 0x38, 0x2c, 0x22, 0xbc, 0x5a, 0xb4, 0x4f, 0xb1, 0x24, 0xfb, 0xb8, 0x24, 0x88, 0xac, 0xf4,
];

/// The GUID of the file around an address. `read` fills a slice from guest-virtual memory, or says
/// that it cannot.
pub fn file_at(read: impl Fn(u64, &mut [u8]) -> bool, address: u64) -> Option<FileGuid> {
    let lowest = address.saturating_sub(MAX_FILE_BYTES);
    let mut base = address & !7;
    while base > lowest {
        base -= 8;
        let mut header = [0; HEADER_BYTES];
        if !read(base, &mut header) {
            return None;
        }
        let bytes = u32::from_le_bytes([header[20], header[21], header[22], 0]);
        let inside = base + HEADER_BYTES as u64 <= address && address < base + u64::from(bytes);
        if CODE_TYPES.contains(&header[18]) && header[23] == DATA_VALID && inside {
            return header.first_chunk().copied();
        }
    }
    None
}

/// What the guest did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It touched memory that it has not validated, from code in this file.
    Unvalidated(Option<FileGuid>),
    /// It used the beginning of its own image as shared memory.
    SharedImage,
}

/// The name of a deed that is a known bug.
pub fn known_bug(deed: Deed) -> Option<&'static str> {
    match deed {
        Deed::Unvalidated(Some(PLATFORM_PEI)) => Some(
            "OVMF PlatformPei, ReserveEmuVariableNvStore(): writes the variable store before the \
             memory is validated (edk2 pull request 6285, mended in November 2024)",
        ),
        Deed::SharedImage => Some(
            "OVMF flash driver: looks for a flash device at the image's shared address, which an SNP \
             guest does not have (edk2 pull request 6285, mended in November 2024)",
        ),
        Deed::Unvalidated(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_the_file_that_it_lies_in() {
        let mut memory = vec![0xffu8; 0x4000];
        let mut file = |base: usize, guid: FileGuid, bytes: u16| {
            memory[base..base + 16].copy_from_slice(&guid);
            memory[base + 18] = 6;
            memory[base + 20..base + 22].copy_from_slice(&bytes.to_le_bytes());
            memory[base + 22] = 0;
            memory[base + 23] = DATA_VALID;
        };
        file(0x1000, PLATFORM_PEI, 0x1000);
        file(0x2000, [7; 16], 0x100);
        let read = |address: u64, bytes: &mut [u8]| {
            let from = address as usize;
            let found = memory.get(from..from + bytes.len());
            found.map(|found| bytes.copy_from_slice(found)).is_some()
        };
        assert_eq!(file_at(read, 0x1ff0), Some(PLATFORM_PEI));
        assert_eq!(file_at(read, 0x2050), Some([7; 16]));
        assert_eq!(file_at(read, 0x3000), None);
        assert!(known_bug(Deed::Unvalidated(Some(PLATFORM_PEI))).is_some());
        assert!(known_bug(Deed::Unvalidated(None)).is_none());
    }
}
