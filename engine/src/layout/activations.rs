//! Activations in the form that meets packed weights: small integers with an integer scale for each block.
//!
//! A block's scale is `mantissa * 2^exponent` with one exponent for the vector: the largest block's mantissa has 15
//! bits, those of smaller blocks fewer. What a small block loses by that is less than a hundredth of what rounding the
//! largest one's numbers to 8 bits loses. Quants are those of ggml, so that results can be compared with engines that
//! follow it: [`Rule::Block`] is its Q8_0 and [`Rule::Super`] its Q8_K.

use super::{BLOCK, SUPER_BLOCK};
use crate::simd::Kernels;
use crate::wiped::fit;
use crate::workers::{Workers, split_columns};
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
/// Bits of the largest mantissa.
const MANTISSA_BITS: u32 = 15;

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
    /// `[tokens][columns / 32]`: 8 times the sum of 32 columns, which fits: 8 * 32 * 127 = 32,512.
    pub(crate) eights: Vec<i16>,
    /// `[tokens][columns / 32]`: the same, negative: where 32-bit sums of weights with zero point 8 begin.
    pub(crate) zeros: Vec<i32>,
    /// `[tokens][columns / 8]`, for [`Rule::Super`]: -32 times the sum of 8 columns, as `zeros` for zero point 32.
    pub(crate) zeros_of_8: Vec<i32>,
    /// `[tokens][columns / block]`.
    pub(crate) mantissas: Vec<i32>,
    /// `[tokens]`.
    pub(crate) exponents: Vec<i32>,
    /// `[tokens][columns / block]`: scales before they become mantissas.
    scales: Vec<f32>,
}

/// The parts of [`Activations`] that belong to one token.
#[derive(Debug)]
pub(crate) struct TokenMut<'a> {
    x: &'a [f32],
    quants: &'a mut [i8],
    wide: &'a mut [i16],
    pair_sums: &'a mut [[i16; 2]],
    eights: &'a mut [i16],
    zeros: &'a mut [i32],
    zeros_of_8: &'a mut [i32],
    mantissas: &'a mut [i32],
    exponent: &'a mut i32,
    scales: &'a mut [f32],
}

impl Activations {
    /// Makes room for `tokens` vectors of `columns` under `rule`, in the memory of earlier use if it suffices.
    fn reset(&mut self, rule: Rule, tokens: usize, columns: usize) {
        self.rule = Some(rule);
        self.tokens = tokens;
        self.columns = columns;
        let count = tokens * columns;
        let (narrow, wide) = if rule == Rule::Wide {
            (0, count)
        } else {
            (count, 0)
        };
        let eighths = if rule == Rule::Super { count / 8 } else { 0 };
        fit(&mut self.quants, narrow);
        fit(&mut self.wide, wide);
        fit(&mut self.pair_sums, narrow / 16);
        fit(&mut self.eights, narrow / BLOCK);
        fit(&mut self.zeros, narrow / BLOCK);
        fit(&mut self.zeros_of_8, eighths);
        fit(&mut self.mantissas, count / rule.block());
        fit(&mut self.scales, count / rule.block());
        fit(&mut self.exponents, tokens);
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

    /// Quantizes `tokens` vectors, `x[tokens][columns]`; workers share the vectors.
    ///
    /// A block that holds an infinity or no number counts as zeros.
    ///
    /// # Panics
    /// When `columns` is not a multiple of the rule's block or `x` has another length.
    pub fn quantize(
        &mut self,
        kernels: &Kernels,
        workers: &dyn Workers,
        rule: Rule,
        x: &[f32],
        tokens: usize,
        columns: usize,
    ) {
        assert!(
            columns.is_multiple_of(rule.block()) && x.len() == tokens * columns,
            "shape of activations"
        );
        self.reset(rule, tokens, columns);
        if tokens == 1 {
            return self
                .tokens_mut(x)
                .for_each(|mut token| (kernels.quantize)(rule, &mut token));
        }
        let mut all: Vec<_> = self.tokens_mut(x).collect();
        split_columns(workers, &mut all, tokens, 1, |_, mut some| {
            for token in some.row(0) {
                (kernels.quantize)(rule, token);
            }
        });
    }

    fn tokens_mut<'a>(&'a mut self, x: &'a [f32]) -> impl Iterator<Item = TokenMut<'a>> {
        let mut quants = parts(&mut self.quants, self.tokens);
        let mut wide = parts(&mut self.wide, self.tokens);
        let mut pair_sums = parts(&mut self.pair_sums, self.tokens);
        let mut eights = parts(&mut self.eights, self.tokens);
        let mut zeros = parts(&mut self.zeros, self.tokens);
        let mut zeros_of_8 = parts(&mut self.zeros_of_8, self.tokens);
        let mut mantissas = parts(&mut self.mantissas, self.tokens);
        let mut scales = parts(&mut self.scales, self.tokens);
        x.chunks_exact(self.columns)
            .zip(&mut self.exponents)
            .map(move |(x, exponent)| TokenMut {
                x,
                quants: quants(),
                wide: wide(),
                pair_sums: pair_sums(),
                eights: eights(),
                zeros: zeros(),
                zeros_of_8: zeros_of_8(),
                mantissas: mantissas(),
                exponent,
                scales: scales(),
            })
    }
}

/// Gives a vector's part for each token, one after the other.
fn parts<'a, T>(vector: &'a mut [T], tokens: usize) -> impl FnMut() -> &'a mut [T] {
    let length = vector.len() / tokens.max(1);
    let mut rest = vector;
    move || {
        let (part, behind) = core::mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        part
    }
}

impl TokenMut<'_> {
    /// Quantizes the vector. `largest` gives the bits of the largest magnitude of a block, more than infinity's if one
    /// is no number; `round` writes `x * inverse`, rounded to nearest even.
    #[inline(always)]
    pub(crate) fn quantize(
        &mut self,
        rule: Rule,
        largest: impl Fn(&[f32]) -> u32,
        round: impl Fn(&[f32], f32, &mut [i8]),
    ) {
        for (block, x) in self.x.chunks_exact(rule.block()).enumerate() {
            let (inverse, scale) = block_scale(rule, largest(x));
            self.scales[block] = scale;
            let range = block * rule.block()..(block + 1) * rule.block();
            match rule {
                Rule::Wide if inverse == 0.0 => self.wide[range].fill(0),
                Rule::Wide => quantize_wide(x, inverse, &mut self.wide[range]),
                _ if inverse == 0.0 => self.quants[range].fill(0),
                _ => round(x, inverse, &mut self.quants[range]),
            }
        }
        *self.exponent = relative_scales(self.scales, self.mantissas);
        if rule != Rule::Wide {
            self.sum();
        }
    }

    /// Sums of the quants, which the kernels need beside them.
    #[inline(always)]
    fn sum(&mut self) {
        let blocks = self.quants.as_chunks::<BLOCK>().0.iter();
        let pairs = self.pair_sums.as_chunks_mut::<2>().0;
        let zeros = self.eights.iter_mut().zip(self.zeros.iter_mut());
        for ((quants, pairs), (eight, zero)) in blocks.zip(pairs).zip(zeros) {
            let mut all = 0;
            for (quants, pair) in quants.as_chunks::<16>().0.iter().zip(pairs) {
                *pair = [0; 2];
                for four in quants.as_chunks::<4>().0 {
                    pair[0] += i16::from(four[0]) + i16::from(four[1]);
                    pair[1] += i16::from(four[2]) + i16::from(four[3]);
                }
                all += pair[0] + pair[1];
            }
            *eight = 8 * all;
            *zero = -i32::from(*eight);
        }
        let eights = self.quants.as_chunks::<8>().0.iter();
        for (quants, zero) in eights.zip(self.zeros_of_8.iter_mut()) {
            *zero = -32 * quants.iter().map(|quant| i32::from(*quant)).sum::<i32>();
        }
    }
}

/// What a block's numbers are multiplied with, and its scale; `largest` is the bits of its largest magnitude.
fn block_scale(rule: Rule, largest: u32) -> (f32, f32) {
    let largest = f32::from_bits(largest);
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
pub(crate) const ROUND: f32 = 12_582_912.0;

fn quantize_wide(x: &[f32], inverse: f32, quants: &mut [i16]) {
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse + ROUND).to_bits() as i16;
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        self.quants.zeroize();
        self.wide.zeroize();
        self.pair_sums.zeroize();
        self.eights.zeroize();
        self.zeros.zeroize();
        self.zeros_of_8.zeroize();
        self.mantissas.zeroize();
        self.scales.zeroize();
    }
}

/// Expresses block scales relative to the largest one; returns the vector's exponent.
fn relative_scales(scales: &[f32], mantissas: &mut [i32]) -> i32 {
    // Scales are positive or zero, so that their bits are ordered as they are.
    let largest = scales.iter().fold(0, |top, scale| scale.to_bits().max(top));
    // [2^e, 2^(e + 1)) becomes 15 bits.
    let exponent = (largest >> 23).cast_signed().max(1) - 127 + 1 - MANTISSA_BITS.cast_signed();
    let limit = (1 << MANTISSA_BITS) - 1;
    for (mantissa, scale) in mantissas.iter_mut().zip(scales) {
        *mantissa = crate::ops::fixed(*scale, exponent).min(limit);
    }
    exponent
}
