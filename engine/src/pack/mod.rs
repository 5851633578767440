//! The model pack: a model's weights, constants and tokenizer in one file whose head names a digest for each MiB.
//!
//! Three readers, in the order in which a guest needs them: [`Head`] checks the first pages against the root that
//! the image manifest names and then every chunk of the body as it arrives; [`Pack`] finds sections and tensors in
//! the complete file. [`mod@write`] makes the head from its parts.
//!
//! Every byte here comes from a host that may lie: all lengths are bounded and checked before use, and nothing panics.

mod check;
pub mod format;
mod head;
pub mod write;

#[cfg(test)]
mod tests;

pub use format::Config;
pub use head::Head;

use crate::layout::{Encoding, Matrix};
use crate::tokenizer::data::DataError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use format::{FIXED_BYTES, Fixed, MAX_COLUMNS, MAX_ROWS, PAGE_BYTES, TENSOR_ENTRY_BYTES};

/// Why bytes are not a model pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// Fewer bytes than the pack says it has.
    Truncated,
    /// It does not begin as a model pack does.
    Magic,
    /// The head is not the one that the root names.
    Root,
    /// A chunk's bytes are not those that the head names.
    Chunk {
        /// Number of the chunk, from 0.
        index: usize,
    },
    /// A count is above its limit.
    Limit,
    /// Lengths contradict each other.
    Size,
    /// A model constant is out of range.
    Config,
    /// The name is not printable text of at most 64 bytes.
    Name,
    /// Bytes that must be zero are not.
    Padding,
    /// A tensor has an unknown role or encoding, impossible dimensions, or lies outside the file or over another one.
    TensorTable,
    /// A tensor that the model needs is absent or has the wrong shape.
    Tensor {
        /// Which tensor.
        role: Role,
        /// In which transformer block (0 for tensors outside the blocks).
        layer: usize,
    },
    /// The tokenizer section lies outside the file.
    Tokenizer,
    /// The tokenizer section is malformed.
    TokenizerData(DataError),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("model pack is truncated"),
            Self::Magic => f.write_str("not a model pack"),
            Self::Root => f.write_str("model pack is not the one that this image names"),
            Self::Chunk { index } => write!(f, "model pack was altered in chunk {index}"),
            Self::Limit => f.write_str("a count in the model pack is above its limit"),
            Self::Size => f.write_str("lengths in the model pack contradict each other"),
            Self::Config => f.write_str("a model constant in the model pack is out of range"),
            Self::Name => f.write_str("model name in the model pack is not printable text"),
            Self::Padding => f.write_str("padding in the model pack is not zero"),
            Self::TensorTable => {
                f.write_str("an entry of the model pack's tensor table is invalid")
            }
            Self::Tensor { role, layer } => {
                write!(
                    f,
                    "tensor {role:?} of layer {layer} is absent from the model pack or has the wrong shape"
                )
            }
            Self::Tokenizer => f.write_str("tokenizer section of the model pack is out of bounds"),
            Self::TokenizerData(error) => write!(f, "tokenizer of the model pack: {error}"),
        }
    }
}

impl core::error::Error for PackError {}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are the transformer's own")]
pub enum Role {
    TokenEmbedding = 1,
    Output = 2,
    OutputNorm = 3,
    AttentionNorm = 16,
    Query = 17,
    QueryBias = 18,
    Key = 19,
    KeyBias = 20,
    Value = 21,
    ValueBias = 22,
    AttentionOutput = 23,
    FeedForwardNorm = 24,
    Gate = 25,
    Up = 26,
    Down = 27,
}

impl Role {
    /// Every role; those from [`Role::AttentionNorm`] on exist once for each layer.
    pub const ALL: [Self; 15] = [
        Self::TokenEmbedding,
        Self::Output,
        Self::OutputNorm,
        Self::AttentionNorm,
        Self::Query,
        Self::QueryBias,
        Self::Key,
        Self::KeyBias,
        Self::Value,
        Self::ValueBias,
        Self::AttentionOutput,
        Self::FeedForwardNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u16 == code)
    }
}

/// One line of the tensor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorEntry {
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
    /// First byte in the file, a multiple of the page size.
    pub offset: u64,
    /// Length in bytes without padding.
    pub bytes: u64,
}

/// The parts of a complete pack, found and bounded but not hashed: [`Head::check_chunk`] does that.
#[derive(Debug)]
pub struct Pack<'p> {
    config: Config,
    name: &'p str,
    tokenizer: &'p [u8],
    tensors: Vec<(TensorEntry, &'p [u8])>,
}

impl<'p> Pack<'p> {
    /// Reads head and tables of a complete file.
    pub fn open(bytes: &'p [u8]) -> Result<Self, PackError> {
        let fixed = Fixed::parse(bytes)?;
        if bytes.len() as u64 != fixed.pack_bytes {
            return Err(PackError::Truncated);
        }
        let name = bytes.get(name_range(&fixed)).ok_or(PackError::Truncated)?;
        let name = core::str::from_utf8(name).map_err(|_| PackError::Name)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(PackError::Name);
        }
        let table = bytes
            .get(FIXED_BYTES..FIXED_BYTES + fixed.tensors * TENSOR_ENTRY_BYTES)
            .ok_or(PackError::Truncated)?;
        let mut next_free = fixed.head_bytes as u64;
        let tokenizer = section(
            bytes,
            &mut next_free,
            fixed.tokenizer_offset,
            fixed.tokenizer_bytes,
        )
        .ok_or(PackError::Tokenizer)?;
        let mut tensors = Vec::with_capacity(fixed.tensors);
        for line in table.chunks_exact(TENSOR_ENTRY_BYTES) {
            let entry = format::parse_entry(line)?;
            check_entry(&entry, &fixed.config)?;
            let data = section(bytes, &mut next_free, entry.offset, entry.bytes)
                .ok_or(PackError::TensorTable)?;
            tensors.push((entry, data));
        }
        if next_free != fixed.pack_bytes {
            return Err(PackError::Size);
        }
        if !tensors.is_sorted_by(|(a, _), (b, _)| (a.layer, a.role) < (b.layer, b.role)) {
            return Err(PackError::TensorTable);
        }
        Ok(Self {
            config: fixed.config,
            name,
            tokenizer,
            tensors,
        })
    }

    /// Shape and constants of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The model's name: printable, not empty, at most 64 bytes.
    pub fn name(&self) -> &'p str {
        self.name
    }

    /// The tokenizer section, see [`crate::tokenizer`].
    pub fn tokenizer_section(&self) -> &'p [u8] {
        self.tokenizer
    }

    /// The matrix with a role, `None` if the pack has none.
    ///
    /// # Errors
    /// [`PackError::Tensor`] when it exists with another shape or is not a matrix.
    pub fn matrix(
        &self,
        role: Role,
        layer: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Option<Matrix<'p>>, PackError> {
        let Some((entry, data)) = self.find(role, layer) else {
            return Ok(None);
        };
        let wrong = PackError::Tensor { role, layer };
        let Encoding::Tiles(kind) = entry.encoding else {
            return Err(wrong);
        };
        if (entry.rows, entry.columns) != (rows, columns) {
            return Err(wrong);
        }
        Matrix::new(kind, rows, columns, data)
            .ok_or(wrong)
            .map(Some)
    }

    /// The f32 vector with a role, copied out; `None` if the pack has none.
    ///
    /// # Errors
    /// [`PackError::Tensor`] when it exists with another length, is a matrix or holds a number that is not finite.
    pub fn vector(
        &self,
        role: Role,
        layer: usize,
        length: usize,
    ) -> Result<Option<Vec<f32>>, PackError> {
        let Some((entry, data)) = self.find(role, layer) else {
            return Ok(None);
        };
        if entry.encoding != Encoding::F32 || entry.rows != 1 || entry.columns != length {
            return Err(PackError::Tensor { role, layer });
        }
        let values: Vec<f32> = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if values.iter().all(|value| value.is_finite()) {
            Ok(Some(values))
        } else {
            Err(PackError::Tensor { role, layer })
        }
    }

    /// Every tensor's line, in file order.
    pub fn entries(&self) -> impl Iterator<Item = &TensorEntry> {
        self.tensors.iter().map(|(entry, _)| entry)
    }

    fn find(&self, role: Role, layer: usize) -> Option<&(TensorEntry, &'p [u8])> {
        let index = self
            .tensors
            .binary_search_by(|(entry, _)| (entry.layer, entry.role).cmp(&(layer, role)))
            .ok()?;
        self.tensors.get(index)
    }
}

fn name_range(fixed: &Fixed) -> Range<usize> {
    const NAME_OFFSET: usize = 88;
    NAME_OFFSET..NAME_OFFSET + fixed.name_bytes
}

fn check_entry(entry: &TensorEntry, config: &Config) -> Result<(), PackError> {
    let layered = entry.role >= Role::AttentionNorm;
    let layer_ok = if layered {
        entry.layer < config.layers
    } else {
        entry.layer == 0
    };
    let shape_ok =
        (1..=MAX_ROWS).contains(&entry.rows) && (1..=MAX_COLUMNS).contains(&entry.columns);
    let bytes = entry.encoding.bytes(entry.rows, entry.columns);
    if layer_ok && shape_ok && bytes.is_some_and(|bytes| bytes as u64 == entry.bytes) {
        Ok(())
    } else {
        Err(PackError::TensorTable)
    }
}

/// The bytes of one section. Sections follow each other: each begins on the first page boundary after the one
/// before, so that they cannot overlap and leave no gap.
fn section<'p>(bytes: &'p [u8], next_free: &mut u64, offset: u64, length: u64) -> Option<&'p [u8]> {
    if offset != *next_free {
        return None;
    }
    let end = offset.checked_add(length)?;
    let data = bytes.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)?;
    *next_free = end.checked_next_multiple_of(PAGE_BYTES as u64)?;
    Some(data)
}
