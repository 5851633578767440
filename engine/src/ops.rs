//! Elementwise arithmetic of the transformer. Floats only where integers would not do: under emulation one float
//! operation costs as much as 25 int8 multiply-adds. No multiplication and addition is fused, so that every processor
//! gives the same bits.

use crate::layout::activations::ROUND;
use alloc::vec::Vec;

/// `value * 2^exponent`, rounded to nearest even. Exponents are clamped to [`EXPONENTS`], so that the result is always
/// a finite number.
pub(crate) fn scaled_f32(value: i64, exponent: i32) -> f32 {
    value as f32 * power_of_two(exponent)
}

/// Exponents of [`scaled_f32`]: the lowest normal number, and 2^64 * 2^63 is still below the largest one.
pub(crate) const EXPONENTS: core::ops::RangeInclusive<i32> = -126..=64;

/// `2^exponent`, clamped to [`EXPONENTS`].
pub(crate) fn power_of_two(exponent: i32) -> f32 {
    let exponent = exponent.clamp(*EXPONENTS.start(), *EXPONENTS.end());
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The exponent `e` of the largest magnitude, in `[2^e, 2^(e + 1))`; that of the smallest normal number for zeros.
/// `largest` is the bits of that magnitude.
pub(crate) fn exponent_of(largest: u32) -> i32 {
    (largest >> 23).cast_signed().clamp(1, 254) - 127
}

/// The bits of the largest magnitude; more than infinity's if there is one that is no number.
pub(crate) fn largest(x: &[f32]) -> u32 {
    // The bits of positive floats are ordered as the floats are: no floating-point comparison is needed.
    x.iter()
        .fold(0, |largest, x| {
            largest.max((x.to_bits() & 0x7fff_ffff).cast_signed())
        })
        .cast_unsigned()
}

/// `x * 2^exponent`, rounded to nearest even. Results beyond 22 bits are some number.
#[inline]
pub(crate) fn to_integer(x: f32, exponent: i32) -> i32 {
    let rounded = x * power_of_two(exponent) + ROUND;
    rounded
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .cast_signed()
}

/// Fraction bits of [`exp2_neg`]'s argument.
pub(crate) const EXP2_ARGUMENT_BITS: u32 = 16;
/// Fraction bits of [`exp2_neg`]'s result.
pub(crate) const EXP2_RESULT_BITS: u32 = 30;

/// `2^(-i / 16)` with 30 fraction bits.
pub(crate) static EXP2_TABLE: [i32; 16] = exp2_table();

const fn exp2_table() -> [i32; 16] {
    const ONE: u128 = 1 << 62;
    // Four square roots of 1/2 give 2^(-1/16).
    let mut step = ONE / 2;
    let mut halvings = 0;
    while halvings < 4 {
        step = (step << 62).isqrt();
        halvings += 1;
    }
    let mut table = [0; 16];
    let mut value = ONE;
    let mut index = 0;
    while index < 16 {
        table[index] = (value >> (62 - EXP2_RESULT_BITS)) as i32;
        value = (value * step) >> 62;
        index += 1;
    }
    table
}

/// `1 - 2^-(x / 2^16)` is near `x * (EXP2_LINEAR - (x * EXP2_SQUARE >> 12)) / 2^35` for 12 bits of `x`: near `ln(2)` and
/// `ln(2)^2 / 2`, chosen by trying for the smallest largest error.
pub(crate) const EXP2_LINEAR: i32 = 363_349;
/// See [`EXP2_LINEAR`].
pub(crate) const EXP2_SQUARE: i32 = 7696;

/// `2^-(x / 2^16)` for the low 16 bits of `x`, with 30 fraction bits: in 2^29..=2^30, relative error below `2^-18.9`.
/// Four bits are looked up, a square polynomial takes the others. All products are below 2^31.
pub(crate) fn exp2_fraction(x: i32) -> i32 {
    let whole = EXP2_TABLE[(x >> 12 & 15) as usize];
    let rest = x & 0xfff;
    let less = rest * (EXP2_LINEAR - ((rest * EXP2_SQUARE) >> 12));
    whole - (((whole >> 14) * ((less + (1 << 15)) >> 16)) >> 5)
}

/// `2^-x` for a fixed-point `x >= 0`: argument with 16 fraction bits, result with 30. Relative error below `2^-17`
/// as long as the result has 18 bits.
pub(crate) fn exp2_neg(x: i32) -> i32 {
    let whole = (x >> EXP2_ARGUMENT_BITS).cast_unsigned();
    exp2_fraction(x).checked_shr(whole).unwrap_or(0)
}

/// `log2(e)` with [`EXP2_ARGUMENT_BITS`] fraction bits.
pub(crate) const SCALED_LOG2_E: f32 = core::f32::consts::LOG2_E * (1 << EXP2_ARGUMENT_BITS) as f32;
/// Where the exponential of an activation function counts as zero: `2^-63`, and still an integer below 2^22.
pub(crate) const EXPONENTIAL_LIMIT: f32 = (63 << EXP2_ARGUMENT_BITS) as f32;

/// `gate * sigmoid(gate) * up`.
pub(crate) fn swiglu(gate: f32, up: f32) -> f32 {
    let x = to_integer((gate.abs() * SCALED_LOG2_E).min(EXPONENTIAL_LIMIT), 0);
    // e^-|gate|
    let whole = x >> EXP2_ARGUMENT_BITS;
    let power = exp2_fraction(x) as f32 * power_of_two(-whole - EXP2_RESULT_BITS.cast_signed());
    let numerator = if gate.is_sign_negative() { power } else { 1.0 };
    gate * (numerator / (1.0 + power) * up)
}

/// Partial sums of [`sum_of_16`].
pub(crate) const SUMS: usize = 16;

/// What partial sums add up to, in the order in which halves of a vector are added to each other.
pub(crate) fn sum_of_16(mut sums: [f32; SUMS]) -> f32 {
    for half in [8, 4, 2, 1] {
        let (low, high) = sums.split_at_mut(half);
        low.iter_mut()
            .zip(high)
            .for_each(|(low, high)| *low += *high);
    }
    sums[0]
}

/// `x += y`.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Cosines and sines of one position's rotary embedding, `head_dim / 2` of each.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rotation {
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    /// Rotary position embedding (Su et al. 2021) of `position`: pair `i` turns by `position * base^(-2i / head_dim)`.
    pub(crate) fn set(&mut self, position: usize, frequencies: &[f32]) {
        let angles = frequencies
            .iter()
            .map(|frequency| position as f32 * frequency);
        self.cosines.clear();
        self.cosines.extend(angles.clone().map(libm::cosf));
        self.sines.clear();
        self.sines.extend(angles.map(libm::sinf));
    }

    /// Turns one head in place; the pairs are `(i, i + head_dim / 2)`.
    pub(crate) fn apply(&self, head: &mut [f32]) {
        let (first, second) = head.split_at_mut(head.len() / 2);
        let turns = self.cosines.iter().zip(&self.sines);
        for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
            (*first, *second) = (*first * cos - *second * sin, *first * sin + *second * cos);
        }
    }
}

/// `base^(-2i / head_dim)` for each pair `i` of a head.
pub(crate) fn rope_frequencies(base: f32, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|pair| 1.0 / libm::powf(base, 2.0 * pair as f32 / head_dim as f32))
        .collect()
}

#[cfg(test)]
mod tests;
