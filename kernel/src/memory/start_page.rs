//! The page below 1 MiB from which other processors begin on a machine without memory encryption.

use super::PhysRange;
use core::ptr;

/// Copies code to the beginning of the page.
///
/// # Safety
/// `page` is mapped writable at its physical address, and nothing refers to it. (It is never executed under page tables.)
///
/// # Panics
/// If the code is longer than the page.
pub unsafe fn place(page: PhysRange, code: &[u8]) {
    assert!(code.len() as u64 <= page.len(), "the code fits the page");
    let start = ptr::with_exposed_provenance_mut::<u8>(page.start().as_u64() as usize);
    for (offset, byte) in code.iter().enumerate() {
        // SAFETY: the offset lies in the page, for which the caller vouches. Another processor reads it: volatile.
        unsafe { start.add(offset).write_volatile(*byte) };
    }
}
