//! Scores, softmax and weighted sums of attention, for any vectors.

use super::lanes::Lanes;
use crate::layout::TILE_ROWS;
use crate::ops::{EXP2_ARGUMENT_BITS, EXP2_LINEAR, EXP2_SQUARE, EXP2_TABLE};
use crate::simd::portable::SCORE_CHUNK;
use crate::simd::{QUERY_SPLIT_BITS, Query, Softened, rounded, weight_shift};

/// See [`crate::simd::Kernels::scores`]; shapes are checked.
#[inline(always)]
pub(super) fn scores<V: Lanes>(
    v: V,
    query: &Query<'_>,
    keys: &[i16],
    exponents: &[i16],
    out: &mut [i32],
) {
    let high = query.high.as_chunks::<2>().0;
    let low = query.low.as_chunks::<2>().0;
    let groups = keys.chunks_exact(TILE_ROWS * query.high.len());
    let outs = out.as_chunks_mut::<TILE_ROWS>().0.iter_mut();
    let exponents = exponents.as_chunks::<TILE_ROWS>().0;
    let base = query.exponent + EXP2_ARGUMENT_BITS.cast_signed();
    for ((keys, out), exponents) in groups.zip(outs).zip(exponents) {
        for first in (0..TILE_ROWS).step_by(V::LANES) {
            let mut total = [v.zero(); 2];
            let chunks = high
                .chunks(SCORE_CHUNK / 2)
                .zip(low.chunks(SCORE_CHUNK / 2));
            for ((high, low), keys) in chunks.zip(keys.chunks(SCORE_CHUNK * TILE_ROWS)) {
                let mut sums = [v.zero(); 2];
                let keys = keys.as_chunks::<{ 2 * TILE_ROWS }>().0;
                for ((high, low), keys) in high.iter().zip(low).zip(keys) {
                    let keys = v.load_i16(&keys[2 * first..]);
                    sums[0] = v.madd_add(sums[0], keys, v.splat(pair(*high)));
                    sums[1] = v.madd_add(sums[1], keys, v.splat(pair(*low)));
                }
                let [high, low] = [v.widen64(sums[0]), v.widen64(sums[1])];
                for half in 0..2 {
                    let high = v.shl64::<QUERY_SPLIT_BITS>(high[half]);
                    total[half] = v.add64(total[half], v.add64(high, low[half]));
                }
            }
            let left = v.add(v.widen_i16(&exponents[first..]), v.splat(base));
            let right = v.sub(v.zero(), left);
            let right = v.min(v.max(right, v.zero()), v.splat(63));
            v.store_i32(v.limit_scores(total, right), &mut out[first..]);
        }
    }
}

/// Two numbers as one, the first one low.
#[inline(always)]
fn pair(two: [i16; 2]) -> i32 {
    i32::from(two[1]) << 16 | i32::from(two[0].cast_unsigned())
}

/// See [`crate::simd::Kernels::soften`].
#[inline(always)]
pub(super) fn soften<V: Lanes>(
    v: V,
    scores: &mut [i32],
    exponents: &[i16],
    weights: &mut [i16],
) -> Softened {
    let mut top = v.splat(i32::MIN);
    for scores in scores.chunks_exact(V::LANES) {
        top = v.max(top, v.load_i32(scores));
    }
    let top = v.splat(v.largest(top));
    let mut total = v.zero();
    let mut exponent = v.splat(i32::from(i16::MIN));
    let parts = exponents.chunks_exact(V::LANES);
    for (scores, exponents) in scores.chunks_exact_mut(V::LANES).zip(parts) {
        let weight = exp2_neg(v, v.sub(top, v.load_i32(scores)));
        v.store_i32(weight, scores);
        total = add_wide(v, total, weight);
        let candidate = v.if_not_zero(weight, v.widen_i16(exponents), exponent);
        exponent = v.max(exponent, candidate);
    }
    let exponent = v.largest(exponent);
    let (mut largest, mut sum) = (v.zero(), v.zero());
    let parts = exponents.chunks_exact(V::LANES);
    for (scores, exponents) in scores.chunks_exact_mut(V::LANES).zip(parts) {
        let below = v.sub(v.splat(exponent), v.widen_i16(exponents));
        let weight = v.shr_each(v.load_i32(scores), below);
        v.store_i32(weight, scores);
        largest = v.max(largest, weight);
        sum = add_wide(v, sum, weight);
    }
    let drop = weight_shift(v.largest(largest), v.sum64(sum));
    // The half of `rounded`: it rounds 0 to what is added.
    let half = v.splat((1 << drop) >> 1);
    let most = v.splat(i32::from(i16::MAX));
    let vectors = weights.chunks_exact_mut(V::LANES);
    for (weights, scores) in vectors.zip(scores.chunks_exact(V::LANES)) {
        let sum = v.add(v.load_i32(scores), half);
        let weight = v.shr_each(sum, v.splat(drop.cast_signed()));
        v.store_low_i16(v.min(weight, most), weights);
    }
    debug_assert_eq!(rounded(scores[0], drop), weights[0]);
    Softened {
        total: v.sum64(total),
        exponent: exponent + drop.cast_signed(),
    }
}

/// 64-bit sums plus 32-bit numbers.
#[inline(always)]
fn add_wide<V: Lanes>(v: V, sums: V::Int, x: V::Int) -> V::Int {
    let [lower, upper] = v.widen64(x);
    v.add64(sums, v.add64(lower, upper))
}

/// [`crate::ops::exp2_neg`] of each lane.
#[inline(always)]
fn exp2_neg<V: Lanes>(v: V, x: V::Int) -> V::Int {
    let whole = v.shr_each(x, v.splat(EXP2_ARGUMENT_BITS.cast_signed()));
    v.shr_each(exp2_fraction(v, x), whole)
}

/// [`crate::ops::exp2_fraction`] of each lane.
#[inline(always)]
pub(super) fn exp2_fraction<V: Lanes>(v: V, x: V::Int) -> V::Int {
    let whole = v.lookup(&EXP2_TABLE, v.sar::<12>(x));
    let rest = v.and(x, v.splat(0xfff));
    let square = v.sar::<12>(v.mul(rest, v.splat(EXP2_SQUARE)));
    let less = v.mul(rest, v.sub(v.splat(EXP2_LINEAR), square));
    let less = v.sar::<16>(v.add(less, v.splat(1 << 15)));
    v.sub(whole, v.sar::<5>(v.mul(v.sar::<14>(whole), less)))
}

/// See [`crate::simd::Kernels::weigh`]; shapes are checked.
#[inline(always)]
pub(super) fn weigh<V: Lanes>(v: V, weights: &[i16], values: &[i16], out: &mut [i32]) {
    let head_dim = out.len();
    let mut start = 0;
    // As many sums as registers hold; a head of another width ends with narrower strips.
    while head_dim - start >= 64 {
        let out = &mut out[start..start + 64];
        if V::LANES == 16 {
            strip::<V, 4>(v, weights, values, (head_dim, start), out);
        } else {
            strip::<V, 8>(v, weights, values, (head_dim, start), out);
        }
        start += 64;
    }
    while start < head_dim {
        let out = &mut out[start..start + V::LANES];
        strip::<V, 1>(v, weights, values, (head_dim, start), out);
        start += V::LANES;
    }
}

/// Weighted sums of `V::LANES * VECTORS` dimensions, of all `head_dim` those from `start` on.
#[inline(always)]
fn strip<V: Lanes, const VECTORS: usize>(
    v: V,
    weights: &[i16],
    values: &[i16],
    (head_dim, start): (usize, usize),
    out: &mut [i32],
) {
    let mut sums = [v.zero(); VECTORS];
    for (index, sum) in sums.iter_mut().enumerate() {
        *sum = v.load_i32(&out[index * V::LANES..]);
    }
    let pairs = weights.as_chunks::<2>().0;
    for (weights, values) in pairs.iter().zip(values.chunks_exact(2 * head_dim)) {
        let weights = v.splat(pair(*weights));
        let values = &values[2 * start..][..2 * V::LANES * VECTORS];
        for (index, sum) in sums.iter_mut().enumerate() {
            let values = v.load_i16(&values[index * 2 * V::LANES..]);
            *sum = v.madd_add(*sum, values, weights);
        }
    }
    for (index, sum) in sums.into_iter().enumerate() {
        v.store_i32(sum, &mut out[index * V::LANES..]);
    }
}
