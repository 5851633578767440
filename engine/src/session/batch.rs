//! Up to 16 sequences that go through the model together.

use super::budget::{Budget, STEP_PRODUCTS};
use super::memory::{batch_bytes, sequence_bytes};
use super::pass::{Pass, Row};
use super::product::Means;
use super::schedule::{Claim, share};
use super::sequence::{Sequence, SequenceId};
use super::{MAX_SEQUENCES, SessionError};
use crate::model::Model;
use crate::pack::Config;
use crate::simd::{self, Kernels};
use alloc::vec::Vec;

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Most sequences at one time: 1 to [`MAX_SEQUENCES`].
    pub sequences: usize,
    /// Bytes for the sequences' tokens, keys and values. The batch's own buffers ([`Model::batch_bytes`]) come on top.
    pub sequence_bytes: u64,
    /// Multiply-adds of one step, about: [`STEP_PRODUCTS`], or less in tests.
    pub step_products: usize,
}

impl BatchLimits {
    /// For so much memory in all, the batch's own buffers included; sequences have at most `tokens` tokens.
    pub fn within(config: &Config, sequences: usize, tokens: usize, bytes: u64) -> Self {
        Self {
            sequences,
            sequence_bytes: bytes.saturating_sub(batch_bytes(config, sequences, tokens)),
            step_products: STEP_PRODUCTS,
        }
    }
}

/// What a call of [`Batch::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchStep {
    /// Nothing is queued in any sequence.
    Idle,
    /// A part of the work.
    Working,
    /// The last part of a pass: [`Batch::logits`] has those of every sequence whose tokens are all processed now.
    Logits,
}

/// Sequences that share the work on each weight: a pass takes up to 32 tokens of them through the model, one of each
/// sequence that writes, and as many as there is room for of those that read.
///
/// What comes out for a sequence is the same bit for bit whatever else is in the batch. Dropping the batch wipes it.
#[derive(Debug)]
pub struct Batch {
    kernels: &'static Kernels,
    limits: BatchLimits,
    reserved_bytes: u64,
    /// `[limits.sequences]`
    sequences: Vec<Option<Sequence>>,
    /// Numbers given to sequences so far.
    numbers: u64,
    /// Turns that sequences had so far.
    turns: u64,
    pass: Pass,
    /// Whose logits the last pass computed; the index is that of the pass's head.
    results: Vec<Option<SequenceId>>,
    /// Whether buffers hold something of a sequence that has ended.
    has_traces: bool,
}

impl Batch {
    /// An empty batch. Its buffers get their memory now.
    ///
    /// # Panics
    /// When `limits` allow no sequence or too many.
    pub fn new(model: &Model<'_>, limits: BatchLimits) -> Self {
        Self::with_kernels(model, limits, simd::select())
    }

    /// The same with given inner loops, for tests and benchmarks.
    ///
    /// # Panics
    /// As [`Batch::new`].
    pub fn with_kernels(model: &Model<'_>, limits: BatchLimits, kernels: &'static Kernels) -> Self {
        assert!(
            (1..=MAX_SEQUENCES).contains(&limits.sequences),
            "a batch of {} sequences",
            limits.sequences
        );
        Self {
            kernels,
            limits,
            reserved_bytes: 0,
            sequences: (0..limits.sequences).map(|_| None).collect(),
            numbers: 0,
            turns: 0,
            pass: Pass::new(model, limits.sequences),
            results: Vec::with_capacity(limits.sequences),
            has_traces: false,
        }
    }

    /// Sequences in it.
    pub fn len(&self) -> usize {
        self.sequences.iter().flatten().count()
    }

    /// Whether no sequence is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are set aside for the sequences in it.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Takes in an empty sequence of at most `capacity_tokens` tokens, or of the model's context if that is less. The
    /// memory for all of them is set aside now, so that it cannot be missing later.
    ///
    /// # Errors
    /// [`SessionError::NoRoom`] if the sequence fits when others have ended, [`SessionError::TooLarge`] if it never
    /// does.
    pub fn open(
        &mut self,
        model: &Model<'_>,
        capacity_tokens: usize,
    ) -> Result<SequenceId, SessionError> {
        let config = model.config();
        let capacity = capacity_tokens.min(config.context_tokens);
        let needed_bytes = sequence_bytes(config, capacity);
        let most_bytes = self.limits.sequence_bytes;
        if needed_bytes > most_bytes {
            return Err(SessionError::TooLarge {
                needed_bytes,
                most_bytes,
            });
        }
        let slot = self.sequences.iter().position(Option::is_none);
        let slot = slot
            .filter(|_| needed_bytes <= most_bytes - self.reserved_bytes)
            .ok_or(SessionError::NoRoom)?;
        self.numbers += 1;
        let id = SequenceId {
            slot,
            number: self.numbers,
        };
        self.reserved_bytes += needed_bytes;
        self.sequences[slot] = Some(Sequence::new(config, id, capacity, needed_bytes));
        Ok(id)
    }

    /// Queues tokens behind those that the sequence has. Its logits are gone then.
    ///
    /// # Errors
    /// [`SessionError`]; nothing is queued then.
    pub fn push(
        &mut self,
        model: &Model<'_>,
        id: SequenceId,
        tokens: &[u32],
    ) -> Result<(), SessionError> {
        let sequence = self.sequences.get_mut(id.slot).and_then(Option::as_mut);
        let sequence = sequence.filter(|sequence| sequence.id == id);
        sequence
            .ok_or(SessionError::Ended)?
            .push(model.config(), tokens)
    }

    /// Ends a sequence: wipes what it owns and gives back its memory and its place. Of a pass that is under way its
    /// rows are ignored; the buffers that they went through are wiped when that pass ends, or now if there is none. A
    /// sequence that has ended before is no error.
    pub fn close(&mut self, id: SequenceId) {
        let slot = self.sequences.get_mut(id.slot);
        let Some(sequence) = slot.and_then(|slot| slot.take_if(|sequence| sequence.id == id))
        else {
            return;
        };
        self.reserved_bytes -= sequence.reserved_bytes;
        drop(sequence);
        if let Some(index) = self.results.iter().position(|result| *result == Some(id)) {
            self.pass.wipe_logits(index);
            self.results[index] = None;
        }
        let is_abandoned = self.pass.forget(id.slot);
        if is_abandoned || self.is_empty() {
            self.results.clear();
            self.pass.wipe();
        } else if self.pass.rows.is_empty() {
            self.pass.wipe_rows();
        } else {
            self.has_traces = true;
            return;
        }
        self.has_traces = false;
    }

    /// Every token of a sequence, the queued ones included; `None` if it has ended.
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        self.get(id).map(|sequence| &sequence.tokens[..])
    }

    /// Most tokens of a sequence; `None` if it has ended.
    pub fn capacity(&self, id: SequenceId) -> Option<usize> {
        self.get(id).map(|sequence| sequence.capacity)
    }

    /// Logits of the token that follows a sequence, `[vocabulary]`. They are there after the [`Batch::step`] that has
    /// processed its last token, until the next one or until it gets more tokens.
    pub fn logits(&self, id: SequenceId) -> Option<&[f32]> {
        self.get(id).filter(|sequence| sequence.queued() == 0)?;
        let index = self.results.iter().position(|result| *result == Some(id))?;
        Some(self.pass.logits(index))
    }

    /// Does a bounded piece of work: about [`BatchLimits::step_products`], with tokens of any sequences.
    ///
    /// `model` must be the one that the batch was made for.
    pub fn step(&mut self, model: &Model<'_>) -> BatchStep {
        self.results.clear();
        if self.pass.rows.is_empty() && !self.begin_pass() {
            return BatchStep::Idle;
        }
        let means = Means {
            kernels: self.kernels,
            workers: model.workers,
        };
        let mut budget = Budget::new(self.limits.step_products);
        while !budget.is_spent() {
            if self
                .pass
                .advance(model, means, &mut self.sequences, &mut budget)
            {
                return self.end_pass();
            }
        }
        BatchStep::Working
    }

    /// Chooses the rows of the next pass; false if nothing is queued.
    fn begin_pass(&mut self) -> bool {
        let waiting = self.sequences.iter().flatten();
        let waiting = waiting.filter(|sequence| sequence.queued() > 0);
        let mut claims: Vec<Claim> = waiting
            .map(|sequence| Claim {
                slot: sequence.id.slot,
                queued: sequence.queued(),
                last_turn: sequence.last_turn,
            })
            .collect();
        if claims.is_empty() {
            return false;
        }
        let rows = share(&mut claims);
        for claim in claims.iter().filter(|claim| rows[claim.slot] > 0) {
            if let Some(sequence) = &mut self.sequences[claim.slot] {
                self.turns += 1;
                sequence.last_turn = self.turns;
            }
        }
        let sequences = self.sequences.iter().enumerate().zip(rows);
        self.pass
            .begin(sequences.flat_map(|((slot, sequence), rows)| {
                let first = sequence.as_ref().map_or(0, |sequence| sequence.position);
                (first..first + rows).map(move |position| Row {
                    slot,
                    position,
                    is_gone: false,
                })
            }));
        true
    }

    /// All rows have gone through all layers.
    fn end_pass(&mut self) -> BatchStep {
        for row in self.pass.rows.iter().filter(|row| !row.is_gone) {
            if let Some(sequence) = &mut self.sequences[row.slot] {
                sequence.position = row.position + 1;
            }
        }
        let heads = self.pass.heads.iter().map(|&row| self.pass.rows[row]);
        let result = |row: Row| {
            let sequence = self.sequences[row.slot].as_ref().filter(|_| !row.is_gone);
            sequence.map(|sequence| sequence.id)
        };
        self.results.extend(heads.map(result));
        for index in 0..self.results.len() {
            if self.results[index].is_none() {
                self.pass.wipe_logits(index);
            }
        }
        self.pass.rows.clear();
        if core::mem::take(&mut self.has_traces) {
            self.pass.wipe_rows();
        }
        if self.results.iter().any(Option::is_some) {
            BatchStep::Logits
        } else {
            BatchStep::Working
        }
    }

    fn get(&self, id: SequenceId) -> Option<&Sequence> {
        let sequence = self.sequences.get(id.slot)?.as_ref();
        sequence.filter(|sequence| sequence.id == id)
    }
}
