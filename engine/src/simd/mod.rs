//! Inner loops for this processor. [`select`] is the one place that chooses; all sets give the same bits.

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vector loads and stores, and calls into code for a processor feature"
)]
mod avx2;
mod portable;

#[cfg(test)]
pub(crate) mod tests;

use crate::layout::activations::Activations;
use crate::layout::{Matrix, TILE_ROWS};
use crate::workers::Columns;
use core::ops::Range;

/// Bits by which the high part of a query stands above the low part, see [`Kernels::scores`].
pub const QUERY_SPLIT_BITS: u32 = 12;
/// Most tokens in one call of [`Kernels::multiply`].
pub const MAX_BLOCK_TOKENS: usize = 16;

/// See [`Kernels::multiply`].
pub type Multiply = fn(matrix: &Matrix<'_>, activations: &Activations, out: Columns<'_, f32>);
/// See [`Kernels::scores`].
pub type Scores = fn(high: &[i16], low: &[i16], keys: &[i16], out: &mut [i64]);
/// See [`Kernels::weigh`].
pub type Weigh = fn(weights: &[i16], values: &[i16], out: &mut [i32]);

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
    /// Attention scores: `out[i] = (high . key_i) * 2^12 + low . key_i` for keys `[positions][head_dim]`. Queries are
    /// split so that 12-bit halves meet 16-bit keys: 32-bit sums of 32 products, all that one lane takes at the
    /// largest head, stay in range.
    pub scores: Scores,
    /// Attention output: `out[d] += sum over positions of weight * value`, values `[positions / 2][head_dim][2]`.
    /// The caller bounds the weights so that 32 bits suffice.
    pub weigh: Weigh,
}

/// The fastest set for this processor: AVX2 when CPUID has it and the operating system (or we) enabled its state.
pub fn select() -> &'static Kernels {
    // Miri interprets neither CPUID nor these instructions.
    #[cfg(target_arch = "x86_64")]
    if !cfg!(miri)
        && let Some(kernels) = avx2::kernels()
    {
        return kernels;
    }
    portable()
}

/// The set that runs everywhere.
pub fn portable() -> &'static Kernels {
    &portable::KERNELS
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
