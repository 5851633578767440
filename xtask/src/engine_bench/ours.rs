//! Cloister's engine as a subject. How it is called is known here alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cloister_engine::layout::Encoding;
use cloister_engine::pack::{Pack, PackError, Role};
use cloister_engine::session::{
    Batch, BatchLimits, BatchStep, MAX_SEQUENCES, STEP_PRODUCTS, SequenceId,
};
use cloister_engine::{Model, simd};
use memmap2::MmapMut;

use super::bandwidth::huge_buffer;
use super::subject::{Failed, Subject, most_probable};

/// The pack's bytes in memory of their own, with huge pages where the system has them: so has the guest.
pub(super) fn load(path: &Path) -> io::Result<MmapMut> {
    let mut file = File::open(path)?;
    let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut pack = huge_buffer(bytes)?;
    file.read_exact(&mut pack)?;
    Ok(pack)
}

/// Name of the kernels that this CPU gets.
pub(super) fn kernels() -> &'static str {
    simd::select().name
}

/// Bytes of the matrices that one token's pass reads. Of the embedding it reads a row, unless that is the output matrix
/// too.
pub(super) fn weight_bytes_per_token(pack: &[u8]) -> Result<u64, PackError> {
    let pack = Pack::open(pack)?;
    let tied = pack.entries().all(|entry| entry.role != Role::Output);
    let read = pack.entries().filter(|entry| {
        entry.encoding != Encoding::F32 && (tied || entry.role != Role::TokenEmbedding)
    });
    Ok(read.map(|entry| entry.bytes).sum())
}

/// The engine with one model.
pub(super) struct Ours<'m> {
    model: &'m Model<'m>,
    batch: Batch,
    sequences: Vec<SequenceId>,
}

impl<'m> Ours<'m> {
    pub(super) fn new(model: &'m Model<'m>) -> Self {
        Self {
            model,
            batch: Batch::new(model, limits(1)),
            sequences: Vec::new(),
        }
    }

    /// Feeds each sequence tokens and works until all have logits; returns the most probable next tokens.
    fn feed<'t>(
        &mut self,
        tokens: impl IntoIterator<Item = &'t [u32]>,
    ) -> Result<Vec<u32>, Failed> {
        for (id, tokens) in self.sequences.iter().zip(tokens) {
            let pushed = self.batch.push(self.model, *id, tokens);
            pushed.map_err(|error| error.to_string())?;
        }
        let mut next = vec![None; self.sequences.len()];
        while next.contains(&None) {
            match self.batch.step(self.model) {
                BatchStep::Working => {}
                BatchStep::Logits => {
                    for (next, id) in next.iter_mut().zip(&self.sequences) {
                        if let Some(logits) = self.batch.logits(*id) {
                            *next = Some(most_probable(logits));
                        }
                    }
                }
                BatchStep::Idle => return Err("no logits although tokens were queued".to_owned()),
            }
        }
        Ok(next.into_iter().flatten().collect())
    }
}

/// A batch of so many sequences; this host's memory is not the engine's to watch.
fn limits(sequences: usize) -> BatchLimits {
    BatchLimits {
        sequences,
        sequence_bytes: u64::MAX,
        step_products: STEP_PRODUCTS,
    }
}

impl Subject for Ours<'_> {
    fn vocabulary(&self) -> usize {
        self.model.config().vocabulary
    }

    fn max_batch(&self) -> usize {
        MAX_SEQUENCES
    }

    fn start(&mut self, count: usize, capacity: usize) -> Result<(), Failed> {
        // The old ones first: their memory is free for the new ones.
        self.sequences.clear();
        self.batch = Batch::new(self.model, limits(count));
        for _ in 0..count {
            let opened = self.batch.open(self.model, capacity);
            self.sequences
                .push(opened.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<u32>, Failed> {
        self.feed(prompts.iter().map(Vec::as_slice))
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u32>, Failed> {
        self.feed(tokens.chunks(1))
    }
}
