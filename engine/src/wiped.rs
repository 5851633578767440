//! Buffers that leave no copy of their contents behind.

use alloc::vec::Vec;
use zeroize::Zeroize;

/// Gives `buffer` a length. Contents are unspecified afterwards; a buffer that must move is wiped first.
pub(crate) fn fit<T: Copy + Default + Zeroize>(buffer: &mut Vec<T>, length: usize) {
    if buffer.capacity() < length {
        buffer.zeroize();
        *buffer = Vec::with_capacity(length);
    }
    buffer.resize(length, T::default());
}
