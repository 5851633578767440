//! Which guest-physical addresses are memory, and where their private contents lie.
//!
//! A page has two backings. The shared one is QEMU's memory at the same address, so that QEMU's
//! devices reach shared pages and nothing else. The private one lies in memory that the guest does
//! not know of. A wrong C-bit is therefore visible as wrong data.

use crate::page::{LARGE_PAGE_BYTES, PAGE_BYTES};

/// Firmware images end here.
pub const ROM_END: u64 = 1 << 32;
/// L0 puts the private backing of the guest's pages at this host address.
pub const BACKING: u64 = 0x1_0600_0000;
/// The window of the legacy video card is no memory.
const VIDEO: core::ops::Range<u64> = 0xa_0000..0xc_0000;

/// The guest's memory: RAM from 0, and the firmware image below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    ram_bytes: u64,
    rom_bytes: u64,
    backing: u64,
}

impl MemoryMap {
    /// A map with its private backing at a host address that is a multiple of 2 MiB. `None` if a
    /// size is not made of pages, RAM reaches the ROM, or the address is not aligned.
    pub fn new(ram_bytes: u64, rom_bytes: u64, backing: u64) -> Option<Self> {
        let whole = ram_bytes.is_multiple_of(PAGE_BYTES) && rom_bytes.is_multiple_of(PAGE_BYTES);
        let apart = ram_bytes.checked_add(rom_bytes)? <= ROM_END;
        (whole && apart && backing.is_multiple_of(LARGE_PAGE_BYTES)).then_some(Self {
            ram_bytes,
            rom_bytes,
            backing,
        })
    }

    /// First address of the firmware image.
    pub fn rom_base(&self) -> u64 {
        ROM_END - self.rom_bytes
    }

    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// Number of pages of RAM and ROM together.
    pub fn pages(&self) -> usize {
        ((self.ram_bytes + self.rom_bytes) / PAGE_BYTES) as usize
    }

    /// The number of the page at an address, if there is memory.
    pub fn index(&self, gpa: u64) -> Option<usize> {
        if gpa < self.ram_bytes && !VIDEO.contains(&gpa) {
            return Some((gpa / PAGE_BYTES) as usize);
        }
        let in_rom = (self.rom_base()..ROM_END).contains(&gpa);
        in_rom.then(|| ((self.ram_bytes + gpa - self.rom_base()) / PAGE_BYTES) as usize)
    }

    /// Host address of an address's private backing. Guest and host address are equal modulo 2 MiB.
    pub fn private(&self, gpa: u64) -> Option<u64> {
        self.index(gpa)?;
        if gpa < self.ram_bytes {
            return Some(self.backing + gpa);
        }
        Some(self.backing_end() - (ROM_END - gpa))
    }

    /// End of the private backing.
    pub fn backing_end(&self) -> u64 {
        self.backing
            + self.ram_bytes.next_multiple_of(LARGE_PAGE_BYTES)
            + self.rom_bytes.next_multiple_of(LARGE_PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_and_rom_have_backings_of_their_own() {
        let map = MemoryMap::new(64 << 20, 0x5_0000, 1 << 33).expect("a good map");
        assert_eq!(map.private(0x123_4000), Some((1 << 33) + 0x123_4000));
        assert_eq!(map.private(0xb_8000), None);
        assert_eq!(map.index(64 << 20), None);
        let rom = map
            .private(ROM_END - 0x5_0000)
            .expect("the image's first page");
        assert_eq!(
            rom % LARGE_PAGE_BYTES,
            (ROM_END - 0x5_0000) % LARGE_PAGE_BYTES
        );
        assert!(rom >= (1 << 33) + (64 << 20));
        assert_eq!(map.private(ROM_END - 1), Some(map.backing_end() - 1));
        assert_eq!(map.index(ROM_END - 1), Some(map.pages() - 1));
        assert!(MemoryMap::new(ROM_END, PAGE_BYTES, 0).is_none());
    }
}
