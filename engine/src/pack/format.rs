//! The bytes of a model pack's head: constants, limits, and the two directions of every field.
//!
//! ```text
//! file  = head, body
//! head  = fixed part (256 bytes), tensor table (32 bytes an entry), chunk digests (32 bytes each), zeros
//! body  = tokenizer section, then tensors; each begins on a page
//! chunk = 1 MiB of the body (the last one may be shorter)
//! root  = SHA-256("cloister model pack v1" || head)
//! ```
//!
//! Integers are little-endian. Every length is a whole number of pages, and everything that is not named here is
//! zero, so that one model has exactly one encoding.

use super::{PackError, Role, TensorEntry};
use crate::layout::Encoding;
use alloc::vec::Vec;

/// First bytes of a pack.
pub const MAGIC: [u8; 8] = *b"cloispk4";
/// Unit of alignment of head, sections and tensors.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of the body that one digest covers.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Prefix of the hash that gives the root.
pub const ROOT_DOMAIN: &[u8] = b"cloister model pack v1";
/// Bytes of the fixed part.
pub const FIXED_BYTES: usize = 256;
/// Bytes of one entry of the tensor table.
pub const TENSOR_ENTRY_BYTES: usize = 32;
/// Bytes of one chunk digest (SHA-256).
pub const DIGEST_BYTES: usize = 32;
/// Longest model name in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;
/// Largest head: digests of [`MAX_CHUNKS`] and every tensor of the deepest model fit well inside.
pub const MAX_HEAD_BYTES: usize = 4 << 20;
/// Most chunks in a body, that is 64 GiB.
pub const MAX_CHUNKS: usize = 1 << 16;
/// Most transformer blocks in a model.
pub const MAX_LAYERS: usize = 128;
/// Most tensors in a table: every role once for each layer is far less.
pub const MAX_TENSORS: usize = MAX_LAYERS * 16;
/// Largest number of columns of a matrix; the fixed-point sums of [`crate::layout`] are proved for it.
pub const MAX_COLUMNS: usize = 16_384;
/// Largest number of rows of a matrix.
pub const MAX_ROWS: usize = 1 << 20;
/// Largest head dimension; the integer attention is proved for it.
pub const MAX_HEAD_DIM: usize = 256;
/// Largest context window in tokens.
pub const MAX_CONTEXT_TOKENS: usize = 1 << 20;

/// Shape and constants of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; a multiple of 16.
    pub head_dim: usize,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Longest sequence that the model was trained for, in tokens.
    pub context_tokens: usize,
    /// Base of the rotary position embedding.
    pub rope_base: f32,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f32,
}

impl Config {
    /// Checks every field against the limits of this module.
    pub fn check(&self) -> Result<(), PackError> {
        let sizes_ok = (1..=MAX_COLUMNS).contains(&self.dim)
            && (1..=MAX_COLUMNS).contains(&self.hidden)
            && (1..=MAX_LAYERS).contains(&self.layers)
            && (1..=MAX_COLUMNS).contains(&self.heads)
            && (1..=self.heads).contains(&self.kv_heads)
            && self.heads.is_multiple_of(self.kv_heads)
            && (16..=MAX_HEAD_DIM).contains(&self.head_dim)
            && self.head_dim.is_multiple_of(16)
            && self.heads * self.head_dim <= MAX_COLUMNS
            && (1..=MAX_ROWS).contains(&self.vocabulary)
            && (1..=MAX_CONTEXT_TOKENS).contains(&self.context_tokens);
        let constants_ok =
            (1.0..=1e12).contains(&self.rope_base) && (0.0..=1.0).contains(&self.norm_epsilon);
        if sizes_ok && constants_ok {
            Ok(())
        } else {
            Err(PackError::Config)
        }
    }
}

/// What the fixed part says, before anything else is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fixed {
    pub(super) head_bytes: usize,
    pub(super) pack_bytes: u64,
    pub(super) chunks: usize,
    pub(super) tensors: usize,
    pub(super) config: Config,
    pub(super) tokenizer_offset: u64,
    pub(super) tokenizer_bytes: u64,
    pub(super) name_bytes: usize,
    pub(super) name: [u8; MAX_NAME_BYTES],
}

/// Reads little-endian fields in order and remembers when it ran out of bytes.
struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(PackError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, PackError> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    fn u32(&mut self) -> Result<u32, PackError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn size(&mut self) -> Result<usize, PackError> {
        usize::try_from(self.u32()?).map_err(|_| PackError::Limit)
    }

    fn u64(&mut self) -> Result<u64, PackError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn f32(&mut self) -> Result<f32, PackError> {
        Ok(f32::from_le_bytes(self.bytes()?))
    }
}

impl Fixed {
    /// Reads the first [`FIXED_BYTES`] and checks what can be checked without the rest.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PackError> {
        let bytes = bytes.get(..FIXED_BYTES).ok_or(PackError::Truncated)?;
        let mut fields = Fields { rest: bytes };
        if fields.bytes::<8>()? != MAGIC {
            return Err(PackError::Magic);
        }
        let head_bytes = fields.size()?;
        let chunks = fields.size()?;
        let pack_bytes = fields.u64()?;
        let tensors = fields.size()?;
        let name_bytes = fields.size()?;
        let tokenizer_offset = fields.u64()?;
        let tokenizer_bytes = fields.u64()?;
        let config = Config {
            dim: fields.size()?,
            hidden: fields.size()?,
            layers: fields.size()?,
            heads: fields.size()?,
            kv_heads: fields.size()?,
            head_dim: fields.size()?,
            vocabulary: fields.size()?,
            context_tokens: fields.size()?,
            rope_base: fields.f32()?,
            norm_epsilon: fields.f32()?,
        };
        let name = fields.bytes::<MAX_NAME_BYTES>()?;
        if fields.rest.iter().any(|&byte| byte != 0) {
            return Err(PackError::Padding);
        }
        let fixed = Self {
            head_bytes,
            pack_bytes,
            chunks,
            tensors,
            config,
            tokenizer_offset,
            tokenizer_bytes,
            name_bytes,
            name,
        };
        fixed.check()?;
        Ok(fixed)
    }

    fn check(&self) -> Result<(), PackError> {
        if self.chunks > MAX_CHUNKS
            || self.tensors > MAX_TENSORS
            || self.head_bytes > MAX_HEAD_BYTES
        {
            return Err(PackError::Limit);
        }
        if self.name_bytes > MAX_NAME_BYTES
            || self.name[self.name_bytes..].iter().any(|&byte| byte != 0)
        {
            return Err(PackError::Name);
        }
        self.config.check()?;
        if self.head_bytes != head_bytes(self.tensors, self.chunks) {
            return Err(PackError::Size);
        }
        let body = self
            .pack_bytes
            .checked_sub(self.head_bytes as u64)
            .ok_or(PackError::Size)?;
        if body % PAGE_BYTES as u64 != 0 || body.div_ceil(CHUNK_BYTES as u64) != self.chunks as u64
        {
            return Err(PackError::Size);
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.head_bytes);
        let size = |value: usize| (value as u32).to_le_bytes();
        out.extend(MAGIC);
        out.extend(size(self.head_bytes));
        out.extend(size(self.chunks));
        out.extend(self.pack_bytes.to_le_bytes());
        out.extend(size(self.tensors));
        out.extend(size(self.name_bytes));
        out.extend(self.tokenizer_offset.to_le_bytes());
        out.extend(self.tokenizer_bytes.to_le_bytes());
        let config = &self.config;
        for value in [
            config.dim,
            config.hidden,
            config.layers,
            config.heads,
            config.kv_heads,
            config.head_dim,
        ] {
            out.extend(size(value));
        }
        out.extend(size(config.vocabulary));
        out.extend(size(config.context_tokens));
        out.extend(config.rope_base.to_le_bytes());
        out.extend(config.norm_epsilon.to_le_bytes());
        out.extend(self.name);
        out.resize(FIXED_BYTES, 0);
        out
    }
}

/// Bytes of a head with so many tensors and chunks, a whole number of pages.
pub(super) fn head_bytes(tensors: usize, chunks: usize) -> usize {
    (FIXED_BYTES + tensors * TENSOR_ENTRY_BYTES + chunks * DIGEST_BYTES)
        .next_multiple_of(PAGE_BYTES)
}

/// Reads one entry of the tensor table; bounds against the file are the caller's.
pub(super) fn parse_entry(bytes: &[u8]) -> Result<TensorEntry, PackError> {
    let mut fields = Fields { rest: bytes };
    let role = Role::from_code(fields.u16()?).ok_or(PackError::TensorTable)?;
    let layer = usize::from(fields.u16()?);
    let encoding = Encoding::from_code(fields.u32()?).ok_or(PackError::TensorTable)?;
    let rows = fields.size()?;
    let columns = fields.size()?;
    let offset = fields.u64()?;
    let bytes = fields.u64()?;
    Ok(TensorEntry {
        role,
        layer,
        encoding,
        rows,
        columns,
        offset,
        bytes,
    })
}

pub(super) fn encode_entry(entry: &TensorEntry, out: &mut Vec<u8>) {
    out.extend((entry.role as u16).to_le_bytes());
    out.extend((entry.layer as u16).to_le_bytes());
    out.extend(entry.encoding.code().to_le_bytes());
    out.extend((entry.rows as u32).to_le_bytes());
    out.extend((entry.columns as u32).to_le_bytes());
    out.extend(entry.offset.to_le_bytes());
    out.extend(entry.bytes.to_le_bytes());
}
