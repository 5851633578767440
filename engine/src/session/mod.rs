//! Sequences of tokens on their way through a model, in short steps, so that the caller can do other things between
//! them.
//!
//! | module | what |
//! |---|---|
//! | `batch` | sequences that go through the model together; who may come in |
//! | `sequence` | what one request owns: tokens, keys and values |
//! | `schedule` | who gets the rows of the next pass |
//! | `pass` | the transformer, for a block of rows |
//! | `product` | matrices with the same input |
//! | `attention`, `kv` | one query over all positions so far; keys and values |
//! | `budget` | how much work a step is |
//! | `memory` | how much memory all that takes |

mod attention;
mod batch;
mod budget;
mod kv;
mod memory;
mod pass;
mod product;
mod schedule;
mod sequence;

#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchLimits, BatchStep};
pub use budget::STEP_PRODUCTS;
pub use memory::{batch_bytes, sequence_bytes, working_bytes};
pub use sequence::SequenceId;

use crate::model::Model;
use crate::simd::{self, Kernels};
use core::fmt;

/// Most sequences in a batch.
pub const MAX_SEQUENCES: usize = 16;

/// Why a sequence cannot begin, or tokens cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// More tokens than the sequence was made for.
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
    /// Other sequences have the places or the memory: try again when one has ended.
    NoRoom,
    /// The sequence needs more memory than there is for all of them.
    TooLarge {
        /// Bytes that it needs.
        needed_bytes: u64,
        /// Bytes that there are.
        most_bytes: u64,
    },
    /// The sequence has ended.
    Ended,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => write!(f, "sequence is longer than {capacity} tokens"),
            Self::UnknownToken { token } => {
                write!(f, "token {token} is not in the model's vocabulary")
            }
            Self::OutOfMemory => f.write_str("no memory for keys and values"),
            Self::NoRoom => f.write_str("no room for another sequence at the moment"),
            Self::TooLarge {
                needed_bytes,
                most_bytes,
            } => write!(
                f,
                "sequence needs {needed_bytes} bytes of memory and there are {most_bytes}"
            ),
            Self::Ended => f.write_str("sequence has ended"),
        }
    }
}

impl core::error::Error for SessionError {}

/// What a call of [`Session::step`] did.
#[derive(Debug, PartialEq)]
pub enum Step<'s> {
    /// A part of the queued tokens' work; both numbers count steps, `total` is an estimate.
    Working {
        /// Steps done since the last logits.
        done: usize,
        /// Steps until the next logits, the done ones included: more than them.
        total: usize,
    },
    /// All queued tokens are processed: logits of the token that follows, `[vocabulary]`. The next call needs more
    /// tokens first.
    Logits(&'s [f32]),
    /// Nothing is queued.
    Idle,
}

/// One sequence by itself: a batch of one. Its memory is wiped when it is dropped.
#[derive(Debug)]
pub struct Session {
    batch: Batch,
    id: SequenceId,
    capacity: usize,
    /// Steps since the last logits.
    done: usize,
    /// Products of the queued tokens, about.
    products: u64,
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
        let limits = BatchLimits {
            sequences: 1,
            sequence_bytes: u64::MAX,
            step_products: STEP_PRODUCTS,
        };
        let mut batch = Batch::with_kernels(model, limits, kernels);
        let id = batch
            .open(model, capacity_tokens)
            .expect("an empty batch without a bound has room");
        Self {
            capacity: batch.capacity(id).unwrap_or_default(),
            batch,
            id,
            done: 0,
            products: 0,
        }
    }

    /// Most tokens that it takes: what was asked for, or the model's context if that is less.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Every token so far, the queued ones included.
    pub fn tokens(&self) -> &[u32] {
        self.batch.tokens(self.id).unwrap_or_default()
    }

    /// Queues tokens behind those already there.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is queued then.
    pub fn push(&mut self, model: &Model<'_>, tokens: &[u32]) -> Result<(), SessionError> {
        self.batch.push(model, self.id, tokens)?;
        self.products += tokens.len() as u64 * model.products_per_token();
        Ok(())
    }

    /// Does the next piece of work, see [`Batch::step`].
    ///
    /// `model` must be the one that the session was made for.
    pub fn step(&mut self, model: &Model<'_>) -> Step<'_> {
        if self.batch.step(model) == BatchStep::Idle {
            return Step::Idle;
        }
        if let Some(logits) = self.batch.logits(self.id) {
            (self.done, self.products) = (0, 0);
            return Step::Logits(logits);
        }
        self.done += 1;
        let estimate = self.products / STEP_PRODUCTS as u64 + 1;
        Step::Working {
            done: self.done,
            total: (estimate as usize).max(self.done + 1),
        }
    }
}
