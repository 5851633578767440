//! Memory that the host can read and write: one pool of bounce buffers, made shared once.
//!
//! No Rust reference ever points into it. Bytes go in and out by volatile copies, so that a value
//! that was checked is the value that is used.

use super::{PAGE_BYTES, PhysAddr, PhysRange};
use core::ptr::NonNull;
use spin::{Mutex, Once};

/// Most pages that a pool can manage (16 MiB). All tests of a process share one pool, and each leaks some of it.
pub const POOL_MAX_PAGES: usize = if cfg!(test) { 16_384 } else { 4096 };

const PAGE: usize = PAGE_BYTES as usize;
const WORDS: usize = POOL_MAX_PAGES / 64;

/// The shared pages and which of them are in use.
pub struct SharedPool {
    base: NonNull<u8>,
    phys: PhysAddr,
    pages: usize,
    in_use: Mutex<InUse>,
}

struct InUse {
    allocated: Bitmap,
    /// Allocated pages that no [`SharedBuffer`] owns; a subset of `allocated`.
    leaked: Bitmap,
}

// SAFETY: the pool only hands out disjoint page runs, under a lock; the pointer is used for
// volatile accesses alone.
unsafe impl Send for SharedPool {}
// SAFETY: as above.
unsafe impl Sync for SharedPool {}

/// Whole pages of the pool, owned. Dropping it gives them back.
pub struct SharedBuffer {
    pool: &'static SharedPool,
    first: usize,
    pages: usize,
}

/// An access beyond the end of a [`SharedBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

static POOL: Once<SharedPool> = Once::new();

/// The guest's one pool.
///
/// # Panics
/// If memory was not set up yet: the kernel does that before any driver starts.
pub fn pool() -> &'static SharedPool {
    POOL.get()
        .expect("the shared pool is made before any driver starts")
}

/// Installs the guest's one pool.
#[cfg_attr(
    not(any(test, feature = "guest")),
    expect(dead_code, reason = "only the guest has such memory")
)]
pub(crate) fn install(pool: SharedPool) -> &'static SharedPool {
    POOL.call_once(|| pool)
}

impl SharedPool {
    /// Takes over memory that the host can already reach.
    ///
    /// # Safety
    /// 1. `base` is valid for reads and writes of `range.len()` bytes for the rest of the program
    ///    and is where `range` is mapped.
    /// 2. Nothing else reads or writes that memory, apart from devices.
    ///
    /// # Panics
    /// If the range is not made of whole pages or has more than [`POOL_MAX_PAGES`] of them.
    pub unsafe fn new(base: NonNull<u8>, range: PhysRange) -> Self {
        let pages = (range.len() / PAGE_BYTES) as usize;
        assert!(
            range.is_aligned(PAGE_BYTES) && pages <= POOL_MAX_PAGES,
            "a pool of whole pages"
        );
        Self {
            base,
            phys: range.start(),
            pages,
            in_use: Mutex::new(InUse {
                allocated: Bitmap::new(),
                leaked: Bitmap::new(),
            }),
        }
    }

    /// A pool over ordinary memory, for tests on the host. Physical and virtual addresses are equal.
    #[cfg(test)]
    pub(crate) fn for_tests(pages: usize) -> &'static Self {
        let memory = vec![0_u8; (pages + 1) * PAGE].leak();
        let start = (memory.as_mut_ptr().expose_provenance() as u64).next_multiple_of(PAGE_BYTES);
        let range = PhysRange::from_len(PhysAddr::new(start), (pages * PAGE) as u64);
        let base = NonNull::new(core::ptr::with_exposed_provenance_mut(start as usize));
        // SAFETY: the leaked vector is valid for ever, holds the aligned range, and is used by
        // nothing else.
        let pool = unsafe { Self::new(base.expect("not null"), range.expect("no wrap")) };
        std::boxed::Box::leak(std::boxed::Box::new(pool))
    }

    /// `pages` zeroed pages in a row, or `None` if the pool has no such run (or `pages` is 0).
    pub fn allocate(&'static self, pages: usize) -> Option<SharedBuffer> {
        let first = {
            let mut in_use = self.in_use.lock();
            let first = in_use.allocated.find_clear_run(pages, self.pages)?;
            in_use.allocated.set(first, pages, true);
            first
        };
        let buffer = SharedBuffer {
            pool: self,
            first,
            pages,
        };
        buffer.zero();
        Some(buffer)
    }

    /// Takes back a buffer that [`SharedBuffer::leak`] gave away; `None` unless exactly such pages
    /// start at `phys`.
    pub fn reclaim(&'static self, phys: PhysAddr, pages: usize) -> Option<SharedBuffer> {
        let offset = phys.as_u64().checked_sub(self.phys.as_u64())?;
        if !offset.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        let first = usize::try_from(offset / PAGE_BYTES).ok()?;
        if pages == 0 || first.checked_add(pages)? > self.pages {
            return None;
        }
        let mut in_use = self.in_use.lock();
        if !(first..first + pages).all(|page| in_use.leaked.get(page)) {
            return None;
        }
        in_use.leaked.set(first, pages, false);
        Some(SharedBuffer {
            pool: self,
            first,
            pages,
        })
    }

    /// Pages that are not in use.
    pub fn free_pages(&self) -> usize {
        let in_use = self.in_use.lock();
        (0..self.pages)
            .filter(|&page| !in_use.allocated.get(page))
            .count()
    }

    /// All of the pool's memory.
    pub fn range(&self) -> PhysRange {
        PhysRange::from_len(self.phys, (self.pages * PAGE) as u64)
            .expect("checked when the pool was made")
    }
}

impl SharedBuffer {
    /// Where devices find the buffer.
    pub fn phys(&self) -> PhysAddr {
        PhysAddr::new(self.pool.phys.as_u64() + (self.first * PAGE) as u64)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.pages * PAGE
    }

    /// Always false: a buffer has at least one page.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The buffer's first byte, for a driver that does volatile accesses of its own. It must not
    /// be made a reference, and is dangling once the buffer is dropped.
    pub fn as_ptr(&self) -> NonNull<u8> {
        // SAFETY: the pages lie inside the pool's memory, so the sum stays in one allocation.
        unsafe { self.pool.base.add(self.first * PAGE) }
    }

    /// Copies private bytes into the buffer.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let target = self.at(offset, bytes.len())?;
        let mut words = bytes.chunks_exact(8);
        let mut at = 0;
        for word in &mut words {
            let value = u64::from_ne_bytes(word.try_into().expect("chunks of 8"));
            // SAFETY: `at` checked `offset..offset + len` against the buffer; `at + 8 <= len`.
            // The access may be misaligned, so it goes through a type of alignment 1.
            unsafe {
                target
                    .add(at)
                    .cast::<Unaligned>()
                    .write_volatile(Unaligned(value))
            };
            at += 8;
        }
        for &byte in words.remainder() {
            // SAFETY: as above, one byte.
            unsafe { target.add(at).write_volatile(byte) };
            at += 1;
        }
        Ok(())
    }

    /// Copies bytes out of the buffer into private memory.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let source = self.at(offset, bytes.len())?;
        let mut words = bytes.chunks_exact_mut(8);
        let mut at = 0;
        for word in &mut words {
            // SAFETY: as in `write`; any bit pattern is a valid `u64`.
            let value = unsafe { source.add(at).cast::<Unaligned>().read_volatile() };
            word.copy_from_slice(&{ value.0 }.to_ne_bytes());
            at += 8;
        }
        for byte in words.into_remainder() {
            // SAFETY: as above, one byte.
            *byte = unsafe { source.add(at).read_volatile() };
            at += 1;
        }
        Ok(())
    }

    /// Reads `N` bytes.
    pub fn read_array<const N: usize>(&self, offset: usize) -> Result<[u8; N], OutOfBounds> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Overwrites the buffer with zeros.
    pub fn zero(&self) {
        let start = self.as_ptr().cast::<u64>();
        for word in 0..self.len() / 8 {
            // SAFETY: the buffer is page-aligned and `word` counts the 8-byte words inside it.
            unsafe { start.add(word).write_volatile(0) };
        }
    }

    /// Gives the buffer away to a device; [`SharedPool::reclaim`] brings it back.
    pub fn leak(self) -> PhysAddr {
        self.pool
            .in_use
            .lock()
            .leaked
            .set(self.first, self.pages, true);
        let phys = self.phys();
        core::mem::forget(self);
        phys
    }

    fn at(&self, offset: usize, bytes: usize) -> Result<*mut u8, OutOfBounds> {
        match offset.checked_add(bytes) {
            // SAFETY: `offset` is at most the buffer's length.
            Some(end) if end <= self.len() => Ok(unsafe { self.as_ptr().as_ptr().add(offset) }),
            _ => Err(OutOfBounds),
        }
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        self.pool
            .in_use
            .lock()
            .allocated
            .set(self.first, self.pages, false);
    }
}

/// A word at any address: its alignment is 1.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned(u64);

struct Bitmap([u64; WORDS]);

impl Bitmap {
    const fn new() -> Self {
        Self([0; WORDS])
    }

    fn get(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn set(&mut self, first: usize, count: usize, value: bool) {
        for bit in first..first + count {
            let mask = 1 << (bit % 64);
            if value {
                self.0[bit / 64] |= mask
            } else {
                self.0[bit / 64] &= !mask
            }
        }
    }

    /// The first of `count` clear bits in a row below `end`.
    fn find_clear_run(&self, count: usize, end: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let mut run = 0;
        for bit in 0..end {
            run = if self.get(bit) { 0 } else { run + 1 };
            if run == count {
                return Some(bit + 1 - count);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_come_back() {
        let pool = SharedPool::for_tests(8);
        let a = pool.allocate(3).unwrap();
        let b = pool.allocate(5).unwrap();
        assert!(pool.allocate(1).is_none());
        assert_eq!(b.phys().as_u64() - a.phys().as_u64(), 3 * PAGE_BYTES);
        drop(a);
        assert_eq!(pool.free_pages(), 3);
        assert!(pool.allocate(4).is_none());
        drop(b);
        assert!(pool.allocate(8).is_some());
        assert!(pool.allocate(9).is_none());
        assert!(pool.allocate(0).is_none());
    }

    #[test]
    fn copies_are_exact_at_every_offset_and_length() {
        let pool = SharedPool::for_tests(1);
        let buffer = pool.allocate(1).unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        for offset in [0, 1, 7, 8, 4000] {
            for length in 0..=64 {
                buffer.zero();
                buffer.write(offset, &bytes[..length]).unwrap();
                let mut back = vec![0xff; length + 1];
                buffer.read(offset, &mut back).unwrap();
                assert_eq!(back[..length], bytes[..length]);
                assert_eq!(back[length], 0);
            }
        }
    }

    #[test]
    fn accesses_outside_are_refused() {
        let pool = SharedPool::for_tests(2);
        let buffer = pool.allocate(1).unwrap();
        assert_eq!(buffer.write(PAGE - 3, &[0; 4]), Err(OutOfBounds));
        assert_eq!(buffer.write(usize::MAX, &[0; 4]), Err(OutOfBounds));
        assert_eq!(buffer.read(PAGE + 1, &mut []), Err(OutOfBounds));
        assert_eq!(buffer.read_array::<4>(PAGE - 4), Ok([0; 4]));
    }

    #[test]
    fn only_leaked_pages_are_reclaimed() {
        let pool = SharedPool::for_tests(4);
        let kept = pool.allocate(1).unwrap();
        assert!(pool.reclaim(kept.phys(), 1).is_none());
        let phys = pool.allocate(2).unwrap().leak();
        assert!(pool.reclaim(phys, 3).is_none());
        assert!(pool.reclaim(PhysAddr::new(phys.as_u64() + 1), 1).is_none());
        let back = pool.reclaim(phys, 2).unwrap();
        assert!(pool.reclaim(phys, 2).is_none());
        drop(back);
        drop(kept);
        assert_eq!(pool.free_pages(), 4);
    }
}
