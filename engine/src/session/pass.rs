//! A pass: up to 32 tokens of any sequences on their way through the model, in pieces of bounded work.
//!
//! Rows are independent of each other, and each number is computed in one order of operations, so what comes out for
//! one row depends neither on the others nor on how the work is cut. [`Pass::advance`] is the transformer.

use super::budget::Budget;
use super::product::{Input, Means, columns_of};
use super::sequence::Sequence;
use crate::layout::{Matrix, TILE_ROWS, row_to_f32};
use crate::model::{Layer, Model};
use crate::ops::{Rotation, add};
use crate::pack::Config;
use crate::simd::MAX_BLOCK_TOKENS;
use crate::wiped::fit;
use crate::workers::{Columns, split_columns, split_parts};
use alloc::vec::Vec;
use core::ops::Range;
use spin::Mutex;
use zeroize::{Zeroize, Zeroizing};

use super::attention::{HEADS, Scratch};

/// As many products take the time of one position in the softmax of one head, about. It is scalar work, which weighs
/// most where a processor is emulated; there steps are longest.
const SOFTMAX_PRODUCTS: usize = 128;

/// One token in a pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) slot: usize,
    pub(super) position: usize,
    /// Whether its sequence has ended meanwhile: the row is carried along, and nothing looks at it.
    pub(super) is_gone: bool,
}

/// What is computed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `x = embedding[token]`
    Embed,
    /// `y = norm(x)`; query, key and value of `y`
    Project,
    /// keys and values are stored; `attended = attention(query)`
    Attend,
    /// `x += attention_output * attended`
    Output,
    /// `y = norm(x)`; `gate_up[0] = silu(gate * y) * (up * y)`
    Gate,
    /// `x += down * gate_up[0]`
    Down,
    /// `logits = output * norm(x)`, of the rows whose sequences have no further token
    Head,
}

/// The rows of a pass, where it stands, and its buffers; `n` is the number of rows.
#[derive(Debug)]
pub(super) struct Pass {
    /// Empty between passes.
    pub(super) rows: Vec<Row>,
    /// The rows whose logits are computed.
    pub(super) heads: Vec<usize>,
    stage: Stage,
    layer: usize,
    /// Units of the stage that are done: tiles of matrices, or rows.
    done: usize,
    /// `[n][dim]`: the residual stream.
    x: Zeroizing<Vec<f32>>,
    /// `[n][dim]`: its normalized copy, and what a sub-layer adds to it. In the end `[heads][dim]`.
    y: Zeroizing<Vec<f32>>,
    /// `[n][q_dim]`
    query: Zeroizing<Vec<f32>>,
    /// `[n][kv_dim]`
    key: Zeroizing<Vec<f32>>,
    /// `[n][kv_dim]`
    value: Zeroizing<Vec<f32>>,
    /// `[n][q_dim]`
    attended: Zeroizing<Vec<f32>>,
    /// `[2][n][hidden]`
    gate_up: Zeroizing<Vec<f32>>,
    /// `[heads][vocabulary]`
    logits: Zeroizing<Vec<f32>>,
    /// `[n]`
    rotations: Vec<Rotation>,
    input: Input,
    /// One for each worker, which alone locks it.
    scratch: Vec<Mutex<Scratch>>,
}

impl Pass {
    /// Buffers for passes of a batch of so many sequences.
    pub(super) fn new(model: &Model<'_>, sequences: usize) -> Self {
        let config = model.config();
        let rows = |width| Zeroizing::new(Vec::with_capacity(MAX_BLOCK_TOKENS * width));
        let (q_dim, kv_dim) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        Self {
            rows: Vec::with_capacity(MAX_BLOCK_TOKENS),
            heads: Vec::with_capacity(MAX_BLOCK_TOKENS),
            stage: Stage::Embed,
            layer: 0,
            done: 0,
            x: rows(config.dim),
            y: rows(config.dim),
            query: rows(q_dim),
            key: rows(kv_dim),
            value: rows(kv_dim),
            attended: rows(q_dim),
            gate_up: rows(2 * config.hidden),
            logits: Zeroizing::new(Vec::with_capacity(sequences * config.vocabulary)),
            rotations: Vec::with_capacity(MAX_BLOCK_TOKENS),
            input: Input::default(),
            scratch: (0..model.workers.count())
                .map(|_| Mutex::default())
                .collect(),
        }
    }

    /// Begins a pass of these rows.
    pub(super) fn begin(&mut self, rows: impl Iterator<Item = Row>) {
        self.rows.clear();
        self.rows.extend(rows);
        self.heads.clear();
        (self.stage, self.layer, self.done) = (Stage::Embed, 0, 0);
    }

    /// Does the next piece of work; returns whether that was the last one of the pass.
    pub(super) fn advance(
        &mut self,
        model: &Model<'_>,
        means: Means<'_>,
        sequences: &mut [Option<Sequence>],
        budget: &mut Budget,
    ) -> bool {
        let n = self.rows.len();
        let hidden = model.config().hidden;
        let layer = &model.layers[self.layer];
        let (units, products) = self.extent(model);
        let piece = budget.take(self.done..units, |unit| match self.stage {
            Stage::Attend => attention_products(model.config(), self.rows[unit].position + 1),
            _ => products,
        });
        let (is_first, is_last) = (piece.start == 0, piece.end == units);
        self.done = piece.end;
        match self.stage {
            Stage::Embed => self.embed(model, sequences, piece),
            Stage::Project => {
                if is_first {
                    self.normalize(model, means, &layer.attention_norm);
                    self.input.set(means, &self.y, layer.projections());
                }
                self.project(layer, means, piece);
            }
            Stage::Attend => {
                if is_first {
                    self.store(layer, model.config(), sequences);
                }
                self.attend(model.config(), means, sequences, piece);
            }
            Stage::Output => {
                if is_first {
                    self.input
                        .set(means, &self.attended, [&layer.attention_output]);
                }
                let pairs = [(&layer.attention_output, &mut self.y[..])];
                self.input.multiply(means, pairs, piece);
                if is_last {
                    add(&mut self.x, &self.y);
                }
            }
            Stage::Gate => {
                if is_first {
                    self.normalize(model, means, &layer.feed_forward_norm);
                    self.input.set(means, &self.y, [&layer.gate, &layer.up]);
                    fit(&mut self.gate_up, 2 * n * hidden);
                }
                self.gate(layer, means, piece);
            }
            Stage::Down => {
                if is_first {
                    self.input
                        .set(means, &self.gate_up[..n * hidden], [&layer.down]);
                }
                let pairs = [(&layer.down, &mut self.y[..])];
                self.input.multiply(means, pairs, piece);
                if is_last {
                    add(&mut self.x, &self.y);
                }
            }
            Stage::Head => {
                if is_first {
                    self.normalize_heads(model, means);
                    self.input.set(means, &self.y, [&model.output]);
                    fit(&mut self.logits, self.heads.len() * model.output.rows());
                }
                let pairs = [(&model.output, &mut self.logits[..])];
                self.input.multiply(means, pairs, piece);
            }
        }
        is_last && self.is_over_after(model, sequences)
    }

    /// Units of the current stage, and products of one of them where all are equal.
    fn extent(&self, model: &Model<'_>) -> (usize, usize) {
        let layer = &model.layers[self.layer];
        let tiles = |matrices: &[&Matrix<'_>]| matrices.iter().map(|matrix| matrix.tiles()).sum();
        let n = self.rows.len();
        let of_tile = |matrix: &Matrix<'_>, n: usize| n * TILE_ROWS * matrix.columns();
        match self.stage {
            Stage::Embed => (n, model.config().dim),
            Stage::Project => (tiles(&layer.projections()), of_tile(&layer.query, n)),
            Stage::Attend => (n, 0),
            Stage::Output => (
                tiles(&[&layer.attention_output]),
                of_tile(&layer.attention_output, n),
            ),
            Stage::Gate => (tiles(&[&layer.gate]), 2 * of_tile(&layer.gate, n)),
            Stage::Down => (tiles(&[&layer.down]), of_tile(&layer.down, n)),
            Stage::Head => (
                tiles(&[&model.output]),
                of_tile(&model.output, self.heads.len()),
            ),
        }
    }

    /// Goes to the next stage; true if there is none.
    fn is_over_after(&mut self, model: &Model<'_>, sequences: &[Option<Sequence>]) -> bool {
        self.done = 0;
        self.stage = match self.stage {
            Stage::Embed => Stage::Project,
            Stage::Project => Stage::Attend,
            Stage::Attend => Stage::Output,
            Stage::Output => Stage::Gate,
            Stage::Gate => Stage::Down,
            Stage::Down if self.layer + 1 < model.layers.len() => {
                self.layer += 1;
                Stage::Project
            }
            Stage::Down => {
                self.choose_heads(sequences);
                if self.heads.is_empty() {
                    return true;
                }
                Stage::Head
            }
            Stage::Head => return true,
        };
        false
    }

    /// The rows of sequences that have no further token.
    fn choose_heads(&mut self, sequences: &[Option<Sequence>]) {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| {
            let sequence = sequences[row.slot].as_ref();
            !row.is_gone
                && sequence.is_some_and(|sequence| sequence.tokens.len() == row.position + 1)
        });
        self.heads.extend(rows.map(|(index, _)| index));
    }

    /// `x[n][dim] = embedding[token]`
    fn embed(&mut self, model: &Model<'_>, sequences: &[Option<Sequence>], rows: Range<usize>) {
        let dim = model.config().dim;
        fit(&mut self.x, self.rows.len() * dim);
        self.rotations
            .resize_with(self.rows.len(), Rotation::default);
        for index in rows {
            let row = &self.rows[index];
            self.rotations[index].set(row.position, &model.rope_frequencies);
            if let Some(sequence) = of_row(sequences, row) {
                let token = sequence.tokens[row.position] as usize;
                row_to_f32(&model.embedding, token, &mut self.x[index * dim..][..dim]);
            }
        }
    }

    /// `y[n][dim] = norm(x)`
    fn normalize(&mut self, model: &Model<'_>, means: Means<'_>, weight: &[f32]) {
        let &Config {
            dim, norm_epsilon, ..
        } = model.config();
        let (x, all) = (&self.x, self.x.len());
        fit(&mut self.y, all);
        let normalize = |mut y: Columns<'_, f32>| {
            let x = &x[y.range()];
            for (x, y) in x.chunks_exact(dim).zip(y.row(0).chunks_exact_mut(dim)) {
                (means.kernels.norm)(x, weight, norm_epsilon, y);
            }
        };
        if self.rows.len() == 1 {
            return normalize(Columns::all(&mut self.y, all));
        }
        split_columns(means.workers, &mut self.y, all, dim, |_, y| normalize(y));
    }

    /// `query`, `key` and `value`, the columns of some tiles
    fn project(&mut self, layer: &Layer<'_>, means: Means<'_>, tiles: Range<usize>) {
        let [query, key, value] = layer.projections();
        if tiles.start == 0 {
            let n = self.rows.len();
            fit(&mut self.query, n * query.rows());
            fit(&mut self.key, n * key.rows());
            fit(&mut self.value, n * value.rows());
        }
        let pairs = [
            (query, &mut self.query[..]),
            (key, &mut self.key[..]),
            (value, &mut self.value[..]),
        ];
        self.input.multiply(means, pairs, tiles);
    }

    /// Biases; rotates queries and keys; stores keys and values.
    fn store(&mut self, layer: &Layer<'_>, config: &Config, sequences: &mut [Option<Sequence>]) {
        add_bias(&mut self.query, layer.query_bias.as_deref());
        add_bias(&mut self.key, layer.key_bias.as_deref());
        add_bias(&mut self.value, layer.value_bias.as_deref());
        let rows = self
            .rows
            .iter()
            .zip(&self.rotations)
            .zip(self.query.chunks_exact_mut(layer.query.rows()))
            .zip(self.key.chunks_exact_mut(layer.key.rows()))
            .zip(self.value.chunks_exact(layer.value.rows()));
        for ((((row, rotation), query), key), value) in rows {
            query
                .chunks_exact_mut(config.head_dim)
                .chain(key.chunks_exact_mut(config.head_dim))
                .for_each(|head| rotation.apply(head));
            if let (false, Some(sequence)) = (row.is_gone, &mut sequences[row.slot]) {
                sequence.cache.store(self.layer, row.position, key, value);
            }
        }
        fit(&mut self.attended, self.query.len());
        fit(&mut self.y, self.x.len());
    }

    /// `attended[n][q_dim]`, some of the rows: each head's attention over its sequence up to its own position.
    fn attend(
        &mut self,
        config: &Config,
        means: Means<'_>,
        sequences: &[Option<Sequence>],
        piece: Range<usize>,
    ) {
        let &Config {
            heads,
            kv_heads,
            head_dim,
            ..
        } = config;
        // Here, so that workers need no memory.
        let positions = self.rows[piece.clone()].iter().map(|row| row.position + 1);
        let most = positions.max().unwrap_or_default();
        for scratch in &mut self.scratch {
            scratch.get_mut().reserve(most, head_dim);
        }
        // Query heads with the same keys and values.
        let group = heads / kv_heads;
        let numbers = piece.start * heads * head_dim..piece.end * heads * head_dim;
        let rows = &self.rows[piece];
        let (query, scratch) = (&self.query[numbers.clone()], &self.scratch);
        let attend = |worker: usize, mut out: Columns<'_, f32>| {
            let mut scratch = scratch[worker].lock();
            let numbers = out.range();
            let mut query = &query[numbers.clone()];
            let mut out = out.row(0);
            let mut unit = numbers.start / head_dim;
            while !query.is_empty() {
                // As many heads as share keys and values, are here, and are done together.
                let (row, kv_head) = (&rows[unit / heads], unit % heads / group);
                let count = (group - unit % group).min(HEADS);
                let length = (count * head_dim).min(query.len());
                let (these, others) = query.split_at(length);
                let (results, rest) = out.split_at_mut(length);
                match of_row(sequences, row) {
                    Some(Sequence { cache, .. }) => scratch.attend(
                        means.kernels,
                        cache,
                        (self.layer, kv_head),
                        (these, head_dim),
                        row.position + 1,
                        results,
                    ),
                    None => results.fill(0.0),
                }
                (query, out) = (others, rest);
                unit += length / head_dim;
            }
        };
        let out = &mut self.attended[numbers];
        let width = out.len();
        split_columns(means.workers, out, width, head_dim, attend);
    }

    /// `gate_up[0] = silu(gate * y) * (up * y)`, the columns of some tiles
    fn gate(&mut self, layer: &Layer<'_>, means: Means<'_>, tiles: Range<usize>) {
        let (n, input) = (self.rows.len(), &self.input);
        let columns = columns_of(&layer.gate, tiles);
        let mut parts = [Columns::all(&mut self.gate_up, layer.gate.rows()).only(columns)];
        split_parts(means.workers, &mut parts, TILE_ROWS, |_, _, mut both| {
            let (gate, up) = both.split_rows(n);
            input.multiply_here(means.kernels, &layer.gate, gate);
            input.multiply_here(means.kernels, &layer.up, up);
            let (mut gate, mut up) = both.split_rows(n);
            (0..n).for_each(|row| (means.kernels.swiglu)(gate.row(row), up.row(row)));
        });
    }

    /// `y[heads][dim] = norm(x)`
    fn normalize_heads(&mut self, model: &Model<'_>, means: Means<'_>) {
        let &Config {
            dim, norm_epsilon, ..
        } = model.config();
        fit(&mut self.y, self.heads.len() * dim);
        for (head, y) in self.heads.iter().zip(self.y.chunks_exact_mut(dim)) {
            let x = &self.x[head * dim..][..dim];
            (means.kernels.norm)(x, &model.output_norm, norm_epsilon, y);
        }
    }

    /// Ignores the rows of a sequence that has ended; returns whether that were the last ones of a pass.
    pub(super) fn forget(&mut self, slot: usize) -> bool {
        for row in self.rows.iter_mut().filter(|row| row.slot == slot) {
            row.is_gone = true;
        }
        !self.rows.is_empty() && self.rows.iter().all(|row| row.is_gone)
    }

    /// The logits of head `index`, `[vocabulary]`.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        let vocabulary = self.logits.len() / self.heads.len();
        &self.logits[index * vocabulary..][..vocabulary]
    }

    /// Forgets the logits of head `index`.
    pub(super) fn wipe_logits(&mut self, index: usize) {
        let vocabulary = self.logits.len() / self.heads.len();
        self.logits[index * vocabulary..][..vocabulary].zeroize();
    }

    /// Wipes every buffer but the logits.
    pub(super) fn wipe_rows(&mut self) {
        for buffer in [
            &mut self.x,
            &mut self.y,
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.attended,
            &mut self.gate_up,
        ] {
            buffer.zeroize();
        }
        self.rotations.clear();
        self.input = Input::default();
        for scratch in &mut self.scratch {
            *scratch.get_mut() = Scratch::default();
        }
    }

    /// Wipes every buffer; a pass that was under way is over.
    pub(super) fn wipe(&mut self) {
        self.rows.clear();
        self.heads.clear();
        self.wipe_rows();
        self.logits.zeroize();
    }
}

/// The sequence of a row, unless it has ended: another may have taken its slot.
fn of_row<'s>(sequences: &'s [Option<Sequence>], row: &Row) -> Option<&'s Sequence> {
    sequences[row.slot].as_ref().filter(|_| !row.is_gone)
}

fn attention_products(config: &Config, positions: usize) -> usize {
    config.heads * positions * (2 * config.head_dim + SOFTMAX_PRODUCTS)
}

fn add_bias(x: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        x.chunks_exact_mut(bias.len()).for_each(|x| add(x, bias));
    }
}
