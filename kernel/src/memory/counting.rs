//! The allocator of tests: counts what each thread has, so that a test can see what it has not given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

std::thread_local! {
    static USED: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated and not given back.
pub(crate) fn used_bytes() -> usize {
    USED.get()
}

/// A thread that ends has no count any more, and nobody who would ask.
fn count(change: impl Fn(usize) -> usize) {
    let _ = USED.try_with(|used| used.set(change(used.get())));
}

// SAFETY: the system's allocator does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|used| used.wrapping_add(layout.size()));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // What another thread has allocated may be given back here.
        count(|used| used.wrapping_sub(layout.size()));
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[test]
fn what_is_given_back_is_not_counted() {
    let before = used_bytes();
    let bytes = std::vec![0_u8; 12_345];
    assert_eq!(used_bytes(), before + 12_345);
    drop(bytes);
    assert_eq!(used_bytes(), before);
}
