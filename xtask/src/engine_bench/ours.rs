//! Cloister's engine as a subject. How it is called is known here alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cloister_engine::layout::Encoding;
use cloister_engine::pack::{Pack, PackError, Role};
use cloister_engine::{Model, Session, Step, simd};
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
    sequences: Vec<Session>,
}

impl<'m> Ours<'m> {
    pub(super) fn new(model: &'m Model<'m>) -> Self {
        Self {
            model,
            sequences: Vec::new(),
        }
    }

    /// Feeds a sequence tokens and works until it has logits.
    fn feed(&mut self, sequence: usize, tokens: &[u32]) -> Result<u32, Failed> {
        let session = &mut self.sequences[sequence];
        session
            .push(self.model, tokens)
            .map_err(|error| error.to_string())?;
        loop {
            match session.step(self.model) {
                Step::Working { .. } => {}
                Step::Logits(logits) => return Ok(most_probable(logits)),
                Step::Idle => return Err("no logits although tokens were queued".to_owned()),
            }
        }
    }
}

impl Subject for Ours<'_> {
    fn vocabulary(&self) -> usize {
        self.model.config().vocabulary
    }

    /// Sessions are advanced one at a time.
    fn max_batch(&self) -> usize {
        1
    }

    fn start(&mut self, count: usize, capacity: usize) -> Result<(), Failed> {
        // The old ones first: their memory is free for the new ones.
        self.sequences.clear();
        self.sequences
            .extend((0..count).map(|_| Session::new(self.model, capacity)));
        Ok(())
    }

    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<u32>, Failed> {
        let prompts = prompts.iter().enumerate();
        prompts
            .map(|(sequence, prompt)| self.feed(sequence, prompt))
            .collect()
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u32>, Failed> {
        let tokens = tokens.iter().enumerate();
        tokens
            .map(|(sequence, &token)| self.feed(sequence, &[token]))
            .collect()
    }
}
