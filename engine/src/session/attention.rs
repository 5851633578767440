//! Attention of one query over all positions so far, in integers: scores, softmax and the weighted sum of values.

use super::kv::{KvCache, SEGMENT};
use crate::layout::TILE_ROWS as LANES;
use crate::ops::{exponent_of, largest, power_of_two, to_integer};
use crate::simd::{Kernels, NO_SCORE, QUERY_SPLIT_BITS, Query};
use crate::wiped::fit;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Bits of a query's magnitude; the kernels take it in two halves.
const QUERY_BITS: i32 = 23;
/// Largest magnitude of a query before it is split.
const QUERY_LIMIT: i32 = (1 << (QUERY_BITS - 1)) - (1 << QUERY_SPLIT_BITS);

/// Buffers of one attention head; wiped when dropped.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[2][head_dim]`: high and low halves of the query.
    query: [Vec<i16>; 2],
    /// `[positions]`, padded to whole segments: scores, then unrounded weights.
    scores: Vec<i32>,
    /// `[positions]`, padded to whole segments: exponents of the values.
    exponents: Vec<i16>,
    /// `[positions]`, padded to whole segments.
    weights: Vec<i16>,
    /// `[head_dim]`
    sums: Vec<i32>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.query.iter_mut().for_each(Zeroize::zeroize);
        self.scores.zeroize();
        self.exponents.zeroize();
        self.weights.zeroize();
        self.sums.zeroize();
    }
}

impl Scratch {
    /// Bytes that attention over so many positions needs.
    pub(super) fn bytes(positions: usize, head_dim: usize) -> usize {
        let padded = positions.next_multiple_of(SEGMENT);
        padded * (size_of::<i32>() + 2 * size_of::<i16>()) + head_dim * 8
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
        let head_dim = query.len();
        self.reserve(positions, head_dim);
        let exponent = self.split_query(query);
        let [high, low] = &self.query;
        let query = Query {
            high,
            low,
            exponent,
        };
        let padded = positions.next_multiple_of(LANES);
        let scores = &mut self.scores[..padded];
        for (keys, scores) in cache.keys(layer, kv_head).zip(scores.chunks_mut(SEGMENT)) {
            let numbers = &keys.numbers[..scores.len() * head_dim];
            (kernels.scores)(&query, numbers, &keys.exponents[..scores.len()], scores);
        }
        scores[positions..].fill(NO_SCORE);
        let exponents = &mut self.exponents[..padded];
        let values = cache.values(layer, kv_head);
        for (values, exponents) in values.clone().zip(exponents.chunks_mut(SEGMENT)) {
            exponents.copy_from_slice(&values.exponents[..exponents.len()]);
        }
        let weights = &mut self.weights[..padded];
        let softened = (kernels.soften)(scores, exponents, weights);
        self.sums.fill(0);
        for (values, weights) in values.zip(weights.chunks(SEGMENT)) {
            let numbers = &values.numbers[..weights.len() * head_dim];
            (kernels.weigh)(weights, numbers, &mut self.sums);
        }
        let factor = power_of_two(softened.exponent) / softened.total as f32;
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
        fit(&mut self.exponents, padded);
        fit(&mut self.weights, padded);
        fit(&mut self.sums, head_dim);
    }

    /// Splits `query * log2(e) / sqrt(head_dim)` into halves; returns the exponent of the whole.
    fn split_query(&mut self, query: &[f32]) -> i32 {
        let factor = core::f32::consts::LOG2_E / libm::sqrtf(query.len() as f32);
        let exponent = exponent_of(largest(query)) + 1 - QUERY_BITS;
        let [high, low] = &mut self.query;
        for ((query, high), low) in query.iter().zip(high).zip(low) {
            // log2(e) / sqrt(head_dim) is below 1/2 for every head of 16 or more.
            let whole = to_integer(query * factor, -exponent).clamp(-QUERY_LIMIT, QUERY_LIMIT);
            *high = ((whole + (1 << (QUERY_SPLIT_BITS - 1))) >> QUERY_SPLIT_BITS) as i16;
            *low = (whole - (i32::from(*high) << QUERY_SPLIT_BITS)) as i16;
        }
        exponent
    }
}
