//! Products of several matrices with the same input.

use crate::layout::activations::{Activations, Rule};
use crate::layout::{Matrix, TILE_ROWS};
use crate::simd::Kernels;
use crate::workers::{Columns, Workers, split_parts};
use core::ops::Range;

/// Who computes, and with which inner loops.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means<'w> {
    pub(super) kernels: &'static Kernels,
    pub(super) workers: &'w dyn Workers,
}

/// Quantized forms of one input, `[n][columns]`: one for each rule that its matrices follow. Wiped when dropped.
#[derive(Debug, Default)]
pub(super) struct Input {
    forms: [Activations; 3],
}

fn form_of(rule: Rule) -> usize {
    match rule {
        Rule::Block => 0,
        Rule::Super => 1,
        Rule::Wide => 2,
    }
}

impl Input {
    /// Takes `x`, `[n][columns]`, as the input of these matrices.
    pub(super) fn set<const N: usize>(
        &mut self,
        means: Means<'_>,
        x: &[f32],
        matrices: [&Matrix<'_>; N],
    ) {
        let mut is_ready = [false; 3];
        for matrix in matrices {
            let rule = matrix.kind().rule();
            let columns = matrix.columns();
            if !core::mem::replace(&mut is_ready[form_of(rule)], true) {
                let Means { kernels, workers } = means;
                let form = &mut self.forms[form_of(rule)];
                form.quantize(kernels, workers, rule, x, x.len() / columns, columns);
            }
        }
    }

    /// `out[n][rows] = x * matrix^T` for each pair, as one task. Of all tiles in a row, the first pair's first, only
    /// those in `tiles` are computed.
    pub(super) fn multiply<const N: usize>(
        &self,
        means: Means<'_>,
        pairs: [(&Matrix<'_>, &mut [f32]); N],
        tiles: Range<usize>,
    ) {
        let matrices = pairs.each_ref().map(|(matrix, _)| *matrix);
        let mut before = 0;
        let mut parts = pairs.map(|(matrix, out)| {
            let start = tiles.start.saturating_sub(before).min(matrix.tiles());
            let end = tiles.end.saturating_sub(before).min(matrix.tiles());
            before += matrix.tiles();
            Columns::all(out, matrix.rows()).only(columns_of(matrix, start..end))
        });
        split_parts(means.workers, &mut parts, TILE_ROWS, |_, index, out| {
            self.multiply_here(means.kernels, matrices[index], out);
        });
    }

    /// The same for one matrix and some of its columns, on the worker that calls.
    pub(super) fn multiply_here(
        &self,
        kernels: &Kernels,
        matrix: &Matrix<'_>,
        out: Columns<'_, f32>,
    ) {
        let form = &self.forms[form_of(matrix.kind().rule())];
        (kernels.multiply)(matrix, form, out);
    }
}

/// The columns of the output that so many tiles of the matrix compute.
pub(super) fn columns_of(matrix: &Matrix<'_>, tiles: Range<usize>) -> Range<usize> {
    (tiles.start * TILE_ROWS).min(matrix.rows())..(tiles.end * TILE_ROWS).min(matrix.rows())
}
