//! L0's memory: an identity map, and the places above 4 GiB that the guest does not know of.

pub(crate) use cloister_emulator::memory_map::BACKING;
use cloister_emulator::nested::TableMemory;
use cloister_emulator::page::{PAGE_BYTES, Page};
use cloister_emulator::rmp::Entry;
use core::ptr;

/// Pages for nested tables.
const TABLES: core::ops::Range<u64> = 0x1_0100_0000..0x1_0300_0000;
/// The RMP: one byte for each page below 4 GiB.
const RMP: u64 = 0x1_0300_0000;
/// The RMP has room for so many pages.
pub(crate) const RMP_ENTRIES: usize = 1 << 20;
/// A copy of the firmware image.
pub(crate) const FIRMWARE: u64 = 0x1_0400_0000;
/// Bytes for it.
pub(crate) const FIRMWARE_BYTES: u64 = 16 << 20;

/// End of L0's identity map, see `start.s`. Devices with 64-bit windows lie far above memory.
pub(crate) const MAPPED_END: u64 = 2 << 40;

/// The RMP's memory. Panics when called twice.
pub(crate) fn rmp_entries() -> &'static mut [Entry] {
    static TAKEN: spin::Mutex<bool> = spin::Mutex::new(false);
    let mut taken = TAKEN.lock();
    assert!(!*taken, "the RMP has one owner");
    *taken = true;
    // SAFETY: the range is used for nothing else, `TAKEN` hands it out once, and an entry is a byte
    // of which every value is allowed.
    unsafe { core::slice::from_raw_parts_mut(pointer(RMP).cast(), RMP_ENTRIES) }
}

/// The firmware's copy.
pub(crate) fn firmware(bytes: usize) -> &'static [u8] {
    assert!(bytes as u64 <= FIRMWARE_BYTES, "fw_cfg bounds the size");
    // SAFETY: the range is written once by fw_cfg, before this, and used for nothing else.
    unsafe { core::slice::from_raw_parts(pointer(FIRMWARE), bytes) }
}

fn pointer(address: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address as usize)
}

/// Reads guest memory or a device at a host address.
pub(crate) fn read(address: u64, bytes: &mut [u8]) {
    for (offset, byte) in bytes.iter_mut().enumerate() {
        // SAFETY: callers pass addresses of the guest's pages, which hold no Rust object.
        *byte = unsafe { pointer(address + offset as u64).read_volatile() };
    }
}

/// Writes guest memory at a host address.
pub(crate) fn write(address: u64, bytes: &[u8]) {
    for (offset, byte) in bytes.iter().enumerate() {
        // SAFETY: see `read`.
        unsafe { pointer(address + offset as u64).write_volatile(*byte) };
    }
}

/// Copies a page out of guest memory.
pub(crate) fn read_page(address: u64) -> Page {
    let mut page = Page::ZERO;
    // SAFETY: the address is that of one of the guest's pages. Another guest CPU may write at the
    // same time; a mixture of old and new bytes is what the caller then works with.
    unsafe {
        ptr::copy_nonoverlapping(
            pointer(address),
            page.bytes_mut().as_mut_ptr(),
            PAGE_BYTES as usize,
        );
    }
    page
}

/// Copies a page into guest memory.
pub(crate) fn write_page(address: u64, page: &Page) {
    // SAFETY: see `read_page`.
    unsafe {
        ptr::copy_nonoverlapping(page.bytes().as_ptr(), pointer(address), PAGE_BYTES as usize);
    }
}

/// Reads an eight-byte word of guest memory or tables.
pub(crate) fn read_u64(address: u64) -> u64 {
    // SAFETY: see `read`; callers pass multiples of eight.
    unsafe { pointer(address).cast::<u64>().read_volatile() }
}

/// Reads a device's register with one access of 1, 2, 4 or 8 bytes; otherwise byte by byte.
pub(crate) fn read_device(address: u64, bytes: &mut [u8]) {
    let register = pointer(address);
    // SAFETY: the address is not one of memory: a device of QEMU answers, or nothing does.
    unsafe {
        match bytes.len() {
            2 => bytes.copy_from_slice(&register.cast::<u16>().read_volatile().to_le_bytes()),
            4 => bytes.copy_from_slice(&register.cast::<u32>().read_volatile().to_le_bytes()),
            8 => bytes.copy_from_slice(&register.cast::<u64>().read_volatile().to_le_bytes()),
            _ => read(address, bytes),
        }
    }
}

/// Writes a device's register with one access of 1, 2, 4 or 8 bytes; otherwise byte by byte.
pub(crate) fn write_device(address: u64, bytes: &[u8]) {
    let register = pointer(address);
    let word = |count: usize| {
        let mut word = [0; 8];
        word[..count].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    // SAFETY: see `read_device`.
    unsafe {
        match bytes.len() {
            2 => register.cast::<u16>().write_volatile(word(2) as u16),
            4 => register.cast::<u32>().write_volatile(word(4) as u32),
            8 => register.cast::<u64>().write_volatile(word(8)),
            _ => write(address, bytes),
        }
    }
}

/// Whether memory is there: QEMU drops writes where there is none.
pub(crate) fn keeps_what_is_written(address: u64) -> bool {
    const MARK: u64 = 0x5afe_c10f_f1ce_0001;
    write(address, &MARK.to_le_bytes());
    let kept = read_u64(address) == MARK;
    write(address, &[0; 8]);
    kept
}

/// Takes pages for nested tables, one after the other.
#[derive(Debug)]
pub(crate) struct TablePages(u64);

impl TablePages {
    /// All of them. Tables that were made before are forgotten.
    pub(crate) fn new() -> Self {
        Self(TABLES.start)
    }
}

impl TableMemory for TablePages {
    fn allocate(&mut self) -> Option<u64> {
        let page = self.0;
        self.0 = page + PAGE_BYTES;
        (self.0 <= TABLES.end).then(|| {
            write_page(page, &Page::ZERO);
            page
        })
    }

    fn read(&self, address: u64) -> u64 {
        read_u64(address)
    }

    fn write(&mut self, address: u64, entry: u64) {
        // SAFETY: the address lies in a page that `allocate` gave.
        unsafe { pointer(address).cast::<u64>().write_volatile(entry) };
    }
}
