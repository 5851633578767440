//! Activations in the form that meets packed weights: small integers with an integer scale for each block.
//!
//! A block's scale is `mantissa * 2^exponent` with one exponent for the vector: the largest block's mantissa has 15
//! bits, those of smaller blocks fewer. What a small block loses by that is less than a hundredth of what rounding the
//! largest one's numbers to 8 bits loses. Under [`Rule::Block`] two neighbours have an exponent of their own.
//!
//! Blocks are those of ggml, so that results can be compared with engines that follow it: [`Rule::Block`] has those of
//! its Q8_0 and [`Rule::Super`] those of its Q8_K.

use super::{BLOCK, Kind, SUPER_BLOCK, mul_round16};
use crate::ops::{exponent_of, power_of_two, to_integer};
use crate::simd::{Kernels, MAX_BLOCK_TOKENS};
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

/// What the largest magnitude of a block becomes before it is rounded to 127: the finest step whose quants fit 8 bits.
pub const BYTE_MAX: f32 = 127.49;
/// Largest magnitude of a 12-bit quant.
pub const WIDE_MAX: f32 = 2047.0;
/// What sums of 32 bits may be shifted by.
const MAX_SHIFT: i32 = 31;
/// Bits of the largest mantissa.
const MANTISSA_BITS: i32 = 15;
/// Blocks of 32 columns in a super-block.
pub(crate) const PARTS: usize = SUPER_BLOCK / BLOCK;

/// Several tokens' places are a multiple of this: kernels take so many tokens at a time, whose sums do not wait for each
/// other.
pub(crate) const TOKEN_GROUP: usize = 4;

/// A block of tokens' quantized vectors, all with the same number of columns. Wiped when dropped.
///
/// What belongs to the same columns of all tokens lies together. `places` is the number of tokens, if it is more than
/// one rounded up to whole groups of four; places without a token are zeros.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Activations {
    rule: Option<Rule>,
    tokens: usize,
    columns: usize,
    places: usize,
    /// `[columns / 32][places]`, for [`Rule::Block`] and [`Rule::Super`].
    pub(crate) quants: Vec<[i8; BLOCK]>,
    /// `[columns / 32][places]`, for [`Rule::Wide`].
    pub(crate) wide: Vec<[i16; BLOCK]>,
    /// `[columns / 32][places]`: where 16-bit sums of weights with zero point 8 begin, two in one number: -8 times the
    /// sums of the columns at positions 0, 1 (low half) and at 2, 3 (high half) of each four.
    pub(crate) pair_zeros: Vec<i32>,
    /// `[columns / 32][places]`, for [`Rule::Super`]: as `pair_zeros`, for 16 columns and zero point 32.
    pub(crate) pair_zeros_of_16: Vec<[i32; 2]>,
    /// `[columns / 32][places]`: -8 times the sum of 32 columns: where 32-bit sums of weights with zero point 8 begin.
    pub(crate) zeros: Vec<i32>,
    /// `[columns / 32][places]`, for [`Rule::Block`]: the same for zero point 16 and [`Kind::Five`], with what makes the
    /// sum's shift round.
    pub(crate) starts_of_five: Vec<i32>,
    /// The same for zero point 128 and [`Kind::Byte`].
    pub(crate) starts_of_bytes: Vec<i32>,
    /// `[columns / 32][places]`, for [`Rule::Super`]: -32 times the sum of 8 columns, as `zeros` for zero point 32.
    pub(crate) zeros_of_8: Vec<[i32; 4]>,
    /// `[columns / 256][places]`, for [`Rule::Super`]: sums of 32 columns.
    pub(crate) sums: Vec<[i16; PARTS]>,
    /// `[columns / block][places]`, for [`Rule::Super`] and [`Rule::Wide`].
    pub(crate) mantissas: Vec<i32>,
    /// `[columns / 64, rounded up][places]`, for [`Rule::Block`]: mantissas of two blocks, in 16 bits each, the larger one
    /// with all of them; 0 behind the last block.
    pub(crate) factors: Vec<i32>,
    /// The same for what minima are multiplied with: the sum of 32 columns times 8 and the mantissa, divided by 2^15.
    pub(crate) min_factors: Vec<i32>,
    /// By how many bits what has met them is shifted right.
    pub(crate) shifts: Vec<i32>,
    /// `[places]`, of the mantissas.
    exponents: Vec<i32>,
    /// `[columns / block][places]`: scales before they become mantissas.
    scales: Vec<f32>,
}

/// The parts of [`Activations`] that belong to one block of the rule, `[parts of the block][places]`.
#[derive(Debug)]
pub(crate) struct BlockMut<'a> {
    rule: Rule,
    /// `[tokens][columns]`
    x: &'a [f32],
    columns: usize,
    /// Where the block's columns begin.
    start: usize,
    quants: &'a mut [[i8; BLOCK]],
    wide: &'a mut [[i16; BLOCK]],
    pair_zeros: &'a mut [i32],
    pair_zeros_of_16: &'a mut [[i32; 2]],
    zeros: &'a mut [i32],
    zeros_of_8: &'a mut [[i32; 4]],
    sums: &'a mut [[i16; PARTS]],
    scales: &'a mut [f32],
}

impl Activations {
    /// Makes room for `tokens` vectors of `columns` under `rule`, in the memory of earlier use if it suffices.
    fn reset(&mut self, rule: Rule, tokens: usize, columns: usize) {
        self.rule = Some(rule);
        self.tokens = tokens;
        self.columns = columns;
        self.places = if tokens == 1 {
            1
        } else {
            tokens.next_multiple_of(TOKEN_GROUP)
        };
        let parts = columns / BLOCK * self.places;
        let blocks = columns / rule.block() * self.places;
        let pairs = (columns / BLOCK).div_ceil(2) * self.places;
        let only = |wanted: bool, length: usize| if wanted { length } else { 0 };
        fit(&mut self.quants, only(rule != Rule::Wide, parts));
        fit(&mut self.wide, only(rule == Rule::Wide, parts));
        fit(&mut self.pair_zeros, only(rule != Rule::Wide, parts));
        fit(&mut self.pair_zeros_of_16, only(rule == Rule::Super, parts));
        fit(&mut self.zeros, only(rule != Rule::Wide, parts));
        fit(&mut self.starts_of_five, only(rule == Rule::Block, parts));
        fit(&mut self.starts_of_bytes, only(rule == Rule::Block, parts));
        fit(&mut self.zeros_of_8, only(rule == Rule::Super, parts));
        fit(&mut self.sums, only(rule == Rule::Super, blocks));
        fit(&mut self.mantissas, only(rule != Rule::Block, blocks));
        fit(&mut self.factors, only(rule == Rule::Block, pairs));
        fit(&mut self.min_factors, only(rule == Rule::Block, pairs));
        fit(&mut self.shifts, only(rule == Rule::Block, pairs));
        fit(&mut self.scales, blocks);
        fit(&mut self.exponents, self.places);
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

    /// Number of places for tokens.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// Quantizes `tokens` vectors, `x[tokens][columns]`; workers share the columns.
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
        if tokens == 1 || workers.count() == 1 {
            for mut block in self.blocks_mut(rule, x) {
                (kernels.quantize)(&mut block);
            }
        } else {
            let mut blocks: Vec<_> = self.blocks_mut(rule, x).collect();
            let count = blocks.len();
            split_columns(workers, &mut blocks, count, 1, |_, mut some| {
                some.row(0).iter_mut().for_each(kernels.quantize);
            });
        }
        self.relate_scales();
    }

    fn blocks_mut<'a>(
        &'a mut self,
        rule: Rule,
        x: &'a [f32],
    ) -> impl Iterator<Item = BlockMut<'a>> {
        let columns = self.columns;
        let count = columns / rule.block();
        let mut quants = parts(&mut self.quants, count);
        let mut wide = parts(&mut self.wide, count);
        let mut pair_zeros = parts(&mut self.pair_zeros, count);
        let mut pair_zeros_of_16 = parts(&mut self.pair_zeros_of_16, count);
        let mut zeros = parts(&mut self.zeros, count);
        let mut zeros_of_8 = parts(&mut self.zeros_of_8, count);
        let mut sums = parts(&mut self.sums, count);
        let mut scales = parts(&mut self.scales, count);
        (0..count).map(move |block| BlockMut {
            rule,
            x,
            columns,
            start: block * rule.block(),
            quants: quants(),
            wide: wide(),
            pair_zeros: pair_zeros(),
            pair_zeros_of_16: pair_zeros_of_16(),
            zeros: zeros(),
            zeros_of_8: zeros_of_8(),
            sums: sums(),
            scales: scales(),
        })
    }

    /// Expresses each token's block scales relative to its largest one.
    fn relate_scales(&mut self) {
        let mut largest = [0; MAX_BLOCK_TOKENS];
        for scales in self.scales.chunks_exact(self.places) {
            for (top, scale) in largest.iter_mut().zip(scales) {
                // Scales are positive or zero, so that their bits are ordered as they are.
                *top = scale.to_bits().max(*top);
            }
        }
        for (exponent, largest) in self.exponents.iter_mut().zip(largest) {
            // [2^e, 2^(e + 1)) becomes 15 bits.
            *exponent = exponent_of(largest) + 1 - MANTISSA_BITS;
        }
        let blocks = self.mantissas.chunks_exact_mut(self.places);
        for (mantissas, scales) in blocks.zip(self.scales.chunks_exact(self.places)) {
            let tokens = scales.iter().zip(&self.exponents);
            for (mantissa, (scale, exponent)) in mantissas.iter_mut().zip(tokens) {
                *mantissa = self::mantissa(*scale, *exponent);
            }
        }
        if self.rule == Some(Rule::Block) {
            self.pair_blocks();
            self.round_starts();
        }
    }

    /// Sets where sums begin that are shifted afterwards.
    fn round_starts(&mut self) {
        let starts = self.starts_of_five.iter_mut();
        let starts = starts.zip(&mut self.starts_of_bytes);
        for (at, ((five, byte), zero)) in starts.zip(&self.zeros).enumerate() {
            let place = at / self.places % 2;
            *five = 2 * zero + Kind::Five.dot_half(place);
            *byte = 16 * zero + Kind::Byte.dot_half(place);
        }
    }

    /// Sets what two blocks at a time are multiplied with. Each pair has a power of two of its own, so that blocks that are
    /// small beside the vector's largest one lose nothing.
    fn pair_blocks(&mut self) {
        let (places, shift) = (self.places, self.pair_shift());
        let scales = self.scales.chunks(2 * places);
        let blocks = scales.zip(self.zeros.chunks(2 * places));
        for (pair, (scales, zeros)) in blocks.enumerate() {
            for (place, exponent) in self.exponents.iter().enumerate() {
                let tokens = scales.iter().zip(zeros).skip(place).step_by(places);
                let largest = tokens.clone().map(|(scale, _)| scale.to_bits()).max();
                let above = exponent_of(largest.unwrap_or(0)) + 1 - MANTISSA_BITS;
                let below = (exponent - above).min(MAX_SHIFT - shift);
                let mut both = [[0; 2]; 2];
                for (block, (scale, zero)) in tokens.enumerate() {
                    let mantissa = mantissa(scale * power_of_two(below), *exponent) as i16;
                    both[0][block] = mantissa;
                    both[1][block] = mul_round16(-*zero as i16, mantissa);
                }
                let at = pair * places + place;
                [self.factors[at], self.min_factors[at]] = both.map(|pair| two_i16(&pair));
                self.shifts[at] = shift + below;
            }
        }
    }

    /// How far the products of two blocks with a scale for 32 columns are shifted right, at least, so that the sum of a
    /// row's fits 32 bits: by 8 at 16,384 columns.
    fn pair_shift(&self) -> i32 {
        let pairs = (self.columns / BLOCK).div_ceil(2);
        (usize::BITS - (pairs - 1).leading_zeros()).cast_signed()
    }

    /// Mantissa and exponent of a column's scale.
    #[cfg(test)]
    pub(crate) fn scale_of(&self, token: usize, column: usize) -> (i32, i32) {
        let exponent = self.exponents[token];
        let rule = self.rule.expect("activations");
        let block = column / rule.block();
        if rule == Rule::Block {
            let at = block / 2 * self.places + token;
            let mantissa = self.factors[at] >> (16 * (block % 2)) & 0x7fff;
            (mantissa, exponent - (self.shifts[at] - self.pair_shift()))
        } else {
            (self.mantissas[block * self.places + token], exponent)
        }
    }

    /// The exponent of a token's sums, whose products have met mantissas.
    pub(crate) fn exponent(&self, token: usize) -> i32 {
        let shift = match self.rule {
            Some(Rule::Block) => self.pair_shift(),
            _ => 0,
        };
        self.exponents[token] + shift
    }
}

/// A block's scale for an exponent.
fn mantissa(scale: f32, exponent: i32) -> i32 {
    to_integer(scale, -exponent).min((1 << MANTISSA_BITS) - 1)
}

/// Gives the parts of a vector, one after the other.
fn parts<'a, T>(vector: &'a mut [T], count: usize) -> impl FnMut() -> &'a mut [T] {
    let length = vector.len() / count;
    let mut rest = vector;
    move || {
        let (part, behind) = core::mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        part
    }
}

impl BlockMut<'_> {
    /// Quantizes the block of every token. `largest` gives the bits of the largest magnitude, more than infinity's if
    /// one is no number; `round` writes `x * inverse`, rounded to nearest even; `sums` adds quants up.
    #[inline(always)]
    pub(crate) fn quantize(
        &mut self,
        largest: impl Fn(&[f32]) -> u32,
        round: impl Fn(&[f32], f32, &mut [i8; BLOCK]),
        sums: impl Fn(&[i8; BLOCK]) -> QuantSums,
    ) {
        let places = self.scales.len();
        let mut tokens = self.x.chunks_exact(self.columns);
        for place in 0..places {
            let x = tokens.next().map(|x| &x[self.start..][..self.rule.block()]);
            let (inverse, scale) = x.map_or((0.0, 0.0), |x| block_scale(self.rule, largest(x)));
            self.scales[place] = scale;
            for part in 0..self.rule.block() / BLOCK {
                let at = part * places + place;
                // There is something to round where the inverse is not 0.
                let x = x
                    .filter(|_| inverse != 0.0)
                    .map(|x| &x[part * BLOCK..][..BLOCK]);
                match (self.rule, x) {
                    (Rule::Wide, None) => self.wide[at].fill(0),
                    (Rule::Wide, Some(x)) => round_wide(x, inverse, &mut self.wide[at]),
                    (_, None) => self.quants[at].fill(0),
                    (_, Some(x)) => round(x, inverse, &mut self.quants[at]),
                }
            }
        }
        // Not at once: what was just written in pieces cannot be read as a whole before it is in the cache.
        for at in 0..self.quants.len() {
            self.set_sums(at, at % places, at / places, sums(&self.quants[at]));
        }
    }

    /// What the kernels need beside quants.
    #[inline(always)]
    fn set_sums(&mut self, at: usize, place: usize, part: usize, sums: QuantSums) {
        let [first, second] = sums.pairs_of_16;
        let both = [first[0] + second[0], first[1] + second[1]];
        let eight = 8 * (both[0] + both[1]);
        self.pair_zeros[at] = two_i16(&both.map(|sum| -8 * sum));
        self.zeros[at] = -i32::from(eight);
        if self.rule == Rule::Super {
            self.pair_zeros_of_16[at] =
                [first, second].map(|sums| two_i16(&sums.map(|sum| -32 * sum)));
            self.sums[place][part] = both[0] + both[1];
            self.zeros_of_8[at] = sums.of_8.map(|sum| -32 * sum);
        }
    }
}

/// Sums of 32 quants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QuantSums {
    /// Of the first and of the last 16: the sums of those at positions 0, 1 and at 2, 3 of each four.
    pub(crate) pairs_of_16: [[i16; 2]; 2],
    /// Of 8.
    pub(crate) of_8: [i32; 4],
}

impl QuantSums {
    /// The definition.
    pub(crate) fn of(quants: &[i8; BLOCK]) -> Self {
        let mut sums = Self::default();
        for (quants, pair) in quants.as_chunks::<16>().0.iter().zip(&mut sums.pairs_of_16) {
            for four in quants.as_chunks::<4>().0 {
                pair[0] += i16::from(four[0]) + i16::from(four[1]);
                pair[1] += i16::from(four[2]) + i16::from(four[3]);
            }
        }
        for (sum, quants) in sums.of_8.iter_mut().zip(quants.as_chunks::<8>().0) {
            *sum = quants.iter().map(|quant| i32::from(*quant)).sum();
        }
        sums
    }
}

/// The first two numbers as one, the first one low.
pub(crate) fn two_i16(pair: &[i16]) -> i32 {
    i32::from(pair[1]) << 16 | i32::from(pair[0].cast_unsigned())
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

fn round_wide(x: &[f32], inverse: f32, quants: &mut [i16; BLOCK]) {
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse + ROUND).to_bits() as i16;
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        self.quants.zeroize();
        self.wide.zeroize();
        self.pair_zeros.zeroize();
        self.pair_zeros_of_16.zeroize();
        self.sums.zeroize();
        self.zeros.zeroize();
        self.starts_of_five.zeroize();
        self.starts_of_bytes.zeroize();
        self.zeros_of_8.zeroize();
        self.mantissas.zeroize();
        self.factors.zeroize();
        self.shifts.zeroize();
        self.min_factors.zeroize();
        self.exponents.zeroize();
        self.scales.zeroize();
    }
}
