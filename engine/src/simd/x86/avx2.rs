//! Products without an instruction for four bytes.
//!
//! `VPMADDUBSW` multiplies unsigned bytes with signed ones and adds neighbours in 16 bits. Weights with a zero point
//! take it off in the same 16 bits: the sum starts at minus the zero point times the activations' pair sums. Sums over
//! the groups named below then stay in range, whatever the order (16-bit additions wrap):
//!
//! | weights | groups | bound |
//! |---|---|---|
//! | 0..=15 | 8 | 15 * 127 * 2 * 8 = 30,480 |
//! | -8..=7 | 8 | 8 * 127 * 2 * 8 = 16,256 |
//! | -16..=15 | 8 | 16 * 127 * 2 * 8 = 32,512 |
//! | -32..=31 | 4 | 32 * 127 * 2 * 4 = 32,512 |
//!
//! Bytes are two nibbles, `16 * (high - 8) + low`, each summed on its own. A single `VPMADDUBSW` never saturates:
//! 63 * 127 * 2 = 16,002.

use super::lanes::{Avx2, Lanes, NoDot};
use super::products::{BYTE, FIVE, Inputs, NIBBLE, Products, SixZeros, dot_half};
use crate::layout::activations::two_i16;
use core::arch::x86_64::__m256i;

type V = Avx2<NoDot>;

impl Products for V {
    #[inline(always)]
    fn dots<const KIND: u8, const PLACE: usize, const G: usize>(
        self,
        weights: &[__m256i; 8],
        inputs: &Inputs<'_, G>,
    ) -> [__m256i; G] {
        let mut dots = [self.zero(); G];
        for (token, dot) in dots.iter_mut().enumerate() {
            let start = start::<KIND, G>(self, inputs, token);
            let sum = match KIND {
                BYTE => self.bytes(start, weights, inputs, token),
                _ => self.madd(sums(self, start, weights, inputs, token, 0), ones(self)),
            };
            *dot = self.add(sum, self.splat(dot_half::<KIND>(PLACE)));
        }
        dots
    }

    #[inline(always)]
    fn scaled_nibbles<const G: usize>(
        self,
        totals: &mut [__m256i; G],
        weights: &[[__m256i; 8]; 2],
        inputs: &[Inputs<'_, G>; 2],
        factors: __m256i,
    ) {
        let factors = self.halves(factors);
        for ((weights, inputs), factors) in weights.iter().zip(inputs).zip(factors) {
            for (token, total) in totals.iter_mut().enumerate() {
                let start = start::<NIBBLE, G>(self, inputs, token);
                let sum = sums(self, start, weights, inputs, token, 0);
                *total = self.madd_add(*total, sum, factors);
            }
        }
    }

    #[inline(always)]
    fn scaled_six<const G: usize>(
        self,
        totals: &mut [__m256i; G],
        weights: &[__m256i; 8],
        inputs: &Inputs<'_, G>,
        zeros: &SixZeros<'_, G>,
        factors: [__m256i; 2],
    ) {
        for (token, total) in totals.iter_mut().enumerate() {
            for (half, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
                let start = self.splat(zeros.pairs_of_16[token][half]);
                let sum = sums(self, start, weights, inputs, token, 4 * half);
                *total = self.madd_add(*total, sum, factors[half]);
            }
        }
    }
}

impl V {
    /// One token's products with whole bytes, as two nibbles; `start` takes the zero point of the high ones off.
    #[inline(always)]
    fn bytes<const G: usize>(
        self,
        start: __m256i,
        weights: &[__m256i; 8],
        inputs: &Inputs<'_, G>,
        token: usize,
    ) -> __m256i {
        let mask = self.splat_i8(15);
        let (mut low, mut high) = (*weights, *weights);
        for (low, high) in low.iter_mut().zip(&mut high) {
            *low = self.and(*low, mask);
            *high = self.and(self.shr16::<4>(*high), mask);
        }
        let low = self.madd(sums(self, self.zero(), &low, inputs, token, 0), ones(self));
        let sixteens = self.splat(two_i16(&[16, 16]));
        self.madd_add(low, sums(self, start, &high, inputs, token, 0), sixteens)
    }
}

/// Where the 16-bit sums of one token begin.
#[inline(always)]
fn start<const KIND: u8, const G: usize>(v: V, inputs: &Inputs<'_, G>, token: usize) -> __m256i {
    let eights = v.splat(inputs.pair_zeros[token]);
    match KIND {
        FIVE => v.add16(eights, eights),
        _ => eights,
    }
}

/// `start` and one token's products of some groups, the first of which is group `first`: two 16-bit sums for each row.
#[inline(always)]
fn sums<const G: usize>(
    v: V,
    start: __m256i,
    weights: &[__m256i],
    inputs: &Inputs<'_, G>,
    token: usize,
    first: usize,
) -> __m256i {
    let mut sum = start;
    for (group, weight) in weights.iter().enumerate() {
        sum = v.add16(sum, v.pairs(*weight, inputs.four(v, token, first + group)));
    }
    sum
}

#[inline(always)]
fn ones(v: V) -> __m256i {
    v.splat(two_i16(&[1, 1]))
}
