//! Memory shared with the host, by volatile access.

use crate::address::{Gfn, PAGE_BYTES};
use crate::hypervisor::SharedMemory;

/// Pages that are mapped as shared (C-bit clear).
#[derive(Debug)]
pub struct SharedPages {
    base: *mut u64,
    first: Gfn,
    pages: usize,
}

impl SharedPages {
    /// Takes `pages` pages over that are mapped at `base` and have the frames from `first` on.
    ///
    /// # Safety
    /// 1. `base` is the first byte of a page, and the pages are mapped readable, writable and as shared, for as long
    ///    as the value lives.
    /// 2. No Rust reference to them exists in that time, and no other value of this type.
    /// 3. `pages` is not zero.
    pub const unsafe fn new(base: *mut u64, first: Gfn, pages: usize) -> Self {
        Self { base, first, pages }
    }

    fn quadword(&self, index: usize) -> *mut u64 {
        assert!(
            index < self.pages * (PAGE_BYTES / 8),
            "the quadword lies in the pages"
        );
        self.base.wrapping_add(index)
    }
}

// SAFETY: the pages belong to this value alone (`new`, condition 2), whichever processor uses it.
unsafe impl Send for SharedPages {}

impl SharedMemory for SharedPages {
    fn gfn(&self) -> Gfn {
        self.first
    }

    fn pages(&self) -> usize {
        self.pages
    }

    fn load(&self, index: usize) -> u64 {
        // SAFETY: the quadword lies in mapped pages (`new`, condition 1), is aligned, and any bits are a `u64`. The
        // host's concurrent writes are the reason for the volatile access.
        unsafe { self.quadword(index).read_volatile() }
    }

    fn store(&mut self, index: usize, value: u64) {
        // SAFETY: as in `load`.
        unsafe { self.quadword(index).write_volatile(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{copy_from_shared, copy_to_shared};

    #[repr(align(4096))]
    struct Pages([u64; 1024]);

    #[test]
    fn reads_back_what_was_written() {
        let mut pages = std::boxed::Box::new(Pages([0; 1024]));
        let base = (&raw mut pages.0).cast();
        // SAFETY: the box lives longer than `shared` and is not used meanwhile.
        let mut shared = unsafe { SharedPages::new(base, Gfn::new(5).unwrap(), 2) };
        copy_to_shared(&mut shared, 511, b"across the pages");
        let mut bytes = [0; 13];
        copy_from_shared(&shared, 511, &mut bytes);
        assert_eq!(&bytes, b"across the pa");
        assert_eq!(shared.load(0), 0);
        assert_eq!(shared.gfn().address(), 0x5000);
    }

    #[test]
    #[should_panic(expected = "lies in the pages")]
    fn beyond_the_last_page_is_a_bug() {
        // SAFETY: never accessed.
        let shared =
            unsafe { SharedPages::new(core::ptr::dangling_mut(), Gfn::new(5).unwrap(), 1) };
        shared.load(512);
    }
}
