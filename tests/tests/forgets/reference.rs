//! What goes through the engine for a request: the same computation on the host, which is the same bit for bit. It
//! tells which tokens and numbers a guest has in memory.

use std::cell::RefCell;

use cloister_engine::generate::LanguageModel;
use cloister_engine::session::SessionError;
use cloister_engine::summary::{Limits, Message, Style, Summaries, SummaryRequest, SummaryStep};
use cloister_engine::tokenizer::Tokenizer;
use cloister_engine::{Batch, BatchStep, Model, SequenceId};
use cloister_protocol::api::summarize;

/// Everything of one request.
pub(crate) struct Reference {
    /// The prompts, one after the other.
    pub(crate) prompt: Vec<u32>,
    /// The answers. The last token of each is not among them.
    pub(crate) answer: Vec<u32>,
    /// Of each token of the answers.
    pub(crate) logits: Vec<f32>,
    /// The summary.
    pub(crate) text: String,
}

/// Computes the answer to a request with the model in `pack`.
pub(crate) fn answer(pack: &[u8], request: &summarize::Request) -> Reference {
    let recorder = Recorder {
        model: Model::open(pack).expect("a good pack"),
        seen: RefCell::default(),
    };
    let style = match request.style {
        summarize::Style::Bullets => Style::Bullets,
        summarize::Style::Paragraph => Style::Paragraph,
        summarize::Style::Headline => Style::Headline,
    };
    let message = |message: &summarize::Message| {
        Message::new(message.from.to_string(), message.text.to_string())
    };
    let request = SummaryRequest {
        messages: request.messages.iter().map(message).collect(),
        style,
        max_tokens: request.max_tokens.map(|tokens| tokens as usize),
    };
    let summaries = Summaries::new(&recorder, Limits::default());
    let mut batch = recorder.batch(recorder.context_tokens(), u64::MAX);
    let mut job = summaries.begin(&recorder, request).expect("a good request");
    let text = loop {
        match job.advance(&recorder, &mut batch).expect("it goes on") {
            SummaryStep::Done(summary) => break summary.text.to_string(),
            _ => recorder.step(&mut batch),
        };
    };
    let Seen {
        prompt,
        answer,
        logits,
    } = recorder.seen.into_inner();
    Reference {
        prompt,
        answer,
        logits,
        text,
    }
}

#[derive(Default)]
struct Seen {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    logits: Vec<f32>,
}

/// A model that remembers what goes in and what comes out.
struct Recorder<'p> {
    model: Model<'p>,
    seen: RefCell<Seen>,
}

impl LanguageModel for Recorder<'_> {
    type Batch = Batch;

    fn tokenizer(&self) -> &Tokenizer<'_> {
        self.model.tokenizer()
    }

    fn context_tokens(&self) -> usize {
        LanguageModel::context_tokens(&self.model)
    }

    fn batch(&self, tokens: usize, bytes: u64) -> Batch {
        self.model.batch(tokens, bytes)
    }

    fn open(&self, batch: &mut Batch, capacity: usize) -> Result<SequenceId, SessionError> {
        LanguageModel::open(&self.model, batch, capacity)
    }

    fn push(
        &self,
        batch: &mut Batch,
        sequence: SequenceId,
        tokens: &[u32],
    ) -> Result<(), SessionError> {
        let mut seen = self.seen.borrow_mut();
        // An answer is pushed token by token.
        if let [token] = tokens {
            seen.answer.push(*token);
        } else {
            seen.prompt.extend(tokens);
        }
        LanguageModel::push(&self.model, batch, sequence, tokens)
    }

    fn step(&self, batch: &mut Batch) -> BatchStep {
        LanguageModel::step(&self.model, batch)
    }

    fn logits<'b>(&self, batch: &'b Batch, sequence: SequenceId) -> Option<&'b [f32]> {
        let logits = LanguageModel::logits(&self.model, batch, sequence)?;
        self.seen.borrow_mut().logits.extend(logits);
        Some(logits)
    }

    fn close(&self, batch: &mut Batch, sequence: SequenceId) {
        LanguageModel::close(&self.model, batch, sequence);
    }
}
