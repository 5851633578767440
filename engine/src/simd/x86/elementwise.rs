//! Norms, activation functions and quantization, for any vectors.

use super::attention::exp2_fraction;
use super::lanes::Lanes;
use crate::layout::BLOCK;
use crate::layout::activations::{BlockMut, ROUND};
use crate::ops::{
    self, EXP2_ARGUMENT_BITS, EXP2_RESULT_BITS, EXPONENTIAL_LIMIT, SCALED_LOG2_E, SUMS,
};
use crate::simd::norm_scale;

/// See [`crate::simd::Kernels::quantize`].
#[inline(always)]
pub(super) fn quantize<V: Lanes>(v: V, block: &mut BlockMut<'_>) {
    block.quantize(
        |x| largest(v, x),
        |x, inverse, quants| round(v, x, inverse, quants),
        |quants| v.quant_sums(quants),
    );
}

/// The bits of the largest magnitude; `x` are whole vectors.
#[inline(always)]
fn largest<V: Lanes>(v: V, x: &[f32]) -> u32 {
    let magnitude = v.splat(0x7fff_ffff);
    let mut top = v.zero();
    for x in x.chunks_exact(V::LANES) {
        top = v.max(top, v.and(v.bits(v.load_f32(x)), magnitude));
    }
    v.largest(top).cast_unsigned()
}

/// `quants[i] = x[i] * inverse`, rounded; `x` are whole vectors.
#[inline(always)]
fn round<V: Lanes>(v: V, x: &[f32], inverse: f32, quants: &mut [i8; BLOCK]) {
    let (inverse, round) = (v.splat_f32(inverse), v.splat_f32(ROUND));
    for (x, quants) in x
        .chunks_exact(V::LANES)
        .zip(quants.chunks_exact_mut(V::LANES))
    {
        let x = v.add_f32(v.mul_f32(v.load_f32(x), inverse), round);
        v.store_low_i8(v.bits(x), quants);
    }
}

/// See [`crate::simd::Kernels::swiglu`].
#[inline(always)]
pub(super) fn swiglu<V: Lanes>(v: V, gate: &mut [f32], up: &[f32]) {
    let round = v.splat_f32(ROUND);
    let sign = v.splat(i32::MIN);
    let one = v.splat_f32(1.0);
    let mut gates = gate.chunks_exact_mut(V::LANES);
    let mut ups = up.chunks_exact(V::LANES);
    for (gate, up) in (&mut gates).zip(&mut ups) {
        let (g, up) = (v.load_f32(gate), v.load_f32(up));
        let bits = v.bits(g);
        let magnitude = v.as_floats(v.and(bits, v.splat(i32::MAX)));
        let x = v.mul_f32(magnitude, v.splat_f32(SCALED_LOG2_E));
        let x = v.add_f32(v.min_f32(x, v.splat_f32(EXPONENTIAL_LIMIT)), round);
        let x = v.sub(v.bits(x), v.bits(round));
        // The argument is not negative and below 63, so the exponent needs no limits.
        let whole = v.shr_each(x, v.splat(EXP2_ARGUMENT_BITS.cast_signed()));
        let exponent = v.sub(v.splat(127 - EXP2_RESULT_BITS.cast_signed()), whole);
        let factor = v.as_floats(v.shl::<23>(exponent));
        let power = v.mul_f32(v.to_f32(exp2_fraction(v, x)), factor);
        let negative = v.and(bits, sign);
        let numerator = v.if_not_zero(negative, v.bits(power), v.bits(one));
        let sigmoid = v.div_f32(v.as_floats(numerator), v.add_f32(one, power));
        v.store_f32(v.mul_f32(g, v.mul_f32(sigmoid, up)), gate);
    }
    for (gate, up) in gates.into_remainder().iter_mut().zip(ups.remainder()) {
        *gate = ops::swiglu(*gate, *up);
    }
}

/// See [`crate::simd::Kernels::norm`].
#[inline(always)]
pub(super) fn norm<V: Lanes>(v: V, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let (sixteens, rest) = x.as_chunks::<SUMS>();
    let mut vectors = [v.splat_f32(0.0); 2];
    for x in sixteens {
        for (index, x) in x.chunks_exact(V::LANES).enumerate() {
            let x = v.load_f32(x);
            vectors[index] = v.add_f32(vectors[index], v.mul_f32(x, x));
        }
    }
    let mut sums = [0.0; SUMS];
    for (sums, vector) in sums.chunks_exact_mut(V::LANES).zip(vectors) {
        v.store_f32(vector, sums);
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x * x;
    }
    let scale = norm_scale(sums, x.len(), epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}
