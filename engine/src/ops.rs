//! Elementwise arithmetic of the transformer. Floats only where integers would not do: under emulation one float
//! operation costs as much as 25 int8 multiply-adds.

/// `value * 2^exponent`, rounded to nearest even; zero below the smallest normal number, the largest number above it.
pub(crate) fn scaled_f32(value: i64, exponent: i32) -> f32 {
    if value == 0 {
        return 0.0;
    }
    let magnitude = value.unsigned_abs();
    let length = 64 - magnitude.leading_zeros();
    // 24 bits of magnitude, the leading one among them.
    let (mut fraction, mut power) = if length <= 24 {
        ((magnitude << (24 - length)) as u32, length as i32 - 24)
    } else {
        let drop = length - 24;
        let odd = magnitude >> drop & 1;
        // No overflow: |i64| leaves the top bit free.
        (
            ((magnitude + (1 << (drop - 1)) - 1 + odd) >> drop) as u32,
            drop as i32,
        )
    };
    if fraction >> 24 != 0 {
        fraction >>= 1;
        power += 1;
    }
    let biased = exponent.saturating_add(power + 23 + 127);
    let sign = if value < 0 { 1 << 31 } else { 0 };
    match biased {
        ..=0 => 0.0,
        1..=254 => f32::from_bits(sign | (biased as u32) << 23 | fraction & 0x7f_ffff),
        _ => f32::MAX.copysign(value.signum() as f32),
    }
}

/// Fraction bits of [`exp2_neg`]'s argument.
pub(crate) const EXP2_ARGUMENT_BITS: u32 = 16;
/// Fraction bits of [`exp2_neg`]'s result.
pub(crate) const EXP2_RESULT_BITS: u32 = 40;

/// `2^(-i / 256)` for `i` in 0..=256, with 40 fraction bits.
static EXP2_TABLE: [u64; 257] = exp2_table();

const fn exp2_table() -> [u64; 257] {
    const ONE: u128 = 1 << 62;
    // Eight square roots of 1/2 give 2^(-1/256).
    let mut step = ONE / 2;
    let mut halvings = 0;
    while halvings < 8 {
        step = (step << 62).isqrt();
        halvings += 1;
    }
    let mut table = [0; 257];
    let mut value = ONE;
    let mut index = 0;
    while index < 257 {
        table[index] = (value >> (62 - EXP2_RESULT_BITS)) as u64;
        value = (value * step) >> 62;
        index += 1;
    }
    table
}

/// `2^-x` for a fixed-point `x >= 0`: argument with 16 fraction bits, result with 40. Relative error below `2^-19`
/// as long as the result has 20 bits.
pub(crate) fn exp2_neg(x: u64) -> u64 {
    let whole = x >> EXP2_ARGUMENT_BITS;
    if whole > u64::from(EXP2_RESULT_BITS) {
        return 0;
    }
    let index = (x >> 8 & 0xff) as usize;
    let (upper, lower) = (EXP2_TABLE[index], EXP2_TABLE[index + 1]);
    (upper - (((upper - lower) * (x & 0xff)) >> 8)) >> whole
}

/// `gate * sigmoid(gate) * up`, elementwise into `gate`.
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        // e^-|gate|
        let power = scaled_f32(
            exp2_neg(log2_argument(*gate)).cast_signed(),
            -(EXP2_RESULT_BITS as i32),
        );
        let numerator = if gate.is_sign_negative() { power } else { 1.0 };
        *gate *= numerator / (1.0 + power) * up;
    }
}

/// `|x| * log2(e)` with [`EXP2_ARGUMENT_BITS`] fraction bits, from the bits of the float; at least 128 counts as 128.
fn log2_argument(x: f32) -> u64 {
    const LOG2_E: u64 = 1_549_082_005; // log2(e) * 2^30
    let bits = x.to_bits();
    let exponent = bits >> 23 & 0xff;
    if exponent >= 127 + 7 {
        return 128 << EXP2_ARGUMENT_BITS;
    }
    let mantissa = u64::from(bits & 0x7f_ffff | 0x80_0000);
    // mantissa * 2^(exponent - 150) * LOG2_E * 2^-30 * 2^16
    (mantissa * LOG2_E).checked_shr(164 - exponent).unwrap_or(0)
}

/// RMSNorm (Zhang and Sennrich 2019): `out = x / sqrt(mean(x^2) + epsilon) * weight`.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    // Eight partial sums, so that the compiler may keep them in one vector.
    let mut sums = [0.0f32; 8];
    let (eights, rest) = x.as_chunks::<8>();
    for eight in eights {
        for (sum, x) in sums.iter_mut().zip(eight) {
            *sum += x * x;
        }
    }
    let total: f32 = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    let scale = 1.0 / libm::sqrtf(total / x.len() as f32 + epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
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
    pub(crate) turns: alloc::vec::Vec<(f32, f32)>,
}

impl Rotation {
    /// Rotary position embedding (Su et al. 2021) of `position`: pair `i` turns by `position * base^(-2i / head_dim)`.
    pub(crate) fn set(&mut self, position: usize, frequencies: &[f32]) {
        self.turns.clear();
        self.turns.extend(frequencies.iter().map(|frequency| {
            let angle = position as f32 * frequency;
            (libm::cosf(angle), libm::sinf(angle))
        }));
    }

    /// Turns one head in place; the pairs are `(i, i + head_dim / 2)`.
    pub(crate) fn apply(&self, head: &mut [f32]) {
        let (first, second) = head.split_at_mut(head.len() / 2);
        for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(&self.turns) {
            (*first, *second) = (*first * cos - *second * sin, *first * sin + *second * cos);
        }
    }
}

/// `base^(-2i / head_dim)` for each pair `i` of a head.
pub(crate) fn rope_frequencies(base: f32, head_dim: usize) -> alloc::vec::Vec<f32> {
    (0..head_dim / 2)
        .map(|pair| 1.0 / libm::powf(base, 2.0 * pair as f32 / head_dim as f32))
        .collect()
}

#[cfg(test)]
mod tests;
