//! Inner loops for this processor. [`select`] is the one place that chooses; all sets give the same bits.
//!
//! | module | what |
//! |---|---|
//! | [`portable`](self::portable()) | plain Rust: the definition |
//! | `lanes` | the vectors of each instruction set, behind one trait |
//! | `products` | matrix products for any vectors; `avx2` and `vnni` are what differs |
//! | `attention`, `elementwise` | all else, for any vectors |

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions, loads and stores")]
mod x86;

mod portable;

#[cfg(test)]
pub(crate) mod tests;

use crate::layout::activations::{Activations, BlockMut};
use crate::layout::{Matrix, TILE_ROWS};
use crate::ops::{self, SUMS};
use crate::workers::Columns;
use core::ops::Range;

/// Bits by which the high part of a query stands above the low part, see [`Query`].
pub(crate) const QUERY_SPLIT_BITS: u32 = 12;
/// Most tokens in one call of [`Kernels::multiply`].
pub const MAX_BLOCK_TOKENS: usize = 32;
/// Scores beyond this (in units of `2^-16` of a power of two) are as good as infinite.
pub(crate) const SCORE_LIMIT: i64 = 1 << 29;
/// The score of a position that does not exist: further below every other one than any weight reaches.
pub(crate) const NO_SCORE: i32 = -1 << 30;
/// Largest weight of a position, in bits.
const WEIGHT_BITS: u32 = 15;
/// Largest sum of a query's weights before rounding, in bits. With values below `2^11` and at most `2^20` positions,
/// each rounded up by a half, sums stay below `2^31`.
const WEIGHT_SUM_BITS: u32 = 19;

/// See [`Kernels::multiply`].
pub type Multiply = fn(matrix: &Matrix<'_>, activations: &Activations, out: Columns<'_, f32>);
/// See [`Kernels::scores`].
pub(crate) type Scores = fn(query: &Query<'_>, keys: &[i16], exponents: &[i16], out: &mut [i32]);
/// See [`Kernels::soften`].
pub(crate) type Soften = fn(scores: &mut [i32], exponents: &[i16], weights: &mut [i16]) -> Softened;
/// See [`Kernels::weigh`].
pub(crate) type Weigh = fn(weights: &[i16], values: &[i16], out: &mut [i32]);

/// A set of inner loops.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    /// For logs and benchmarks.
    pub name: &'static str,
    /// Matrix product: `out[token][row] = matrix[row] . activations[token]` for 1 to [`MAX_BLOCK_TOKENS`] tokens and
    /// the given columns of `out`, `[tokens][matrix.rows()]`: those of whole tiles.
    ///
    /// Panics when shapes do not fit or the activations follow another rule than the matrix's kind.
    pub multiply: Multiply,
    /// Attention scores of whole groups of 16 positions, in powers of two with 16 fraction bits:
    /// `out[i] = (high . key_i * 2^12 + low . key_i) * 2^(query exponent + exponents[i])`, at most [`SCORE_LIMIT`].
    /// Keys are `[positions / 16][head_dim / 2][16][2]`. Queries are split so that 12-bit halves meet 16-bit keys:
    /// 32-bit sums of 32 products stay in range.
    pub(crate) scores: Scores,
    /// Softmax over whole groups of 16 positions: turns `scores` into weights relative to the largest one, with the
    /// exponents of the values moved into them.
    pub(crate) soften: Soften,
    /// Attention output: `out[d] += sum over positions of weight * value`, values `[positions / 2][head_dim][2]`.
    /// [`Kernels::soften`] bounds the weights so that 32 bits suffice.
    pub(crate) weigh: Weigh,
    /// Quantizes one block of every token.
    pub(crate) quantize: fn(block: &mut BlockMut<'_>),
    /// `gate * sigmoid(gate) * up`, elementwise into `gate`.
    pub(crate) swiglu: fn(gate: &mut [f32], up: &[f32]),
    /// RMSNorm (Zhang and Sennrich 2019): `out = x / sqrt(mean(x^2) + epsilon) * weight`.
    pub(crate) norm: fn(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]),
}

/// The fastest set for this processor, of those whose features CPUID has and whose state the operating system (or our
/// kernel) has enabled.
pub fn select() -> &'static Kernels {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernels) = x86::sets().next() {
        return kernels;
    }
    portable()
}

/// All sets that this processor can run, the fastest one first.
pub fn available() -> impl Iterator<Item = &'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    let sets = x86::sets();
    #[cfg(not(target_arch = "x86_64"))]
    let sets = core::iter::empty();
    sets.chain([portable()])
}

/// The set that runs everywhere.
pub fn portable() -> &'static Kernels {
    &portable::KERNELS
}

/// The query of one head, in two halves: `(high * 2^12 + low) * 2^exponent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'q> {
    /// `[head_dim]`, magnitudes up to 2^11.
    pub(crate) high: &'q [i16],
    /// `[head_dim]`, magnitudes up to 2^11.
    pub(crate) low: &'q [i16],
    pub(crate) exponent: i32,
}

impl Query<'_> {
    /// How far to the right the product with a key goes for a score.
    fn shift(&self, key_exponent: i16) -> u32 {
        let left = self.exponent + i32::from(key_exponent) + ops::EXP2_ARGUMENT_BITS.cast_signed();
        // No query and key of a model are so large that it would go to the left.
        left.saturating_neg().clamp(0, 63).cast_unsigned()
    }

    /// Checks what every [`Kernels::scores`] relies on.
    fn check(&self, keys: &[i16], exponents: &[i16], out: &[i32]) {
        assert!(
            self.low.len() == self.high.len()
                && self.high.len().is_multiple_of(2)
                && out.len().is_multiple_of(TILE_ROWS)
                && exponents.len() == out.len()
                && keys.len() == self.high.len() * out.len(),
            "shapes of scores"
        );
    }
}

/// What [`Kernels::soften`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Softened {
    /// Sum of the unrounded weights, with [`ops::EXP2_RESULT_BITS`] fraction bits.
    pub(crate) total: i64,
    /// The weighted sum of the values has this exponent, relative to the unrounded weights.
    pub(crate) exponent: i32,
}

/// Checks what every [`Kernels::soften`] relies on.
fn check_soften(scores: &[i32], exponents: &[i16], weights: &[i16]) {
    let positions = scores.len();
    assert!(
        positions > 0
            && positions.is_multiple_of(TILE_ROWS)
            && exponents.len() == positions
            && weights.len() == positions,
        "shapes of soften"
    );
}

/// Checks what every [`Kernels::weigh`] relies on.
fn check_weigh(weights: &[i16], values: &[i16], out: &[i32]) {
    assert!(
        weights.len().is_multiple_of(2)
            && values.len() == weights.len() * out.len()
            && out.len().is_multiple_of(16),
        "shapes of weigh"
    );
}

/// How many bits weights lose when they are rounded.
fn weight_shift(largest: i32, sum: i64) -> u32 {
    let bits = |value: i64| i64::BITS - value.leading_zeros();
    let largest = bits(i64::from(largest)).saturating_sub(WEIGHT_BITS);
    let drop = largest.max(bits(sum).saturating_sub(WEIGHT_SUM_BITS));
    // Nothing of a weight is left then but a 1 for the largest ones.
    drop.min(ops::EXP2_RESULT_BITS)
}

/// A weight without its low `drop` bits (up to 30), rounded.
fn rounded(weight: i32, drop: u32) -> i16 {
    let half = (1 << drop) >> 1;
    ((weight + half) >> drop).min(i32::from(i16::MAX)) as i16
}

/// What [`Kernels::norm`] multiplies `length` numbers with, the sum of whose squares is that of `sums`.
fn norm_scale(sums: [f32; SUMS], length: usize, epsilon: f32) -> f32 {
    1.0 / libm::sqrtf(ops::sum_of_16(sums) / length as f32 + epsilon)
}

/// Checks what every [`Kernels::multiply`] relies on; returns the tiles whose rows are the columns of `out`.
fn tiles_of(
    matrix: &Matrix<'_>,
    activations: &Activations,
    out: &Columns<'_, f32>,
) -> Range<usize> {
    let tokens = activations.tokens();
    assert!(
        (1..=MAX_BLOCK_TOKENS).contains(&tokens),
        "{tokens} tokens in a block"
    );
    assert_eq!(activations.columns(), matrix.columns(), "columns");
    assert_eq!(
        activations.rule(),
        Some(matrix.kind().rule()),
        "quantization rule"
    );
    assert_eq!(
        (out.rows(), out.width()),
        (tokens, matrix.rows()),
        "outputs"
    );
    let Range { start, end } = out.range();
    assert!(
        start.is_multiple_of(TILE_ROWS) && (end.is_multiple_of(TILE_ROWS) || end == matrix.rows()),
        "rows {start}..{end} are no whole tiles"
    );
    start / TILE_ROWS..end.div_ceil(TILE_ROWS)
}
