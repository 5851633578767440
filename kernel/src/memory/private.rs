//! A range of private RAM with one owner, until it is frozen for readers.

use super::PhysRange;
use core::{ptr, slice};

/// RAM that is filled once and then only read.
pub struct PrivateRegion {
    range: PhysRange,
    bytes: &'static mut [u8],
}

impl PrivateRegion {
    /// Takes RAM over.
    ///
    /// # Safety
    /// `range` is mapped private, readable and writable at its physical address for ever, and
    /// nothing else refers to it.
    pub unsafe fn new(range: PhysRange) -> Self {
        let start = ptr::with_exposed_provenance_mut(range.start().as_u64() as usize);
        // SAFETY: the caller vouches for the memory; any byte is a valid `u8`.
        let bytes = unsafe { slice::from_raw_parts_mut(start, range.len() as usize) };
        Self { range, bytes }
    }

    /// The bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// Where they lie.
    pub fn range(&self) -> PhysRange {
        self.range
    }

    /// Gives up the right to write.
    pub fn into_bytes(self) -> &'static [u8] {
        self.bytes
    }
}
