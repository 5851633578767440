//! One sequence of tokens through a model, advanced in short steps so that the caller can do other things between
//! them.

mod attention;
mod kv;

#[cfg(test)]
mod tests;

use crate::layout::activations::{Activations, Rule};
use crate::layout::{Matrix, TILE_ROWS, row_to_f32};
use crate::model::{Layer, Model};
use crate::ops::{Rotation, add};
use crate::pack::Config;
use crate::simd::{self, Kernels, MAX_BLOCK_TOKENS};
use crate::wiped::fit;
use crate::workers::{Columns, MAX_WORKERS, Workers, split_columns};
use alloc::vec::Vec;
use attention::Scratch;
use core::fmt;
use kv::{KvCache, SEGMENT};
use spin::Mutex;
use zeroize::{Zeroize, Zeroizing};

/// Why tokens cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// More tokens than the session was made for.
    Full {
        /// Most tokens that it takes.
        capacity: usize,
    },
    /// A token id that the model does not have.
    UnknownToken {
        /// The id.
        token: u32,
    },
    /// No memory for the next positions' keys and values.
    OutOfMemory,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => write!(f, "sequence is longer than {capacity} tokens"),
            Self::UnknownToken { token } => {
                write!(f, "token {token} is not in the model's vocabulary")
            }
            Self::OutOfMemory => f.write_str("no memory for keys and values"),
        }
    }
}

impl core::error::Error for SessionError {}

/// What a call of [`Session::step`] did.
#[derive(Debug, PartialEq)]
pub enum Step<'s> {
    /// A part of the queued tokens' work; both numbers count half layers of blocks of tokens.
    Working {
        /// Steps done since the last logits.
        done: usize,
        /// Steps until the next logits, the done ones included.
        total: usize,
    },
    /// All queued tokens are processed: logits of the token that follows, `[vocabulary]`. The next call needs more
    /// tokens first.
    Logits(&'s [f32]),
    /// Nothing is queued.
    Idle,
}

/// Where the current block of tokens stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Embed,
    Attention { layer: usize },
    FeedForward { layer: usize },
    Head,
}

/// One sequence. Its memory is wiped when it is dropped.
#[derive(Debug)]
pub struct Session {
    kernels: &'static Kernels,
    capacity: usize,
    /// Every token so far; those from `position` on are not processed yet.
    tokens: Zeroizing<Vec<u32>>,
    position: usize,
    phase: Phase,
    done: usize,
    total: usize,
    cache: KvCache,
    state: State,
}

/// Buffers of a block of tokens; `n` is the number of tokens in it.
#[derive(Debug, Default)]
struct State {
    /// `[n][dim]`: the residual stream.
    x: Zeroizing<Vec<f32>>,
    /// `[n][dim]`: its normalized copy, and what a sub-layer adds to it.
    y: Zeroizing<Vec<f32>>,
    /// `[n][q_dim]`
    query: Zeroizing<Vec<f32>>,
    /// `[n][kv_dim]`
    key: Zeroizing<Vec<f32>>,
    /// `[n][kv_dim]`
    value: Zeroizing<Vec<f32>>,
    /// `[n][q_dim]`
    attended: Zeroizing<Vec<f32>>,
    /// `[n][hidden]`
    gate: Zeroizing<Vec<f32>>,
    /// `[n][hidden]`
    up: Zeroizing<Vec<f32>>,
    /// `[vocabulary]`
    logits: Zeroizing<Vec<f32>>,
    /// One rotation for each token of the block.
    rotations: Vec<Rotation>,
    inputs: Inputs,
    /// One for each worker, which alone locks it.
    scratch: Vec<Mutex<Scratch>>,
}

/// Quantized forms of one sub-layer's input, made when the first matrix asks for them.
#[derive(Debug, Default)]
struct Inputs {
    forms: [Activations; 3],
    ready: [bool; 3],
}

impl Inputs {
    fn clear(&mut self) {
        self.ready = [false; 3];
    }

    /// `out[n][rows] = x[n][columns] * matrix^T`
    fn multiply(&mut self, block: &Block<'_>, matrix: &Matrix<'_>, x: &[f32], out: &mut Vec<f32>) {
        let rule = matrix.kind().rule();
        let index = match rule {
            Rule::Block => 0,
            Rule::Super => 1,
            Rule::Wide => 2,
        };
        let tokens = x.len() / matrix.columns();
        if !self.ready[index] {
            self.forms[index].quantize(
                block.kernels,
                block.workers,
                rule,
                x,
                tokens,
                matrix.columns(),
            );
            self.ready[index] = true;
        }
        fit(out, tokens * matrix.rows());
        let (kernels, inputs) = (block.kernels, &self.forms[index]);
        split_columns(block.workers, out, matrix.rows(), TILE_ROWS, |_, out| {
            (kernels.multiply)(matrix, inputs, out);
        });
    }
}

impl Session {
    /// An empty sequence that takes at most `capacity_tokens` tokens. Keys and values get their memory as the
    /// sequence grows; [`Model::working_bytes`] bounds it.
    pub fn new(model: &Model<'_>, capacity_tokens: usize) -> Self {
        Self::with_kernels(model, capacity_tokens, simd::select())
    }

    /// The same with given inner loops, for tests and benchmarks.
    pub fn with_kernels(
        model: &Model<'_>,
        capacity_tokens: usize,
        kernels: &'static Kernels,
    ) -> Self {
        Self {
            kernels,
            capacity: capacity_tokens.min(model.config().context_tokens),
            tokens: Zeroizing::default(),
            position: 0,
            phase: Phase::Embed,
            done: 0,
            total: 0,
            cache: KvCache::new(model.config()),
            state: State {
                scratch: (0..model.workers.count())
                    .map(|_| Mutex::default())
                    .collect(),
                ..State::default()
            },
        }
    }

    /// Most tokens that it takes: what was asked for, or the model's context if that is less.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Every token so far, the queued ones included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Queues tokens behind those already there.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is queued then.
    pub fn push(&mut self, model: &Model<'_>, tokens: &[u32]) -> Result<(), SessionError> {
        if tokens.len() > self.capacity - self.tokens.len() {
            return Err(SessionError::Full {
                capacity: self.capacity,
            });
        }
        if let Some(&token) = tokens
            .iter()
            .find(|&&token| token as usize >= model.config().vocabulary)
        {
            return Err(SessionError::UnknownToken { token });
        }
        self.cache
            .grow(model.config(), self.tokens.len() + tokens.len())?;
        if self.tokens.capacity() < self.tokens.len() + tokens.len() {
            self.reallocate(self.tokens.len() + tokens.len());
        }
        self.tokens.extend_from_slice(tokens);
        let blocks = (self.tokens.len() - self.position).div_ceil(MAX_BLOCK_TOKENS);
        self.total = blocks * (1 + 2 * model.config().layers) + 1;
        self.done = 0;
        Ok(())
    }

    /// Moves the tokens to a larger buffer without leaving a copy behind.
    fn reallocate(&mut self, needed: usize) {
        let mut larger = Vec::with_capacity(needed.next_power_of_two().min(self.capacity));
        larger.extend_from_slice(&self.tokens);
        self.tokens.zeroize();
        self.tokens = Zeroizing::new(larger);
    }

    /// Does the next piece of work: half a layer (attention, or feed-forward) of one block of up to 16 tokens.
    ///
    /// `model` must be the one that the session was made for.
    pub fn step(&mut self, model: &Model<'_>) -> Step<'_> {
        if self.position == self.tokens.len() {
            return Step::Idle;
        }
        let end = self.tokens.len().min(self.position + MAX_BLOCK_TOKENS);
        let last_layer = model.layers.len() - 1;
        let block = Block {
            kernels: self.kernels,
            workers: model.workers,
            config: model.config(),
            first: self.position,
        };
        self.done += 1;
        self.phase = match self.phase {
            Phase::Embed => {
                self.state
                    .embed(model, &self.tokens[self.position..end], self.position);
                Phase::Attention { layer: 0 }
            }
            Phase::Attention { layer } => {
                self.state
                    .attention(&block, &model.layers[layer], layer, &mut self.cache);
                Phase::FeedForward { layer }
            }
            Phase::FeedForward { layer } => {
                self.state.feed_forward(&block, &model.layers[layer]);
                if layer < last_layer {
                    Phase::Attention { layer: layer + 1 }
                } else if end == self.tokens.len() {
                    Phase::Head
                } else {
                    self.position = end;
                    Phase::Embed
                }
            }
            Phase::Head => {
                self.state.head(&block, model);
                self.position = end;
                self.phase = Phase::Embed;
                return Step::Logits(&self.state.logits);
            }
        };
        Step::Working {
            done: self.done,
            total: self.total,
        }
    }
}

/// What a sub-layer needs to know beside its weights.
struct Block<'b> {
    kernels: &'static Kernels,
    workers: &'b dyn Workers,
    config: &'b Config,
    /// Position of the block's first token.
    first: usize,
}

impl State {
    /// `x[n][dim] = embedding[token]`
    fn embed(&mut self, model: &Model<'_>, tokens: &[u32], first: usize) {
        let dim = model.config().dim;
        fit(&mut self.x, tokens.len() * dim);
        self.rotations.resize_with(tokens.len(), Rotation::default);
        for (index, (x, token)) in self.x.chunks_exact_mut(dim).zip(tokens).enumerate() {
            row_to_f32(&model.embedding, *token as usize, x);
            self.rotations[index].set(first + index, &model.rope_frequencies);
        }
    }

    /// `x += attention_output * attention(norm(x))`
    fn attention(
        &mut self,
        block: &Block<'_>,
        layer: &Layer<'_>,
        index: usize,
        cache: &mut KvCache,
    ) {
        let Config {
            dim,
            heads,
            kv_heads,
            head_dim,
            ..
        } = *block.config;
        self.normalize(&layer.attention_norm, block);
        let inputs = &mut self.inputs;
        inputs.multiply(block, &layer.query, &self.y, &mut self.query); // [n][q_dim]
        inputs.multiply(block, &layer.key, &self.y, &mut self.key); // [n][kv_dim]
        inputs.multiply(block, &layer.value, &self.y, &mut self.value); // [n][kv_dim]
        add_bias(&mut self.query, layer.query_bias.as_deref());
        add_bias(&mut self.key, layer.key_bias.as_deref());
        add_bias(&mut self.value, layer.value_bias.as_deref());
        let (q_dim, kv_dim) = (heads * head_dim, kv_heads * head_dim);
        for (token, rotation) in self.rotations.iter().enumerate() {
            let key = &mut self.key[token * kv_dim..][..kv_dim];
            let query = &mut self.query[token * q_dim..][..q_dim];
            key.chunks_exact_mut(head_dim)
                .chain(query.chunks_exact_mut(head_dim))
                .for_each(|head| rotation.apply(head));
            cache.store(
                index,
                block.first + token,
                key,
                &self.value[token * kv_dim..][..kv_dim],
            );
        }
        self.attend(block, index, cache);
        self.inputs.clear();
        self.inputs
            .multiply(block, &layer.attention_output, &self.attended, &mut self.y); // [n][dim]
        debug_assert_eq!(self.y.len(), self.rotations.len() * dim);
        add(&mut self.x, &self.y);
    }

    /// `attended[n][q_dim]`: each head's attention over its key head's positions up to its own.
    fn attend(&mut self, block: &Block<'_>, layer: usize, cache: &KvCache) {
        let Config {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *block.config;
        let q_dim = heads * head_dim;
        fit(&mut self.attended, self.query.len());
        // Here, so that workers need no memory.
        let all_positions = block.first + self.rotations.len();
        for scratch in &mut self.scratch {
            scratch.get_mut().reserve(all_positions, head_dim);
        }
        let (query, scratch) = (&self.query, &self.scratch);
        let attend = |worker: usize, mut out: Columns<'_, f32>| {
            let mut scratch = scratch[worker].lock();
            let columns = out.range();
            for token in 0..out.rows() {
                let positions = block.first + token + 1;
                let query = query[token * q_dim..][columns.clone()].chunks_exact(head_dim);
                let out = out.row(token).chunks_exact_mut(head_dim);
                for (head, (query, out)) in (columns.start / head_dim..).zip(query.zip(out)) {
                    let kv_head = head / (heads / kv_heads);
                    let place = (layer, kv_head);
                    scratch.attend(block.kernels, cache, place, query, positions, out);
                }
            }
        };
        split_columns(block.workers, &mut self.attended, q_dim, head_dim, attend);
    }

    /// `x += down * (silu(gate * norm(x)) * (up * norm(x)))`
    fn feed_forward(&mut self, block: &Block<'_>, layer: &Layer<'_>) {
        self.normalize(&layer.feed_forward_norm, block);
        self.inputs
            .multiply(block, &layer.gate, &self.y, &mut self.gate); // [n][hidden]
        self.inputs
            .multiply(block, &layer.up, &self.y, &mut self.up); // [n][hidden]
        let (gate, up) = (&mut self.gate, &self.up);
        let length = gate.len();
        split_columns(block.workers, gate, length, TILE_ROWS, |_, mut gate| {
            let up = &up[gate.range()];
            (block.kernels.swiglu)(gate.row(0), up);
        });
        self.inputs.clear();
        self.inputs
            .multiply(block, &layer.down, &self.gate, &mut self.y); // [n][dim]
        add(&mut self.x, &self.y);
    }

    /// `logits[vocabulary] = output * norm(x of the last token)`
    fn head(&mut self, block: &Block<'_>, model: &Model<'_>) {
        let dim = block.config.dim;
        let last = self.x.len() - dim;
        fit(&mut self.y, dim);
        (block.kernels.norm)(
            &self.x[last..],
            &model.output_norm,
            block.config.norm_epsilon,
            &mut self.y,
        );
        self.inputs.clear();
        self.inputs
            .multiply(block, &model.output, &self.y, &mut self.logits);
    }

    /// `y[n][dim] = norm(x)`, the next sub-layer's input.
    fn normalize(&mut self, weight: &[f32], block: &Block<'_>) {
        fit(&mut self.y, self.x.len());
        for (x, y) in self
            .x
            .chunks_exact(block.config.dim)
            .zip(self.y.chunks_exact_mut(block.config.dim))
        {
            (block.kernels.norm)(x, weight, block.config.norm_epsilon, y);
        }
        self.inputs.clear();
    }
}

fn add_bias(x: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        x.chunks_exact_mut(bias.len()).for_each(|x| add(x, bias));
    }
}

/// Bytes that a session of `tokens` tokens allocates at most.
pub fn working_bytes(config: &Config, tokens: usize) -> u64 {
    let tokens = tokens.min(config.context_tokens);
    let kv = tokens.div_ceil(SEGMENT) * KvCache::segment_bytes(config);
    let (q_dim, kv_dim) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let widest = config.dim.max(config.hidden).max(q_dim);
    let floats = 2 * config.dim + 2 * q_dim + 2 * kv_dim + 2 * config.hidden + config.head_dim;
    // Three quantized forms of the widest vector take less than 8 bytes a column.
    let block = MAX_BLOCK_TOKENS * (floats * size_of::<f32>() + widest * 8);
    let logits = config.vocabulary * size_of::<f32>();
    let scratch = MAX_WORKERS * Scratch::bytes(tokens, config.head_dim);
    // Vectors that grow may hold twice what they need for a moment.
    let buffers = 2 * (block + logits + scratch + tokens * size_of::<u32>());
    (kv + buffers) as u64
}
