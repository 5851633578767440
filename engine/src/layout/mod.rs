//! How matrices lie in memory: tiles of sixteen rows, made for integer dot products without horizontal sums.
//!
//! A matrix of `rows x columns` is a run of tiles. A tile holds sixteen rows (the last one may be padded with zero
//! rows); inside, columns come in blocks of 32, and a block's quants come in eight *groups* of four columns. Group
//! `g` is 64 bytes, a cache line and the widest vector: byte `4 * r + c` belongs to row `r`, column `4 * g + c`.
//! Multiplying it with four broadcast activations gives one sum for each row in its own 32-bit lane (`VPDPBUSD`), and
//! the groups of a block are the rows of a tile register (`TDPBUSD`). A kernel with narrower vectors takes half of
//! the rows at a time.
//!
//! ```text
//! tile    = exponents (16 x i16 of the scales, 16 x i16 of the minima or fraction bits of the offsets),
//!           scales (16 x i16 for each block), minima (the same, for kinds that have them),
//!           sub-scales and sub-minima (kinds with super-blocks), quants of all blocks
//! nibbles = 256 bytes: line j holds the low 4 bits of group j in its low nibbles, of group j + 4 in its high ones
//! ```
//!
//! Every part is a whole number of cache lines. Sub-scales and sub-minima of 4-bit super-blocks lie in pairs of
//! neighbours: for each two blocks of 32 columns, 16 rows of two bytes, so that one multiply-add of pairs takes both.
//!
//! A weight is `quant * scale * 2^exponent (+ min * 2^min_exponent)`: scales are integers relative to a power of two
//! for each row. In super-blocks of 4 bits, a minimum is counted in scales, so that a sum meets one scale and not two:
//! a weight is `(subscale * (quant - 8) + offset / 2^bits) * scale * 2^exponent`, see `offset`. With activations of the
//! same form (see [`activations`]) a whole dot product is integer arithmetic, the same bit for bit on every processor,
//! and one conversion to f32 at its end.
//!
//! # Scales for 32 columns
//! With a scale for so few columns, exact products of 64 bits took 24 multiplications beside 64 useful ones; what
//! follows takes 8. A block's sum is shifted right until it fits 16 bits (`Kind::dot_shift`), scale times mantissa is rounded to 16 bits (`mul_round16`), and the
//! products of two blocks are added in 32 bits (`VPMADDWD`) and shifted right, so that a row's fit. What is lost is far
//! below what rounding activations to 8 bits loses: sums of some thousands have a step of 16 at most, and factors have
//! 15 bits for the larger one of two blocks' activations.
//!
//! # Why no sum overflows
//! With a scale for 32 columns, for two blocks, before and after they meet their 16-bit factors (below 2^15):
//!
//! | kind | sum of a block | shifted | two products, and 256 of them at 16,384 columns, each shifted by 8 or more |
//! |---|---|---|---|
//! | 4 bits, zero point 8 | 8 * 127 * 32 = 32,512 | 32,512 | 2 * 32,512 * (2^15 - 1) < 2^31 |
//! | 5 bits | 16 * 127 * 32 = 65,024 | 32,512 | the same |
//! | 8 bits | 128 * 127 * 32 = 520,192 | 32,512 | the same |
//! | minima, whose factor is 8 times the sum of activations, at most 32,512, times the mantissa | | | the same |
//!
//! For one block of another kind let `p` be the bound of the integer dot product, `w = scale * mantissa` with
//! `|scale| < 2^15`, `mantissa < 2^15`, so `|w| < 2^30`. Sums are i64 over `n` blocks:
//!
//! | kind | p | n at 16,384 columns | bits of `p * w * n` |
//! |---|---|---|---|
//! | 256 columns, 4 bits | 8 * 63 * 127 * 256 < 2^24, offsets 2^11 * 127 * 256 < 2^26 | 2^6 | 63, and below: together `p < 0.63 * 2^27` |
//! | 256 columns, 6 bits | 32 * 128 * 127 * 256 < 2^27 | 2^6 | 63, and below: 127 < 2^7 leaves `p < 0.993 * 2^27` |
//! | 32 columns, 14 bits | 8191 * 2047 * 32 < 2^29 | 2^9 | 59, because `w` is shifted right by 9 here |
//!
//! Scales of a pack that was not made by [`encode`] may be larger; sums then wrap, which gives wrong numbers and
//! nothing worse.

pub mod activations;
pub mod encode;
mod rows;

#[cfg(test)]
mod tests;

pub use rows::row_to_f32;
pub(crate) use rows::{block_quants, i16_at, pair_index, subscales};

/// Rows in a tile.
pub const TILE_ROWS: usize = 16;
/// Columns in a block.
pub const BLOCK: usize = 32;
/// Columns in a super-block.
pub const SUPER_BLOCK: usize = 256;
/// Fraction bits of [`mul_round16`].
pub(crate) const ROUND_SHIFT: u32 = 15;
/// How far the combined scale of a [`Kind::Wide`] block is shifted right, so that sums fit.
pub(crate) const WIDE_SHIFT: u32 = 9;
/// Bytes of a tile's exponents.
pub(crate) const EXPONENT_BYTES: usize = 4 * TILE_ROWS;
/// Bytes of a group: four columns of every row.
pub(crate) const GROUP_BYTES: usize = 4 * TILE_ROWS;
/// Bytes of the low four bits of a block of 32 columns.
pub(crate) const NIBBLE_BYTES: usize = 4 * GROUP_BYTES;

/// Fraction bits that offsets of [`Kind::NibbleSuper`] may have: a row has as many as fit all of its offsets.
pub(crate) const OFFSET_BITS: core::ops::RangeInclusive<i16> = 4..=6;

/// What is added to `subscale * (quant - 8)` in a block of [`Kind::NibbleSuper`], with `bits` fraction bits: 8 times the
/// sub-scale, and sub-minimum times `ratio / 64`, rounded. The ratio is that of minimum and scale, with the same
/// fraction bits and 6 more. Wraps in 16 bits, which happens in no tile that [`encode`] has made.
pub(crate) fn offset(subscale: u8, submin: u8, ratio: i16, bits: i16) -> i16 {
    let eights = i32::from(subscale) << (3 + bits);
    let min = mul_round16(ratio, i16::from(submin) << 9);
    (eights + i32::from(min)) as i16
}

/// `a * b / 2^15`, rounded to nearest (`VPMULHRSW`). Wraps where both are -2^15.
pub(crate) fn mul_round16(a: i16, b: i16) -> i16 {
    let product = i32::from(a) * i32::from(b);
    (((product >> (ROUND_SHIFT - 1)) + 1) >> 1) as i16
}

/// How the weights of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// 4 bits, zero point 8, a scale for 32 columns (GGUF Q4_0).
    Nibble = 1,
    /// 4 bits, zero point 8, a scale and a minimum for 32 columns (GGUF Q4_1, whose minimum is for zero point 0).
    NibbleMin = 2,
    /// 5 bits, zero point 16, a scale for 32 columns (GGUF Q5_0).
    Five = 3,
    /// 8 bits, zero point 128, a scale for 32 columns (GGUF Q8_0).
    Byte = 4,
    /// 4 bits, zero point 8; scale and minimum for 256 columns, each times a 6-bit integer for 32 columns (GGUF Q4_K).
    NibbleSuper = 5,
    /// 6 bits, zero point 32; a scale for 256 columns times an 8-bit integer for 16 columns (GGUF Q6_K).
    SixSuper = 6,
    /// 14 bits, signed, a scale for 32 columns; activations have 12 bits (GGUF F32, F16 and BF16).
    Wide = 7,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Nibble,
        Self::NibbleMin,
        Self::Five,
        Self::Byte,
        Self::NibbleSuper,
        Self::SixSuper,
        Self::Wide,
    ];

    /// Columns that share a scale; the number of columns of a matrix is a multiple of it.
    pub const fn block(self) -> usize {
        match self {
            Self::NibbleSuper | Self::SixSuper => SUPER_BLOCK,
            _ => BLOCK,
        }
    }

    /// True for kinds with a minimum beside the scale.
    pub const fn has_min(self) -> bool {
        matches!(self, Self::NibbleMin | Self::NibbleSuper)
    }

    /// Bytes of the quants of 16 rows x 32 columns.
    pub const fn quant_bytes(self) -> usize {
        match self {
            Self::Nibble | Self::NibbleMin | Self::NibbleSuper => NIBBLE_BYTES,
            Self::Five => NIBBLE_BYTES + GROUP_BYTES,
            Self::SixSuper => NIBBLE_BYTES + 2 * GROUP_BYTES,
            Self::Byte => 8 * GROUP_BYTES,
            Self::Wide => 16 * GROUP_BYTES,
        }
    }

    /// Bytes of the sub-scales of 16 rows x one super-block.
    pub const fn subscale_bytes(self) -> usize {
        match self {
            Self::NibbleSuper => 8 * TILE_ROWS,
            Self::SixSuper => 16 * TILE_ROWS,
            _ => 0,
        }
    }

    /// Bytes of the sub-minima of 16 rows x one super-block.
    pub const fn submin_bytes(self) -> usize {
        match self {
            Self::NibbleSuper => 8 * TILE_ROWS,
            _ => 0,
        }
    }

    /// How activations that meet this kind are quantized.
    pub const fn rule(self) -> activations::Rule {
        match self {
            Self::NibbleSuper | Self::SixSuper => activations::Rule::Super,
            Self::Wide => activations::Rule::Wide,
            _ => activations::Rule::Block,
        }
    }

    /// Bytes of one tile, a multiple of 64; `None` unless `columns` is a multiple of [`Kind::block`].
    pub const fn tile_bytes(self, columns: usize) -> Option<usize> {
        if columns == 0 || !columns.is_multiple_of(self.block()) {
            return None;
        }
        Some(Spans::of(self, columns).quants_end)
    }

    /// By how many bits a sum of 32 columns is shifted right, rounded to nearest, so that it fits 16 bits; for kinds with
    /// a scale for 32 columns and activations of 8 bits.
    pub(crate) const fn dot_shift(self) -> u32 {
        match self {
            Self::Five => 1,
            Self::Byte => 4,
            _ => 0,
        }
    }

    /// What makes the shift by [`Kind::dot_shift`] round in the first (0) and in the second (1) of two blocks: halves go
    /// up in the one and down in the other, since scales may all be positive and a row's errors would add up.
    pub(crate) const fn dot_half(self, place: usize) -> i32 {
        match self.dot_shift() {
            0 => 0,
            shift => (1 << (shift - 1)) - (place as i32),
        }
    }

    /// True where sums of minima meet a scale of their own.
    pub(crate) const fn sums_minima(self) -> bool {
        matches!(self, Self::NibbleMin)
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }
}

/// How a tensor of a pack is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A vector of little-endian f32.
    F32,
    /// A matrix in tiles.
    Tiles(Kind),
}

impl Encoding {
    /// The number that stands for it in a pack.
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Tiles(kind) => kind as u32,
        }
    }

    /// The inverse of [`Encoding::code`].
    pub fn from_code(code: u32) -> Option<Self> {
        if code == 0 {
            Some(Self::F32)
        } else {
            Kind::from_code(code).map(Self::Tiles)
        }
    }

    /// Bytes of a tensor, `None` for shapes that this encoding cannot have.
    pub fn bytes(self, rows: usize, columns: usize) -> Option<usize> {
        match self {
            Self::F32 if rows == 1 => columns.checked_mul(size_of::<f32>()),
            Self::F32 => None,
            Self::Tiles(kind) => kind
                .tile_bytes(columns)?
                .checked_mul(rows.div_ceil(TILE_ROWS)),
        }
    }
}

/// Where the parts of a tile end, in bytes from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    pub(crate) scales_end: usize,
    pub(crate) mins_end: usize,
    pub(crate) subscales_end: usize,
    pub(crate) submins_end: usize,
    pub(crate) quants_end: usize,
}

impl Spans {
    pub(crate) const fn of(kind: Kind, columns: usize) -> Self {
        let blocks = columns / kind.block();
        let scale_bytes = (blocks * TILE_ROWS * 2).next_multiple_of(GROUP_BYTES);
        let scales_end = EXPONENT_BYTES + scale_bytes;
        let mins_end = scales_end + if kind.has_min() { scale_bytes } else { 0 };
        let subscales_end = mins_end + blocks * kind.subscale_bytes();
        let submins_end = subscales_end + blocks * kind.submin_bytes();
        let quants_end = submins_end + columns / BLOCK * kind.quant_bytes();
        Self {
            scales_end,
            mins_end,
            subscales_end,
            submins_end,
            quants_end,
        }
    }
}

/// The parts of one tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile<'p> {
    exponents: &'p [u8],
    /// 16 x i16 for each block.
    pub(crate) scales: &'p [u8],
    /// 16 x i16 for each block, or nothing.
    pub(crate) mins: &'p [u8],
    pub(crate) subscales: &'p [u8],
    pub(crate) submins: &'p [u8],
    pub(crate) quants: &'p [u8],
}

impl Tile<'_> {
    /// Exponents of the scales and of the minima, by row; for these, [`Kind::NibbleSuper`] has [`Tile::offset_bits`].
    pub(crate) fn exponents(&self) -> [[i16; TILE_ROWS]; 2] {
        let mut exponents = [[0; TILE_ROWS]; 2];
        let all = exponents.as_flattened_mut().iter_mut();
        for (exponent, bytes) in all.zip(self.exponents.as_chunks::<2>().0) {
            *exponent = i16::from_le_bytes(*bytes);
        }
        exponents
    }
}

impl Tile<'_> {
    /// Fraction bits of the offsets, by row: within [`OFFSET_BITS`], whatever the tile says.
    pub(crate) fn offset_bits(&self) -> [i16; TILE_ROWS] {
        let [_, bits] = self.exponents();
        bits.map(|bits| bits.clamp(*OFFSET_BITS.start(), *OFFSET_BITS.end()))
    }
}

/// A matrix of a pack: `rows` outputs of `columns` inputs.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'p> {
    kind: Kind,
    rows: usize,
    columns: usize,
    tile_bytes: usize,
    data: &'p [u8],
}

impl<'p> Matrix<'p> {
    /// A matrix over packed bytes; `None` when their number does not fit the shape.
    pub fn new(kind: Kind, rows: usize, columns: usize, data: &'p [u8]) -> Option<Self> {
        let tile_bytes = kind.tile_bytes(columns)?;
        let expected = tile_bytes.checked_mul(rows.div_ceil(TILE_ROWS))?;
        (expected == data.len() && columns <= crate::pack::format::MAX_COLUMNS).then_some(Self {
            kind,
            rows,
            columns,
            tile_bytes,
            data,
        })
    }

    /// How the weights are stored.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of tiles.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// The parts of tile `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Matrix::tiles`].
    pub(crate) fn tile(&self, index: usize) -> Tile<'p> {
        let bytes = &self.data[index * self.tile_bytes..][..self.tile_bytes];
        let spans = Spans::of(self.kind, self.columns);
        Tile {
            exponents: &bytes[..EXPONENT_BYTES],
            scales: &bytes[EXPONENT_BYTES..spans.scales_end],
            mins: &bytes[spans.scales_end..spans.mins_end],
            subscales: &bytes[spans.mins_end..spans.subscales_end],
            submins: &bytes[spans.subscales_end..spans.submins_end],
            quants: &bytes[spans.submins_end..spans.quants_end],
        }
    }
}
