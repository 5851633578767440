//! candle as a subject: one sequence at a time.

use std::path::Path;

use super::subject::{Failed, Subject, most_probable};
use cloister_candle::Candle;

/// candle with one model.
pub(super) struct Beside {
    model: Candle,
    vocabulary: usize,
    position: usize,
}

impl Beside {
    pub(super) fn open(gguf: &Path) -> Result<Self, Failed> {
        let mut model = Candle::open(gguf).map_err(|error| error.to_string())?;
        // One token tells how many there are.
        let logits = model.logits(&[0], 0).map_err(|error| error.to_string())?;
        Ok(Self {
            model,
            vocabulary: logits.len(),
            position: 0,
        })
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<u32, Failed> {
        let logits = self.model.logits(tokens, self.position);
        let logits = logits.map_err(|error| error.to_string())?;
        self.position += tokens.len();
        Ok(most_probable(&logits))
    }
}

impl Subject for Beside {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn start(&mut self, _: usize, _: usize) -> Result<(), Failed> {
        // Position 0 begins anew.
        self.position = 0;
        Ok(())
    }

    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Result<Vec<u32>, Failed> {
        prompts.iter().map(|prompt| self.feed(prompt)).collect()
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u32>, Failed> {
        tokens.iter().map(|&token| self.feed(&[token])).collect()
    }
}
