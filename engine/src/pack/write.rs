//! Makes a pack's head from its parts. The body is the caller's: it may be streamed, as long as it is laid out as
//! [`Plan`] says.

use super::format::{
    CHUNK_BYTES, Config, DIGEST_BYTES, Fixed, MAX_CHUNKS, MAX_NAME_BYTES, MAX_TENSORS, PAGE_BYTES,
    encode_entry, head_bytes,
};
use super::{PackError, Role, TensorEntry};
use crate::layout::Encoding;
use alloc::vec::Vec;

/// A tensor before it has a place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorSpec {
    /// What it is for.
    pub role: Role,
    /// Transformer block, 0 for tensors outside the blocks.
    pub layer: usize,
    /// How its numbers are stored.
    pub encoding: Encoding,
    /// Rows (outputs); 1 for a vector.
    pub rows: usize,
    /// Columns (inputs).
    pub columns: usize,
}

/// Where everything goes. The body holds the tokenizer section and then the tensors in the order of
/// [`Plan::entries`], each padded with zeros to whole pages.
#[derive(Debug, Clone)]
pub struct Plan {
    fixed: Fixed,
    entries: Vec<TensorEntry>,
}

impl Plan {
    /// Sorts the tensors into file order and gives each its place.
    ///
    /// # Errors
    /// A [`PackError`] for a name, constant, count or shape that no pack may have.
    pub fn new(
        config: Config,
        name: &str,
        tokenizer_bytes: usize,
        tensors: &[TensorSpec],
    ) -> Result<Self, PackError> {
        config.check()?;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(PackError::Name);
        }
        if tensors.len() > MAX_TENSORS {
            return Err(PackError::Limit);
        }
        let mut sorted = tensors.to_vec();
        sorted.sort_by_key(|spec| (spec.layer, spec.role));
        let mut body = pages(tokenizer_bytes as u64);
        let mut entries = Vec::with_capacity(sorted.len());
        for spec in &sorted {
            let bytes = spec
                .encoding
                .bytes(spec.rows, spec.columns)
                .ok_or(PackError::TensorTable)? as u64;
            let TensorSpec {
                role,
                layer,
                encoding,
                rows,
                columns,
            } = *spec;
            // The offset is relative to the body until the head's length is known.
            entries.push(TensorEntry {
                role,
                layer,
                encoding,
                rows,
                columns,
                offset: body,
                bytes,
            });
            body += pages(bytes);
        }
        let chunks =
            usize::try_from(body.div_ceil(CHUNK_BYTES as u64)).map_err(|_| PackError::Limit)?;
        if chunks > MAX_CHUNKS {
            return Err(PackError::Limit);
        }
        let head_bytes = head_bytes(entries.len(), chunks);
        for entry in &mut entries {
            entry.offset += head_bytes as u64;
        }
        let mut name_field = [0; MAX_NAME_BYTES];
        name_field[..name.len()].copy_from_slice(name.as_bytes());
        let fixed = Fixed {
            head_bytes,
            pack_bytes: head_bytes as u64 + body,
            chunks,
            tensors: entries.len(),
            config,
            tokenizer_offset: head_bytes as u64,
            tokenizer_bytes: tokenizer_bytes as u64,
            name_bytes: name.len(),
            name: name_field,
        };
        Ok(Self { fixed, entries })
    }

    /// Every tensor with its place, in file order.
    pub fn entries(&self) -> &[TensorEntry] {
        &self.entries
    }

    /// Bytes of the head, where the body begins.
    pub fn head_bytes(&self) -> usize {
        self.fixed.head_bytes
    }

    /// Bytes of the whole file.
    pub fn pack_bytes(&self) -> u64 {
        self.fixed.pack_bytes
    }

    /// Number of chunk digests that [`Plan::head`] needs.
    pub fn chunks(&self) -> usize {
        self.fixed.chunks
    }

    /// The head, given the SHA-256 digest of each chunk of the body.
    ///
    /// # Errors
    /// [`PackError::Size`] when the number of digests is not [`Plan::chunks`].
    pub fn head(&self, digests: &[[u8; DIGEST_BYTES]]) -> Result<Vec<u8>, PackError> {
        if digests.len() != self.fixed.chunks {
            return Err(PackError::Size);
        }
        let mut head = self.fixed.encode();
        for entry in &self.entries {
            encode_entry(entry, &mut head);
        }
        head.extend(digests.iter().flatten());
        head.resize(self.fixed.head_bytes, 0);
        Ok(head)
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES as u64)
}
