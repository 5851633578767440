//! Activations in the form that meets packed weights: small integers with an integer scale for each block.
//!
//! A block's scale is `mantissa * 2^(exponent - shift)`: 15 bits of mantissa, one exponent for the vector, and how
//! far the block lies below it. Quants are those of ggml, so that results can be compared with engines that follow it:
//! [`Rule::Block`] is its Q8_0 and [`Rule::Super`] its Q8_K, with scales that keep more of their bits.

use super::{BLOCK, SUPER_BLOCK};
use crate::wiped::fit;
use alloc::vec;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// How a vector is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 8 bits, a scale for 32 columns.
    Block,
    /// 8 bits, a scale for 256 columns.
    Super,
    /// 12 bits, a scale for 32 columns.
    Wide,
}

impl Rule {
    /// Columns that share a scale.
    pub const fn block(self) -> usize {
        match self {
            Self::Super => SUPER_BLOCK,
            Self::Block | Self::Wide => BLOCK,
        }
    }
}

/// Largest magnitude of an 8-bit quant.
pub const BYTE_MAX: f32 = 127.0;
/// Largest magnitude of a 12-bit quant.
pub const WIDE_MAX: f32 = 2047.0;
/// Bits of a scale's mantissa.
const MANTISSA_BITS: u32 = 15;
/// Blocks further than this below the largest one count as zero: `scale * mantissa` has 30 bits.
const MAX_SHIFT: i32 = 30;

/// A block of tokens' quantized vectors, all with the same number of columns. Wiped when dropped.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Activations {
    pub(crate) rule: Option<Rule>,
    pub(crate) tokens: usize,
    pub(crate) columns: usize,
    /// `[tokens][columns]`, for [`Rule::Block`] and [`Rule::Super`].
    pub(crate) quants: Vec<i8>,
    /// `[tokens][columns]`, for [`Rule::Wide`].
    pub(crate) wide: Vec<i16>,
    /// `[tokens][columns / 16]`: for each 16 columns, the sums of those at positions 0, 1 and at 2, 3 of each four.
    /// They take the weights' zero points out of 16-bit lanes without leaving them.
    pub(crate) pair_sums: Vec<[i16; 2]>,
    /// `[tokens][columns / 32]`: sums of 32 columns.
    pub(crate) sums: Vec<i16>,
    /// `[tokens][columns / block]`.
    pub(crate) scales: Vec<Scale>,
    /// `[tokens]`.
    pub(crate) exponents: Vec<i32>,
}

/// Scale of one block relative to its vector: `mantissa >> shift`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) mantissa: i32,
    pub(crate) shift: u32,
}

impl Scale {
    /// `(factor * mantissa) >> shift`, the combined scale of a block of weights and one of activations.
    pub(crate) fn times(self, factor: i16) -> i32 {
        (i32::from(factor) * self.mantissa) >> self.shift
    }
}

impl Activations {
    /// Makes room for `tokens` vectors of `columns` under `rule`, in the memory of earlier use if it suffices.
    fn reset(&mut self, rule: Rule, tokens: usize, columns: usize) {
        self.rule = Some(rule);
        self.tokens = tokens;
        self.columns = columns;
        let (narrow, wide) = if rule == Rule::Wide {
            (0, columns)
        } else {
            (columns, 0)
        };
        fit(&mut self.quants, tokens * narrow);
        fit(&mut self.wide, tokens * wide);
        fit(&mut self.pair_sums, tokens * narrow / 16);
        fit(&mut self.sums, tokens * narrow / BLOCK);
        self.scales
            .resize(tokens * columns / rule.block(), Scale::default());
        self.exponents.resize(tokens, 0);
    }

    /// How they are quantized; `None` before the first use.
    pub fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// Number of vectors.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Length of each vector.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Quantizes `tokens` vectors, `x[tokens][columns]`.
    ///
    /// A block that holds an infinity or no number counts as zeros.
    ///
    /// # Panics
    /// When `columns` is not a multiple of the rule's block or `x` has another length.
    pub fn quantize(&mut self, rule: Rule, x: &[f32], tokens: usize, columns: usize) {
        assert!(
            columns.is_multiple_of(rule.block()) && x.len() == tokens * columns,
            "shape of activations"
        );
        self.reset(rule, tokens, columns);
        let mut scales = vec![0.0; columns / rule.block()];
        for (token, x) in x.chunks_exact(columns).enumerate() {
            for (block, (x, scale)) in x.chunks_exact(rule.block()).zip(&mut scales).enumerate() {
                let start = token * columns + block * rule.block();
                let (inverse, value) = block_scale(rule, x);
                *scale = value;
                if rule == Rule::Wide {
                    quantize_wide(x, inverse, &mut self.wide[start..start + x.len()]);
                } else {
                    quantize_bytes(x, inverse, &mut self.quants[start..start + x.len()]);
                }
            }
            self.finish_token(rule, token, &scales);
        }
        scales.zeroize();
    }

    /// Sums and scales of token `token`, whose quants and block scales (as f32) are already known.
    fn finish_token(&mut self, rule: Rule, token: usize, block_scales: &[f32]) {
        let scales = block_scales.len();
        self.exponents[token] =
            relative_scales(block_scales, &mut self.scales[token * scales..][..scales]);
        if rule == Rule::Wide {
            return;
        }
        let quants = &self.quants[token * self.columns..][..self.columns];
        let pairs = &mut self.pair_sums[token * self.columns / 16..][..self.columns / 16];
        for (quants, pair) in quants.as_chunks::<16>().0.iter().zip(pairs.iter_mut()) {
            *pair = [0; 2];
            for four in quants.as_chunks::<4>().0 {
                pair[0] += i16::from(four[0]) + i16::from(four[1]);
                pair[1] += i16::from(four[2]) + i16::from(four[3]);
            }
        }
        let sums = &mut self.sums[token * self.columns / BLOCK..][..self.columns / BLOCK];
        for (sum, pairs) in sums.iter_mut().zip(pairs.as_chunks::<2>().0) {
            *sum = pairs[0][0] + pairs[0][1] + pairs[1][0] + pairs[1][1];
        }
    }
}

/// What a block's numbers are multiplied with, and its scale.
fn block_scale(rule: Rule, x: &[f32]) -> (f32, f32) {
    // The bits of positive floats are ordered as the floats are: no floating-point comparison is needed.
    let largest = x.iter().fold(0, |largest, x| {
        largest.max((x.to_bits() & 0x7fff_ffff).cast_signed())
    });
    let largest = f32::from_bits(largest.cast_unsigned());
    if largest == 0.0 || !largest.is_finite() {
        return (0.0, 0.0);
    }
    let (inverse, scale) = match rule {
        Rule::Block => (1.0 / (largest / BYTE_MAX), largest / BYTE_MAX),
        Rule::Super => (BYTE_MAX / largest, 1.0 / (BYTE_MAX / largest)),
        Rule::Wide => (WIDE_MAX / largest, largest / WIDE_MAX),
    };
    // The scale of a tiny block has no inverse.
    if inverse.is_finite() && scale.is_finite() {
        (inverse, scale)
    } else {
        (0.0, 0.0)
    }
}

/// Added to a float below 2^22, leaves its nearest integer in the low bits: one addition instead of a conversion
/// with its comparisons, which matters where every float operation is emulated.
const ROUND: f32 = 12_582_912.0;

fn quantize_bytes(x: &[f32], inverse: f32, quants: &mut [i8]) {
    if inverse == 0.0 {
        return quants.fill(0);
    }
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse + ROUND).to_bits() as i8;
    }
}

fn quantize_wide(x: &[f32], inverse: f32, quants: &mut [i16]) {
    if inverse == 0.0 {
        return quants.fill(0);
    }
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse + ROUND).to_bits() as i16;
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        self.quants.zeroize();
        self.wide.zeroize();
        self.pair_sums.zeroize();
        self.sums.zeroize();
    }
}

/// Expresses block scales relative to the largest one; returns the vector's exponent.
fn relative_scales(blocks: &[f32], scales: &mut [Scale]) -> i32 {
    let mut exponents = vec![0; blocks.len()];
    let mut largest = i32::MIN;
    for ((scale, exponent), &block) in scales.iter_mut().zip(&mut exponents).zip(blocks) {
        (scale.mantissa, *exponent) = split(block);
        if scale.mantissa != 0 {
            largest = largest.max(*exponent);
        }
    }
    if largest == i32::MIN {
        return 0;
    }
    for (scale, exponent) in scales.iter_mut().zip(exponents) {
        let shift = largest - exponent;
        if scale.mantissa == 0 || shift > MAX_SHIFT {
            *scale = Scale::default();
        } else {
            scale.shift = shift.unsigned_abs();
        }
    }
    largest
}

/// A positive `value` as `mantissa * 2^exponent` with a mantissa of [`MANTISSA_BITS`], rounded; zero for numbers that
/// are not normal.
fn split(value: f32) -> (i32, i32) {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32;
    if exponent == 0 || exponent == 0xff {
        return (0, 0);
    }
    let drop = 24 - MANTISSA_BITS;
    let full = bits & 0x7f_ffff | 0x80_0000;
    let mut mantissa = (full + (1 << (drop - 1))) >> drop;
    let mut exponent = exponent - 127 - 23 + drop as i32;
    if mantissa >> MANTISSA_BITS != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    (mantissa as i32, exponent)
}
