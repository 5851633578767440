//! What one request owns of the engine: its tokens, and their keys and values.

use super::SessionError;
use super::kv::KvCache;
use crate::pack::Config;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Names a sequence of a batch. The place of one that has ended may be taken by another, which has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceId {
    pub(super) slot: usize,
    pub(super) number: u64,
}

#[cfg(test)]
impl SequenceId {
    /// For batches that are not the engine's.
    pub(crate) fn of_test(number: usize) -> Self {
        Self {
            slot: 0,
            number: number as u64,
        }
    }
}

/// One sequence. Its memory is wiped when it is dropped.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    /// Most tokens that it takes.
    pub(super) capacity: usize,
    /// Every token so far; those from `position` on are not processed yet. Never moves.
    pub(super) tokens: Zeroizing<Vec<u32>>,
    pub(super) position: usize,
    pub(super) cache: KvCache,
    /// Bytes that were set aside for it.
    pub(super) reserved_bytes: u64,
    /// The number of its last turn to have rows in a pass.
    pub(super) last_turn: u64,
}

impl Sequence {
    pub(super) fn new(
        config: &Config,
        id: SequenceId,
        capacity: usize,
        reserved_bytes: u64,
    ) -> Self {
        Self {
            id,
            capacity,
            tokens: Zeroizing::new(Vec::with_capacity(capacity)),
            position: 0,
            cache: KvCache::new(config),
            reserved_bytes,
            last_turn: 0,
        }
    }

    /// Tokens that are not processed yet.
    pub(super) fn queued(&self) -> usize {
        self.tokens.len() - self.position
    }

    /// Queues tokens behind those already there.
    pub(super) fn push(&mut self, config: &Config, tokens: &[u32]) -> Result<(), SessionError> {
        if tokens.len() > self.capacity - self.tokens.len() {
            return Err(SessionError::Full {
                capacity: self.capacity,
            });
        }
        if let Some(&token) = tokens
            .iter()
            .find(|&&token| token as usize >= config.vocabulary)
        {
            return Err(SessionError::UnknownToken { token });
        }
        self.cache.grow(config, self.tokens.len() + tokens.len())?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }
}
