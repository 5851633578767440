//! Products with an instruction that multiplies four unsigned bytes with four signed ones and adds the products to a
//! 32-bit sum (`VPDPBUSD`).
//!
//! The zero point is taken off by where a sum begins: at minus the zero point times the sum of the activations.
//!
//! Sub-scales of super-blocks multiply sums that fit 16 bits, in the low half of each lane, with one multiply-add of
//! pairs (`VPDPWSSD`), whose other half meets a zero:
//!
//! | weights | columns | bound |
//! |---|---|---|
//! | -8..=7 | 32 | 8 * 127 * 32 = 32,512 |
//! | -32..=31 | 8 | 32 * 127 * 8 = 32,512 |

use super::lanes::Dot;
use super::products::{BYTE, FIVE, Inputs, NIBBLE_MIN, Products};

impl<V: Dot> Products for V {
    #[inline(always)]
    fn block<const KIND: u8>(self, weights: &[V::Int; 8], inputs: &Inputs<'_>) -> V::Int {
        // -8 times the sum.
        let zero = self.splat(inputs.zero);
        let start = match KIND {
            NIBBLE_MIN => self.zero(),
            FIVE => self.shl::<1>(zero),
            BYTE => self.shl::<4>(zero),
            _ => zero,
        };
        dots(self, start, weights, inputs, 0)
    }

    #[inline(always)]
    fn scaled_nibbles(
        self,
        total: V::Int,
        weights: &[V::Int; 8],
        inputs: &Inputs<'_>,
        factor: V::Int,
    ) -> V::Int {
        let sum = dots(self, self.splat(inputs.zero), weights, inputs, 0);
        self.madd_add(total, sum, factor)
    }

    #[inline(always)]
    fn without_zero(self, total: V::Int, factors: V::Int, eights: V::Int) -> V::Int {
        self.madd_add(total, factors, eights)
    }

    #[inline(always)]
    fn scaled_six(
        self,
        mut total: V::Int,
        weights: &[V::Int; 8],
        inputs: &Inputs<'_>,
        factors: [V::Int; 2],
    ) -> V::Int {
        for (eight, weights) in weights.as_chunks::<2>().0.iter().enumerate() {
            let start = self.splat(inputs.zeros_of_8[eight]);
            let sum = dots(self, start, weights, inputs, 2 * eight);
            total = self.madd_add(total, sum, factors[eight / 2]);
        }
        total
    }
}

/// `sum` and the products of some groups, the first of which is group `first`.
#[inline(always)]
fn dots<V: Dot>(
    v: V,
    mut sum: V::Int,
    weights: &[V::Int],
    inputs: &Inputs<'_>,
    first: usize,
) -> V::Int {
    for (group, weight) in weights.iter().enumerate() {
        sum = v.dot(sum, *weight, inputs.four(v, first + group));
    }
    sum
}
