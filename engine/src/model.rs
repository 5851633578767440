//! A model: the weights of a pack, found once and checked for shape.

use crate::layout::{Encoding, Matrix};
use crate::pack::{Config, Pack, PackError, Role};
use crate::session;
use crate::tokenizer::{Tokenizer, data};
use crate::workers::{Alone, Workers};
use alloc::vec::Vec;

/// The weights of one transformer block. Shapes: `dim` is the residual stream, `q_dim = heads * head_dim`,
/// `kv_dim = kv_heads * head_dim`.
#[derive(Debug)]
pub(crate) struct Layer<'p> {
    /// `[dim]`
    pub(crate) attention_norm: Vec<f32>,
    /// `[q_dim][dim]`
    pub(crate) query: Matrix<'p>,
    /// `[q_dim]`, or nothing
    pub(crate) query_bias: Option<Vec<f32>>,
    /// `[kv_dim][dim]`
    pub(crate) key: Matrix<'p>,
    /// `[kv_dim]`, or nothing
    pub(crate) key_bias: Option<Vec<f32>>,
    /// `[kv_dim][dim]`
    pub(crate) value: Matrix<'p>,
    /// `[kv_dim]`, or nothing
    pub(crate) value_bias: Option<Vec<f32>>,
    /// `[dim][q_dim]`
    pub(crate) attention_output: Matrix<'p>,
    /// `[dim]`
    pub(crate) feed_forward_norm: Vec<f32>,
    /// `[hidden][dim]`
    pub(crate) gate: Matrix<'p>,
    /// `[hidden][dim]`
    pub(crate) up: Matrix<'p>,
    /// `[dim][hidden]`
    pub(crate) down: Matrix<'p>,
}

/// A model over the bytes of a pack.
#[derive(Debug)]
pub struct Model<'p> {
    pack: Pack<'p>,
    tokenizer: Tokenizer<'p>,
    /// `[vocabulary][dim]`
    pub(crate) embedding: Matrix<'p>,
    /// `[dim]`
    pub(crate) output_norm: Vec<f32>,
    /// `[vocabulary][dim]`; the embedding itself in models that tie the two.
    pub(crate) output: Matrix<'p>,
    pub(crate) layers: Vec<Layer<'p>>,
    /// `[head_dim / 2]`
    pub(crate) rope_frequencies: Vec<f32>,
    /// Who computes.
    pub(crate) workers: &'p dyn Workers,
}

impl<'p> Model<'p> {
    /// Finds every weight in a complete pack. The bytes' digests are not checked here: see
    /// [`crate::pack::Head::check_chunk`].
    ///
    /// # Errors
    /// [`PackError`] when the pack or its tokenizer is malformed, or a tensor is missing or has the wrong shape.
    pub fn open(bytes: &'p [u8]) -> Result<Self, PackError> {
        let pack = Pack::open(bytes)?;
        let config = *pack.config();
        let tokenizer = data::parse(pack.tokenizer_section()).map_err(PackError::TokenizerData)?;
        if tokenizer.token_count() as usize != config.vocabulary {
            return Err(PackError::Config);
        }
        let finder = Finder {
            pack: &pack,
            layer: 0,
        };
        let embedding = finder.matrix(Role::TokenEmbedding, config.vocabulary, config.dim)?;
        let output = pack
            .matrix(Role::Output, 0, config.vocabulary, config.dim)?
            .unwrap_or(embedding);
        let output_norm = finder.vector(Role::OutputNorm, config.dim)?;
        let layers = (0..config.layers)
            .map(|layer| Layer::find(&pack, layer))
            .collect::<Result<_, _>>()?;
        let rope_frequencies = crate::ops::rope_frequencies(config.rope_base, config.head_dim);
        Ok(Self {
            embedding,
            output_norm,
            output,
            layers,
            rope_frequencies,
            tokenizer,
            pack,
            workers: &Alone,
        })
    }

    /// The same model for sessions whose work is shared by `workers`.
    #[must_use]
    pub fn with_workers(self, workers: &'p dyn Workers) -> Self {
        Self { workers, ..self }
    }

    /// Shape and constants.
    pub fn config(&self) -> &Config {
        self.pack.config()
    }

    /// The model's name: printable, not empty, at most 64 bytes.
    pub fn name(&self) -> &'p str {
        self.pack.name()
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer<'p> {
        &self.tokenizer
    }

    /// Bytes of memory that a batch needs at most, beside the pack, with one sequence of so many tokens in it.
    pub fn working_bytes(&self, context_tokens: usize) -> u64 {
        session::working_bytes(self.config(), context_tokens)
    }

    /// Bytes of memory that the buffers of a batch need at most: of so many sequences, of so many tokens each.
    pub fn batch_bytes(&self, sequences: usize, context_tokens: usize) -> u64 {
        session::batch_bytes(self.config(), sequences, context_tokens)
    }

    /// Bytes of memory that a sequence of so many tokens needs at most in a batch.
    pub fn sequence_bytes(&self, tokens: usize) -> u64 {
        session::sequence_bytes(self.config(), tokens)
    }

    /// Multiply-adds of one token in all matrices, for benchmarks.
    pub fn products_per_token(&self) -> u64 {
        let matrices = self
            .pack
            .entries()
            .filter(|entry| entry.encoding != Encoding::F32);
        let all: u64 = matrices
            .map(|entry| (entry.rows * entry.columns) as u64)
            .sum();
        let embedding = (self.config().vocabulary * self.config().dim) as u64;
        let tied = self.pack.entries().all(|entry| entry.role != Role::Output);
        if tied { all } else { all - embedding }
    }
}

/// Looks tensors up and names those that are missing.
struct Finder<'a, 'p> {
    pack: &'a Pack<'p>,
    layer: usize,
}

impl<'p> Finder<'_, 'p> {
    fn matrix(&self, role: Role, rows: usize, columns: usize) -> Result<Matrix<'p>, PackError> {
        let missing = PackError::Tensor {
            role,
            layer: self.layer,
        };
        self.pack
            .matrix(role, self.layer, rows, columns)?
            .ok_or(missing)
    }

    fn vector(&self, role: Role, length: usize) -> Result<Vec<f32>, PackError> {
        self.bias(role, length)?.ok_or(PackError::Tensor {
            role,
            layer: self.layer,
        })
    }

    fn bias(&self, role: Role, length: usize) -> Result<Option<Vec<f32>>, PackError> {
        self.pack.vector(role, self.layer, length)
    }
}

impl<'p> Layer<'p> {
    /// What the normalized residual stream is multiplied with for attention: query, key, value.
    pub(crate) fn projections(&self) -> [&Matrix<'p>; 3] {
        [&self.query, &self.key, &self.value]
    }

    fn find(pack: &Pack<'p>, layer: usize) -> Result<Self, PackError> {
        let Config { dim, hidden, .. } = *pack.config();
        let q_dim = pack.config().heads * pack.config().head_dim;
        let kv_dim = pack.config().kv_heads * pack.config().head_dim;
        let finder = Finder { pack, layer };
        Ok(Self {
            attention_norm: finder.vector(Role::AttentionNorm, dim)?,
            query: finder.matrix(Role::Query, q_dim, dim)?,
            query_bias: finder.bias(Role::QueryBias, q_dim)?,
            key: finder.matrix(Role::Key, kv_dim, dim)?,
            key_bias: finder.bias(Role::KeyBias, kv_dim)?,
            value: finder.matrix(Role::Value, kv_dim, dim)?,
            value_bias: finder.bias(Role::ValueBias, kv_dim)?,
            attention_output: finder.matrix(Role::AttentionOutput, dim, q_dim)?,
            feed_forward_norm: finder.vector(Role::FeedForwardNorm, dim)?,
            gate: finder.matrix(Role::Gate, hidden, dim)?,
            up: finder.matrix(Role::Up, hidden, dim)?,
            down: finder.matrix(Role::Down, dim, hidden)?,
        })
    }
}
