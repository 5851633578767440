//! The heap: what RAM is left, in a few areas, first fit.
//!
//! Every block is wiped when it is given back, so that nothing of a request outlives it: not in the
//! old place of a vector that grew, nor in a type of some crate that does not wipe itself.

use super::PhysRange;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};
use linked_list_allocator::Heap as Area;
use spin::Mutex;

/// Most separate ranges of RAM in the heap.
const AREAS_MAX: usize = 8;

/// The guest's one heap.
#[cfg_attr(feature = "guest", global_allocator)]
pub static HEAP: KernelHeap = KernelHeap::new();

/// Bytes that are allocated.
pub fn used_bytes() -> usize {
    HEAP.sum(Area::used)
}

/// Bytes that are not allocated.
pub fn free_bytes() -> usize {
    HEAP.sum(Area::free)
}

/// An allocator over several ranges of RAM.
pub struct KernelHeap {
    areas: Mutex<Areas>,
    /// Size of the last request if it found no room, else 0.
    failed: AtomicUsize,
}

struct Areas {
    areas: [Area; AREAS_MAX],
    count: usize,
}

impl KernelHeap {
    const fn new() -> Self {
        let areas = Areas {
            areas: [const { Area::empty() }; AREAS_MAX],
            count: 0,
        };
        Self {
            areas: Mutex::new(areas),
            failed: AtomicUsize::new(0),
        }
    }

    /// Adds RAM. Ranges that are too many are left unused; the caller adds the largest first.
    ///
    /// # Safety
    /// `range` is mapped readable and writable at its physical address for ever, and nothing else
    /// refers to it.
    pub unsafe fn add(&self, range: PhysRange) {
        let mut areas = self.areas.lock();
        let count = areas.count;
        if let Some(area) = areas.areas.get_mut(count) {
            let start = ptr::with_exposed_provenance_mut(range.start().as_u64() as usize);
            // SAFETY: the caller vouches for the memory; the area is fresh.
            unsafe { area.init(start, range.len() as usize) };
            areas.count += 1;
        }
    }

    /// Size in bytes of the last request, if there was no room for it.
    pub fn failed_request(&self) -> Option<usize> {
        Some(self.failed.load(Ordering::Relaxed)).filter(|&bytes| bytes != 0)
    }

    fn sum(&self, figure: impl Fn(&Area) -> usize) -> usize {
        let areas = self.areas.lock();
        areas.areas[..areas.count].iter().map(figure).sum()
    }
}

// SAFETY: 1. Each area hands out disjoint, aligned blocks of memory that nobody else uses (`add`).
// 2. A block goes back to the area that holds its address. 3. The lock serializes all calls, and no
// exception handler allocates.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut areas = self.areas.lock();
        let count = areas.count;
        let block = areas.areas[..count]
            .iter_mut()
            .find_map(|area| area.allocate_first_fit(layout).ok());
        let failed = if block.is_some() { 0 } else { layout.size() };
        self.failed.store(failed, Ordering::Relaxed);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut areas = self.areas.lock();
        let count = areas.count;
        let holds = |area: &&mut Area| (area.bottom()..area.top()).contains(&block);
        if let (Some(area), Some(block)) = (
            areas.areas[..count].iter_mut().find(holds),
            NonNull::new(block),
        ) {
            // SAFETY: the caller got the block from `alloc` with this layout, and the area holds it.
            unsafe {
                block.write_bytes(0, layout.size());
                // Whoever looks at memory from outside counts as a reader: the write must happen.
                core::hint::black_box(block);
                area.deallocate(block, layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::PhysAddr;

    fn add(heap: &KernelHeap, bytes: usize) {
        let memory = vec![0_u64; bytes / 8].leak();
        let start = PhysAddr::new(memory.as_mut_ptr().expose_provenance() as u64);
        // SAFETY: the leaked vector is used by nothing else.
        unsafe { heap.add(PhysRange::from_len(start, bytes as u64).unwrap()) };
    }

    #[test]
    fn areas_are_used_in_turn_and_blocks_come_back() {
        let heap = KernelHeap::new();
        add(&heap, 1 << 16);
        add(&heap, 1 << 14);
        let free = heap.sum(Area::free);
        let layout = Layout::from_size_align(12 << 10, 64).unwrap();
        // SAFETY: the layout is not empty.
        let blocks: Vec<_> = (0..6).map(|_| unsafe { heap.alloc(layout) }).collect();
        assert!(
            blocks
                .iter()
                .all(|block| !block.is_null() && block.is_aligned_to_64())
        );
        assert_eq!(heap.failed_request(), None);
        // SAFETY: as above.
        assert!(unsafe { heap.alloc(layout) }.is_null());
        assert_eq!(heap.failed_request(), Some(12 << 10));
        for block in blocks {
            // SAFETY: each block came from `alloc` with this layout and is given back once.
            unsafe { heap.dealloc(block, layout) };
        }
        assert_eq!(heap.sum(Area::free), free);
        assert_eq!(heap.sum(Area::used), 0);
    }

    #[test]
    fn a_block_that_is_given_back_is_wiped() {
        let heap = KernelHeap::new();
        add(&heap, 1 << 16);
        let layout = Layout::from_size_align(1 << 12, 8).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { heap.alloc(layout) };
        // SAFETY: the block has so many bytes; it comes from `alloc`, and its memory stays readable.
        let left = unsafe {
            block.write_bytes(0xaa, layout.size());
            heap.dealloc(block, layout);
            core::slice::from_raw_parts(block, layout.size())
        };
        assert!(
            !left.contains(&0xaa),
            "the free list's own words do not look like that"
        );
    }

    trait Aligned {
        fn is_aligned_to_64(&self) -> bool;
    }

    impl Aligned for *mut u8 {
        fn is_aligned_to_64(&self) -> bool {
            self.addr().is_multiple_of(64)
        }
    }

    #[test]
    fn a_heap_without_ram_has_no_room() {
        let heap = KernelHeap::new();
        // SAFETY: the layout is not empty.
        assert!(unsafe { heap.alloc(Layout::new::<u64>()) }.is_null());
    }
}
