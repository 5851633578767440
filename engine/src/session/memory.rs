//! How much memory sequences and batches take.

use super::MAX_SEQUENCES;
use super::attention::Scratch;
use super::kv::{KvCache, SEGMENT};
use crate::pack::Config;
use crate::simd::MAX_BLOCK_TOKENS;
use crate::workers::MAX_WORKERS;

/// Bytes that a sequence of `tokens` tokens allocates at most: what a batch sets aside for it.
pub fn sequence_bytes(config: &Config, tokens: usize) -> u64 {
    let tokens = tokens.min(config.context_tokens);
    // The caller has a copy of the tokens.
    let numbers = 2 * tokens * size_of::<u32>();
    (tokens.div_ceil(SEGMENT) * KvCache::segment_bytes(config) + numbers) as u64
}

/// Bytes that a batch allocates at most beside its sequences: so many of them, of at most `tokens` tokens each.
pub fn batch_bytes(config: &Config, sequences: usize, tokens: usize) -> u64 {
    let tokens = tokens.min(config.context_tokens);
    let (q_dim, kv_dim) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let widest = config.dim.max(config.hidden).max(q_dim);
    let floats = 2 * config.dim + 2 * q_dim + 2 * kv_dim + 2 * config.hidden + config.head_dim;
    let block = MAX_BLOCK_TOKENS * floats * size_of::<f32>();
    let logits = sequences.min(MAX_SEQUENCES) * config.vocabulary * size_of::<f32>();
    // Three quantized forms of the widest vector take less than 8 bytes a column. They, and what attention needs, may
    // be there twice for a moment as they grow.
    let forms = 2 * MAX_BLOCK_TOKENS * widest * 8;
    let scratch = 2 * MAX_WORKERS * Scratch::bytes(tokens, config.head_dim);
    (block + logits + forms + scratch) as u64
}

/// Bytes that a batch of [`MAX_SEQUENCES`] allocates at most with one sequence of `tokens` tokens in it. What there is
/// beyond that makes room for more sequences at one time.
pub fn working_bytes(config: &Config, tokens: usize) -> u64 {
    batch_bytes(config, MAX_SEQUENCES, tokens) + sequence_bytes(config, tokens)
}
