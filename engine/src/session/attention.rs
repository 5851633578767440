//! Attention of one query over all positions so far, in integers: scores, softmax and the weighted sum of values.

use super::kv::{Head, KvCache, SEGMENT};
use crate::ops::{EXP2_ARGUMENT_BITS, EXP2_RESULT_BITS, exp2_neg};
use crate::simd::{Kernels, QUERY_SPLIT_BITS};
use crate::wiped::fit;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Bits of a query's magnitude; the kernels take it in two halves.
const QUERY_BITS: i32 = 23;
/// Scores beyond this (in units of `2^-16` of a power of two) are as good as infinite.
const SCORE_LIMIT: i64 = 1 << 40;
/// Largest sum of a query's weights before rounding, in bits. With values below `2^11` and at most `2^20` positions,
/// each rounded up by a half, sums stay below `2^31`.
const WEIGHT_SUM_BITS: u32 = 19;
/// Largest weight, in bits.
const WEIGHT_BITS: u32 = 15;

/// Buffers of one attention head; wiped when dropped.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[2][head_dim]`: high and low halves of the query.
    query: [Vec<i16>; 2],
    /// `[positions]`, padded to whole segments: scores, then unrounded weights.
    scores: Vec<i64>,
    /// `[positions]`, padded to whole segments.
    weights: Vec<i16>,
    /// `[head_dim]`
    sums: Vec<i32>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.query.iter_mut().for_each(Zeroize::zeroize);
        self.scores.zeroize();
        self.weights.zeroize();
        self.sums.zeroize();
    }
}

impl Scratch {
    /// Bytes that attention over so many positions needs.
    pub(super) fn bytes(positions: usize, head_dim: usize) -> usize {
        let padded = positions.next_multiple_of(SEGMENT);
        padded * (size_of::<i64>() + size_of::<i16>()) + head_dim * 8
    }

    /// `out[head_dim] = softmax(query . keys / sqrt(head_dim)) . values` over the first `positions` positions.
    pub(super) fn attend(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        (layer, kv_head): (usize, usize),
        query: &[f32],
        positions: usize,
        out: &mut [f32],
    ) {
        self.reserve(positions, query.len());
        let exponent = self.split_query(query);
        self.score(kernels, cache.keys(layer, kv_head), exponent, positions);
        let total = self.soften(positions);
        let shift = self.weigh_exponents(cache.values(layer, kv_head), positions);
        self.sums.fill(0);
        for (values, weights) in cache
            .values(layer, kv_head)
            .zip(self.weights[..positions.next_multiple_of(2)].chunks(SEGMENT))
        {
            (kernels.weigh)(
                weights,
                &values.numbers[..weights.len() * query.len()],
                &mut self.sums,
            );
        }
        let factor = power_of_two(shift) / total as f32;
        for (out, sum) in out.iter_mut().zip(&self.sums) {
            *out = *sum as f32 * factor;
        }
    }

    /// Gives the buffers their lengths. [`Scratch::attend`] needs no memory afterwards, up to so many positions.
    pub(super) fn reserve(&mut self, positions: usize, head_dim: usize) {
        // Whole segments, so that buffers do not move for every position.
        let padded = positions.next_multiple_of(SEGMENT);
        self.query.iter_mut().for_each(|half| fit(half, head_dim));
        fit(&mut self.scores, padded);
        fit(&mut self.weights, padded);
        fit(&mut self.sums, head_dim);
    }

    /// Splits `query * log2(e) / sqrt(head_dim)` into halves; returns the exponent of the whole.
    fn split_query(&mut self, query: &[f32]) -> i32 {
        let factor = core::f32::consts::LOG2_E / libm::sqrtf(query.len() as f32);
        let exponent = exponent_of(query) + 1 - QUERY_BITS;
        let [high, low] = &mut self.query;
        for ((query, high), low) in query.iter().zip(high).zip(low) {
            // log2(e) / sqrt(head_dim) is below 1/2 for every head of 16 or more.
            let whole = fixed(query * factor, exponent);
            *high = ((whole + (1 << (QUERY_SPLIT_BITS - 1))) >> QUERY_SPLIT_BITS) as i16;
            *low = (whole - (i32::from(*high) << QUERY_SPLIT_BITS)) as i16;
        }
        exponent
    }

    /// Scores of all positions in fixed point: powers of two with 16 fraction bits.
    fn score<'k>(
        &mut self,
        kernels: &Kernels,
        keys: impl Iterator<Item = Head<'k>>,
        query_exponent: i32,
        positions: usize,
    ) {
        let [high, low] = &self.query;
        for (keys, scores) in keys.zip(self.scores[..positions].chunks_mut(SEGMENT)) {
            (kernels.scores)(
                high,
                low,
                &keys.numbers[..scores.len() * high.len()],
                scores,
            );
            for (score, key_exponent) in scores.iter_mut().zip(keys.exponents) {
                let shift = query_exponent + i32::from(*key_exponent) + EXP2_ARGUMENT_BITS as i32;
                *score = shifted(*score, shift).clamp(-SCORE_LIMIT, SCORE_LIMIT);
            }
        }
    }

    /// Turns scores into `2^(score - largest)` with 40 fraction bits; returns their sum.
    fn soften(&mut self, positions: usize) -> u64 {
        let scores = &mut self.scores[..positions];
        let largest = scores
            .iter()
            .fold(i64::MIN, |largest, score| largest.max(*score));
        let mut total = 0;
        for score in scores {
            let weight = exp2_neg((largest - *score).unsigned_abs());
            total += weight;
            *score = weight.cast_signed();
        }
        total
    }

    /// Moves the exponents of the values into the weights and rounds these to 15 bits. Returns the exponent that the
    /// weighted sum has afterwards, relative to the unrounded weights.
    fn weigh_exponents<'k>(
        &mut self,
        values: impl Iterator<Item = Head<'k>> + Clone,
        positions: usize,
    ) -> i32 {
        let scores = &mut self.scores[..positions];
        let exponents = values.clone().flat_map(|values| values.exponents);
        let mut exponent = i16::MIN;
        for (weight, value_exponent) in scores.iter().zip(exponents.clone()) {
            if *weight != 0 {
                exponent = exponent.max(*value_exponent);
            }
        }
        let (mut largest, mut sum) = (0, 0);
        for (weight, value_exponent) in scores.iter_mut().zip(exponents) {
            let below = i32::from(exponent) - i32::from(*value_exponent);
            *weight = weight.checked_shr(below.unsigned_abs()).unwrap_or(0);
            largest = largest.max(*weight);
            sum += *weight;
        }
        let bits = |value: i64| 64 - value.leading_zeros();
        let drop = bits(largest)
            .saturating_sub(WEIGHT_BITS)
            .max(bits(sum).saturating_sub(WEIGHT_SUM_BITS));
        let half = if drop == 0 { 0 } else { 1 << (drop - 1) };
        for (weight, score) in self.weights.iter_mut().zip(scores) {
            *weight = ((*score + half) >> drop).min(i64::from(i16::MAX)) as i16;
        }
        if positions % 2 == 1 {
            self.weights[positions] = 0;
        }
        i32::from(exponent) + drop as i32
    }
}

/// `value * 2^shift`, saturating on the left and rounding down on the right.
fn shifted(value: i64, shift: i32) -> i64 {
    if shift <= 0 {
        return value >> shift.unsigned_abs().min(63);
    }
    let room = value.unsigned_abs().leading_zeros();
    if shift.unsigned_abs() < room {
        value << shift
    } else {
        value.signum() * SCORE_LIMIT
    }
}

/// The exponent `e` of the largest magnitude, in `[2^e, 2^(e + 1))`; that of the smallest normal number for zeros.
pub(super) fn exponent_of(x: &[f32]) -> i32 {
    let largest = x.iter().fold(0, |largest, x| {
        largest.max((x.to_bits() & 0x7fff_ffff).cast_signed())
    });
    (largest >> 23).clamp(1, 254) - 127
}

/// `x / 2^exponent`, rounded, from the bits of the float. The result must fit 24 bits; infinities count as the
/// largest number.
pub(super) fn fixed(x: f32, exponent: i32) -> i32 {
    let bits = x.to_bits();
    let biased = (bits >> 23 & 0xff) as i32;
    if biased == 0 {
        return 0;
    }
    let mantissa = (bits & 0x7f_ffff | 0x80_0000) as i32;
    let drop = exponent - (biased - 127 - 23);
    let magnitude = match drop {
        ..=0 => mantissa,
        1..=24 => (mantissa + (1 << (drop - 1))) >> drop,
        _ => 0,
    };
    if bits >> 31 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// `2^exponent`, within the range of normal floats.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent.clamp(-126, 127) + 127) as u32) << 23)
}

/// Fraction bits of the weights cancel out between weights and their sum.
const _: () = assert!(EXP2_RESULT_BITS + 20 < 63, "a sum over 2^20 positions fits");
