//! Products with an instruction that multiplies four unsigned bytes with four signed ones and adds the products to a
//! 32-bit sum (`VPDPBUSD`).
//!
//! The zero point is taken off by where a sum begins: at minus the zero point times the sum of the activations.
//!
//! Sub-scales of super-blocks multiply sums that fit 16 bits, two of them in each lane, with one multiply-add of pairs
//! (`VPDPWSSD`):
//!
//! | weights | columns | bound |
//! |---|---|---|
//! | -8..=7 | 32 | 8 * 127 * 32 = 32,512 |
//! | -32..=31 | 8 | 32 * 127 * 8 = 32,512 |

use super::lanes::Dot;
#[cfg(test)]
use super::lanes::{Avx2, Lanes};
use super::products::{Inputs, NIBBLE, Products, SixZeros};

impl<V: Dot> Products for V {
    #[inline(always)]
    fn dots<const KIND: u8, const PLACE: usize, const G: usize>(
        self,
        weights: &[V::Int; 8],
        inputs: &Inputs<'_, G>,
    ) -> [V::Int; G] {
        let mut sums = splats(self, inputs.starts);
        add_dots(self, &mut sums, weights, inputs, 0);
        sums
    }

    #[inline(always)]
    fn scaled_nibbles<const G: usize>(
        self,
        totals: &mut [V::Int; G],
        weights: &[[V::Int; 8]; 2],
        inputs: &[Inputs<'_, G>; 2],
        factors: V::Int,
    ) {
        let low = self.dots::<NIBBLE, 0, G>(&weights[0], &inputs[0]);
        let high = self.dots::<NIBBLE, 1, G>(&weights[1], &inputs[1]);
        add_pairs(self, totals, [low, high], factors);
    }

    #[inline(always)]
    fn scaled_six<const G: usize>(
        self,
        totals: &mut [V::Int; G],
        weights: &[V::Int; 8],
        inputs: &Inputs<'_, G>,
        zeros: &SixZeros<'_, G>,
        factors: [V::Int; 2],
    ) {
        for (half, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
            let mut sums = [[self.zero(); G]; 2];
            for (eight, (sums, weights)) in
                sums.iter_mut().zip(weights.as_chunks::<2>().0).enumerate()
            {
                for (sum, zeros) in sums.iter_mut().zip(zeros.of_8) {
                    *sum = self.splat(zeros[2 * half + eight]);
                }
                add_dots(self, sums, weights, inputs, 4 * half + 2 * eight);
            }
            add_pairs(self, totals, sums, factors[half]);
        }
    }
}

/// Adds factor * sum for two sums of 16 bits, with one instruction for both.
#[inline(always)]
fn add_pairs<V: Dot, const G: usize>(
    v: V,
    totals: &mut [V::Int; G],
    [low, high]: [[V::Int; G]; 2],
    factors: V::Int,
) {
    for (total, (low, high)) in totals.iter_mut().zip(low.into_iter().zip(high)) {
        *total = v.madd_add(*total, v.pair(low, high), factors);
    }
}

/// A vector of each number. No closure here and elsewhere: one is a function without the processor's features, into
/// which vector instructions are not inlined.
#[inline(always)]
fn splats<V: Dot, const G: usize>(v: V, numbers: &[i32; G]) -> [V::Int; G] {
    let mut vectors = [v.zero(); G];
    for (vector, number) in vectors.iter_mut().zip(numbers) {
        *vector = v.splat(*number);
    }
    vectors
}

/// Adds the products of some groups, the first of which is group `first`. Sums of different tokens do not wait for
/// each other, so neighbours are of different tokens.
#[inline(always)]
fn add_dots<V: Dot, const G: usize>(
    v: V,
    sums: &mut [V::Int; G],
    weights: &[V::Int],
    inputs: &Inputs<'_, G>,
    first: usize,
) {
    for (group, weight) in weights.iter().enumerate() {
        for (token, sum) in sums.iter_mut().enumerate() {
            *sum = v.dot(*sum, *weight, inputs.four(v, token, first + group));
        }
    }
}

/// The instruction in plain code, for tests on processors without it.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct Emulated;

#[cfg(test)]
impl Dot for Avx2<Emulated> {
    fn dot(self, sum: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int {
        let (mut sums, mut unsigned, mut signed) = ([0; 8], [0; 32], [0; 32]);
        self.store_i32(sum, &mut sums);
        self.store_bytes(a, &mut unsigned);
        self.store_bytes(b, &mut signed);
        let products = unsigned.iter().zip(&signed);
        let products = products.map(|(a, b)| i32::from(*a) * i32::from(b.cast_signed()));
        for (lane, product) in products.enumerate() {
            sums[lane / 4] += product;
        }
        self.load_i32(&sums)
    }
}
