//! Scores and weighted sums of attention.

use super::{load_i16, store_i32};
use crate::simd::QUERY_SPLIT_BITS;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
};

/// See [`crate::simd::Kernels::scores`]; shapes are checked.
#[target_feature(enable = "avx2")]
pub(super) fn scores(high: &[i16], low: &[i16], keys: &[i16], out: &mut [i64]) {
    let (high, low) = (high.as_chunks::<16>().0, low.as_chunks::<16>().0);
    for (out, key) in out.iter_mut().zip(keys.chunks_exact(high.len() * 16)) {
        let mut sums = [_mm256_setzero_si256(); 2];
        for ((high, low), key) in high.iter().zip(low).zip(key.as_chunks::<16>().0) {
            let key = load_i16(key);
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(load_i16(high), key));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(load_i16(low), key));
        }
        *out = (horizontal(sums[0]) << QUERY_SPLIT_BITS) + horizontal(sums[1]);
    }
}

/// Sum of eight 32-bit lanes in 64 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn horizontal(lanes: __m256i) -> i64 {
    store_i32(lanes).iter().map(|lane| i64::from(*lane)).sum()
}

/// See [`crate::simd::Kernels::weigh`]; shapes are checked.
#[target_feature(enable = "avx2")]
pub(super) fn weigh(weights: &[i16], values: &[i16], out: &mut [i32]) {
    let head_dim = out.len();
    let mut start = 0;
    // As many sums as registers hold; a head of another width ends with narrower strips.
    while head_dim - start >= 64 {
        strip::<8>(
            weights,
            values,
            head_dim,
            start,
            &mut out[start..start + 64],
        );
        start += 64;
    }
    while start < head_dim {
        strip::<2>(
            weights,
            values,
            head_dim,
            start,
            &mut out[start..start + 16],
        );
        start += 16;
    }
}

/// Weighted sums of `8 * VECTORS` dimensions from `start` on.
#[target_feature(enable = "avx2")]
#[inline]
fn strip<const VECTORS: usize>(
    weights: &[i16],
    values: &[i16],
    head_dim: usize,
    start: usize,
    out: &mut [i32],
) {
    let mut sums = [_mm256_setzero_si256(); VECTORS];
    for (weights, values) in weights
        .as_chunks::<2>()
        .0
        .iter()
        .zip(values.chunks_exact(2 * head_dim))
    {
        let [first, second] = weights.map(|weight| u32::from(weight.cast_unsigned()));
        let pair = _mm256_set1_epi32((second << 16 | first).cast_signed());
        let values = &values[2 * start..][..16 * VECTORS];
        for (sum, values) in sums.iter_mut().zip(values.as_chunks::<16>().0) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(load_i16(values), pair));
        }
    }
    for (out, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        for (out, sum) in out.iter_mut().zip(store_i32(sum)) {
            *out = out.wrapping_add(sum);
        }
    }
}
