//! The head on its own: what a loader knows before the body has arrived.

use super::PackError;
use super::format::{
    CHUNK_BYTES, DIGEST_BYTES, FIXED_BYTES, Fixed, ROOT_DOMAIN, TENSOR_ENTRY_BYTES,
};
use alloc::vec::Vec;
use core::ops::Range;
use sha2::{Digest, Sha256};

/// A head whose root was checked: the digests in it can be trusted as much as the root.
#[derive(Debug, Clone)]
pub struct Head {
    head_bytes: usize,
    pack_bytes: u64,
    digests: Vec<[u8; DIGEST_BYTES]>,
}

impl Head {
    /// Checks that `bytes` is exactly the head that `root` names, then reads it.
    ///
    /// # Errors
    /// [`PackError::Root`] for any other bytes; the other errors only for a root that was made for invalid bytes.
    pub fn parse(bytes: &[u8], root: &[u8; 32]) -> Result<Self, PackError> {
        if Self::root_of(bytes) != *root {
            return Err(PackError::Root);
        }
        let fixed = Fixed::parse(bytes)?;
        if fixed.head_bytes != bytes.len() {
            return Err(PackError::Size);
        }
        let first = FIXED_BYTES + fixed.tensors * TENSOR_ENTRY_BYTES;
        let table = bytes
            .get(first..first + fixed.chunks * DIGEST_BYTES)
            .ok_or(PackError::Truncated)?;
        let digests = table.as_chunks::<DIGEST_BYTES>().0.to_vec();
        Ok(Self {
            head_bytes: fixed.head_bytes,
            pack_bytes: fixed.pack_bytes,
            digests,
        })
    }

    /// The root that names these head bytes.
    pub fn root_of(head: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(ROOT_DOMAIN)
            .chain_update(head)
            .finalize()
            .into()
    }

    /// Bytes of the head, a whole number of pages.
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Bytes of the whole file, a whole number of pages.
    pub fn pack_bytes(&self) -> u64 {
        self.pack_bytes
    }

    /// Number of chunks of the body.
    pub fn chunks(&self) -> usize {
        self.digests.len()
    }

    /// Bytes of the file that chunk `index` covers; empty for an index that does not exist.
    pub fn chunk_range(&self, index: usize) -> Range<u64> {
        if index >= self.digests.len() {
            return self.pack_bytes..self.pack_bytes;
        }
        let start = self.head_bytes as u64 + index as u64 * CHUNK_BYTES as u64;
        start..(start + CHUNK_BYTES as u64).min(self.pack_bytes)
    }

    /// Checks the bytes of one chunk.
    ///
    /// # Errors
    /// [`PackError::Chunk`] when they are not the bytes that were packed, or no chunk has this index.
    pub fn check_chunk(&self, index: usize, bytes: &[u8]) -> Result<(), PackError> {
        let range = self.chunk_range(index);
        let length_ok = !bytes.is_empty() && bytes.len() as u64 == range.end - range.start;
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(bytes).into();
        match self.digests.get(index) {
            Some(expected) if length_ok && *expected == digest => Ok(()),
            _ => Err(PackError::Chunk { index }),
        }
    }
}
