//! Attention of one query over all positions so far, in integers: scores, softmax and the weighted sum of values.

use super::kv::{KvCache, SEGMENT};
use crate::layout::TILE_ROWS as LANES;
use crate::ops::{exponent_of, largest, power_of_two, to_integer};
use crate::simd::{Kernels, NO_SCORE, QUERY_SPLIT_BITS, Query};
use crate::wiped::fit;
use alloc::vec::Vec;
use core::ops::Range;
use zeroize::Zeroize;

/// Bits of a query's magnitude; the kernels take it in two halves.
const QUERY_BITS: i32 = 23;
/// Largest magnitude of a query before it is split.
const QUERY_LIMIT: i32 = (1 << (QUERY_BITS - 1)) - (1 << QUERY_SPLIT_BITS);

/// Query heads that are done together: of one token, with the same keys and values, which then come from the nearest
/// cache for all but the first one.
pub(super) const HEADS: usize = 4;

/// What a worker needs for attention; wiped when dropped.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    heads: [HeadScratch; HEADS],
    /// `[positions]`, padded to whole segments: exponents of the values.
    exponents: Vec<i16>,
}

/// Buffers of one query head.
#[derive(Debug, Default)]
struct HeadScratch {
    /// `[2][head_dim]`: high and low halves of the query.
    query: [Vec<i16>; 2],
    /// Of the whole query.
    exponent: i32,
    /// `[positions]`, padded to whole segments: scores, then unrounded weights.
    scores: Vec<i32>,
    /// `[positions]`, padded to whole segments.
    weights: Vec<i16>,
    /// `[head_dim]`
    sums: Vec<i32>,
    /// What `sums` are multiplied with.
    factor: f32,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for head in &mut self.heads {
            head.query.iter_mut().for_each(Zeroize::zeroize);
            head.scores.zeroize();
            head.weights.zeroize();
            head.sums.zeroize();
            head.exponent.zeroize();
            head.factor.zeroize();
        }
        self.exponents.zeroize();
    }
}

impl Scratch {
    /// Bytes that attention over so many positions needs.
    pub(super) fn bytes(positions: usize, head_dim: usize) -> usize {
        let padded = positions.next_multiple_of(SEGMENT);
        let numbers = padded * (size_of::<i32>() + size_of::<i16>());
        HEADS * (numbers + head_dim * 8) + padded * size_of::<i16>()
    }

    /// `out[n][head_dim] = softmax(query . keys / sqrt(head_dim)) . values` over the first `positions` positions, for
    /// up to [`HEADS`] heads, `query[n][head_dim]`.
    pub(super) fn attend(
        &mut self,
        kernels: &Kernels,
        cache: &KvCache,
        (layer, kv_head): (usize, usize),
        (query, head_dim): (&[f32], usize),
        positions: usize,
        out: &mut [f32],
    ) {
        self.reserve(positions, head_dim);
        let padded = positions.next_multiple_of(LANES);
        let heads = &mut self.heads[..query.len() / head_dim];
        for (head, query) in heads.iter_mut().zip(query.chunks_exact(head_dim)) {
            head.split_query(query);
        }
        for (index, keys) in cache.keys(layer, kv_head).enumerate() {
            let part = part(index, padded);
            let numbers = &keys.numbers[..part.len() * head_dim];
            let exponents = &keys.exponents[..part.len()];
            for head in &mut *heads {
                let [high, low] = &head.query;
                let query = Query {
                    high,
                    low,
                    exponent: head.exponent,
                };
                (kernels.scores)(&query, numbers, exponents, &mut head.scores[part.clone()]);
            }
        }
        let exponents = &mut self.exponents[..padded];
        let values = cache.values(layer, kv_head);
        for (values, exponents) in values.clone().zip(exponents.chunks_mut(SEGMENT)) {
            exponents.copy_from_slice(&values.exponents[..exponents.len()]);
        }
        for head in &mut *heads {
            let scores = &mut head.scores[..padded];
            scores[positions..].fill(NO_SCORE);
            let softened = (kernels.soften)(scores, exponents, &mut head.weights[..padded]);
            head.factor = power_of_two(softened.exponent) / softened.total as f32;
            head.sums.fill(0);
        }
        for (index, values) in values.enumerate() {
            let part = part(index, padded);
            let numbers = &values.numbers[..part.len() * head_dim];
            for head in &mut *heads {
                (kernels.weigh)(&head.weights[part.clone()], numbers, &mut head.sums);
            }
        }
        for (out, head) in out.chunks_exact_mut(head_dim).zip(heads) {
            for (out, sum) in out.iter_mut().zip(&head.sums) {
                *out = *sum as f32 * head.factor;
            }
        }
    }

    /// Gives the buffers their lengths. [`Scratch::attend`] needs no memory afterwards, up to so many positions.
    pub(super) fn reserve(&mut self, positions: usize, head_dim: usize) {
        // Whole segments, so that buffers do not move for every position.
        let padded = positions.next_multiple_of(SEGMENT);
        for head in &mut self.heads {
            head.query.iter_mut().for_each(|half| fit(half, head_dim));
            fit(&mut head.scores, padded);
            fit(&mut head.weights, padded);
            fit(&mut head.sums, head_dim);
        }
        fit(&mut self.exponents, padded);
    }
}

/// Which of `padded` positions are in segment `index`.
fn part(index: usize, padded: usize) -> Range<usize> {
    (index * SEGMENT).min(padded)..((index + 1) * SEGMENT).min(padded)
}

impl HeadScratch {
    /// Splits `query * log2(e) / sqrt(head_dim)` into halves.
    fn split_query(&mut self, query: &[f32]) {
        let factor = core::f32::consts::LOG2_E / libm::sqrtf(query.len() as f32);
        self.exponent = exponent_of(largest(query)) + 1 - QUERY_BITS;
        let [high, low] = &mut self.query;
        for ((query, high), low) in query.iter().zip(high).zip(low) {
            // log2(e) / sqrt(head_dim) is below 1/2 for every head of 16 or more.
            let whole = to_integer(query * factor, -self.exponent).clamp(-QUERY_LIMIT, QUERY_LIMIT);
            *high = ((whole + (1 << (QUERY_SPLIT_BITS - 1))) >> QUERY_SPLIT_BITS) as i16;
            *low = (whole - (i32::from(*high) << QUERY_SPLIT_BITS)) as i16;
        }
    }
}
