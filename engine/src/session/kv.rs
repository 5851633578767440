//! Keys and values of the positions so far, as 16-bit integers with a power-of-two scale for each head and position.
//!
//! Memory comes in segments of 64 positions, so that a short request neither clears nor wipes the whole context's. It
//! is set aside when tokens are queued, and cleared when the first of its positions comes: no step clears much at once.

use super::SessionError;
use crate::layout::TILE_ROWS as LANES;
use crate::ops::{exponent_of, largest, to_integer};
use crate::pack::Config;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Positions in a segment.
pub(super) const SEGMENT: usize = 64;
/// Bits of a key's magnitude.
const KEY_BITS: i32 = 15;
/// Bits of a value's magnitude: 2^11 * the 2^20 to which attention bounds a sum of weights fits 32 bits.
const VALUE_BITS: i32 = 11;

/// One key or value head of 64 positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'k> {
    /// Keys: `[SEGMENT / 16][head_dim / 2][16][2]`; values: `[SEGMENT / 2][head_dim][2]`.
    pub(super) numbers: &'k [i16],
    /// `[SEGMENT]`: the number of position `p` stands for `number * 2^exponents[p]`.
    pub(super) exponents: &'k [i16],
}

/// 64 positions of every layer. Wiped when dropped.
#[derive(Debug)]
struct Segment {
    /// `[layers][kv_heads][SEGMENT / 16][head_dim / 2][16][2]`: sixteen positions side by side, one in each lane, and
    /// products run over pairs of dimensions.
    keys: Vec<i16>,
    /// `[layers][kv_heads][SEGMENT / 2][head_dim][2]`: products run over pairs of positions.
    values: Vec<i16>,
    /// `[layers][kv_heads][SEGMENT]`
    key_exponents: Vec<i16>,
    /// `[layers][kv_heads][SEGMENT]`
    value_exponents: Vec<i16>,
}

impl Segment {
    /// Memory for a segment, with nothing in it.
    fn reserve(config: &Config) -> Result<Self, SessionError> {
        let heads = config.layers * config.kv_heads;
        let numbers = heads * SEGMENT * config.head_dim;
        Ok(Self {
            keys: memory(numbers)?,
            values: memory(numbers)?,
            key_exponents: memory(heads * SEGMENT)?,
            value_exponents: memory(heads * SEGMENT)?,
        })
    }

    /// The same with zeros.
    fn cleared(mut self) -> Self {
        let Self {
            keys,
            values,
            key_exponents,
            value_exponents,
        } = &mut self;
        for numbers in [keys, values, key_exponents, value_exponents] {
            numbers.resize(numbers.capacity(), 0);
        }
        self
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.keys.zeroize();
        self.values.zeroize();
        self.key_exponents.zeroize();
        self.value_exponents.zeroize();
    }
}

fn memory(length: usize) -> Result<Vec<i16>, SessionError> {
    let mut vector = Vec::new();
    let reserved = vector.try_reserve_exact(length);
    reserved.map_err(|_| SessionError::OutOfMemory)?;
    Ok(vector)
}

/// The cache of one session.
#[derive(Debug)]
pub(super) struct KvCache {
    kv_heads: usize,
    head_dim: usize,
    /// Those of the positions so far.
    segments: Vec<Segment>,
    /// Memory for those to come.
    reserved: Vec<Segment>,
}

impl KvCache {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            segments: Vec::new(),
            reserved: Vec::new(),
        }
    }

    /// Bytes of one segment.
    pub(super) fn segment_bytes(config: &Config) -> usize {
        config.layers * config.kv_heads * SEGMENT * (config.head_dim + 1) * 2 * size_of::<i16>()
    }

    /// Sets memory aside for positions below `positions`.
    pub(super) fn grow(&mut self, config: &Config, positions: usize) -> Result<(), SessionError> {
        while (self.segments.len() + self.reserved.len()) * SEGMENT < positions {
            self.reserved.push(Segment::reserve(config)?);
        }
        Ok(())
    }

    /// Stores key and value of all heads at one position, `key[kv_heads * head_dim]` and `value` alike. Positions come
    /// in their order, below those that [`KvCache::grow`] made room for.
    pub(super) fn store(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let (head_dim, kv_heads) = (self.head_dim, self.kv_heads);
        let at = position % SEGMENT;
        if position / SEGMENT == self.segments.len() {
            self.segments
                .extend(self.reserved.pop().map(Segment::cleared));
        }
        let segment = &mut self.segments[position / SEGMENT];
        let heads = key
            .chunks_exact(head_dim)
            .zip(value.chunks_exact(head_dim))
            .enumerate();
        for (head, (key, value)) in heads {
            let head = layer * kv_heads + head;
            let start = head * SEGMENT * head_dim;
            let keys = &mut segment.keys[start + at / LANES * LANES * head_dim..];
            let keys = keys.as_chunks_mut::<2>().0.iter_mut().skip(at % LANES);
            let keys = keys.step_by(LANES).flatten();
            segment.key_exponents[head * SEGMENT + at] = quantize(key, KEY_BITS, keys);
            let values = &mut segment.values[start + at / 2 * 2 * head_dim..][..2 * head_dim];
            let values = values.iter_mut().skip(at % 2).step_by(2);
            segment.value_exponents[head * SEGMENT + at] = quantize(value, VALUE_BITS, values);
        }
    }

    /// The keys of one head, segment by segment.
    pub(super) fn keys(&self, layer: usize, head: usize) -> impl Iterator<Item = Head<'_>> + Clone {
        let head = layer * self.kv_heads + head;
        let numbers = SEGMENT * self.head_dim;
        self.segments.iter().map(move |segment| Head {
            numbers: &segment.keys[head * numbers..][..numbers],
            exponents: &segment.key_exponents[head * SEGMENT..][..SEGMENT],
        })
    }

    /// The values of one head, segment by segment.
    pub(super) fn values(
        &self,
        layer: usize,
        head: usize,
    ) -> impl Iterator<Item = Head<'_>> + Clone {
        let head = layer * self.kv_heads + head;
        let numbers = SEGMENT * self.head_dim;
        self.segments.iter().map(move |segment| Head {
            numbers: &segment.values[head * numbers..][..numbers],
            exponents: &segment.value_exponents[head * SEGMENT..][..SEGMENT],
        })
    }
}

/// Writes `x / 2^exponent`, rounded to magnitudes below `2^bits`; returns the exponent.
fn quantize<'o>(x: &[f32], bits: i32, out: impl Iterator<Item = &'o mut i16>) -> i16 {
    let exponent = exponent_of(largest(x)) + 1 - bits;
    let limit = (1 << bits) - 1;
    for (out, x) in out.zip(x) {
        *out = to_integer(*x, -exponent).clamp(-limit, limit) as i16;
    }
    exponent as i16
}
