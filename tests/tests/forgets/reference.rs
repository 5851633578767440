//! What goes through the engine for a request: the same computation on the host, which is the same bit for bit. It
//! tells which tokens and numbers a guest has in memory.

use std::cell::RefCell;

use cloister_engine::answer::{Answer, AnswerStep, Bounds};
use cloister_engine::generate::LanguageModel;
use cloister_engine::rewrite::{RewriteJob, RewriteRequest, RewriteStep, Tone};
use cloister_engine::sample::Sampling;
use cloister_engine::session::SessionError;
use cloister_engine::summary::{Limits, Message, Style, Summaries, SummaryRequest, SummaryStep};
use cloister_engine::tokenizer::{Role, Tokenizer, Turn};
use cloister_engine::{Batch, BatchStep, Model, SequenceId};
use cloister_protocol::api::{chat, rewrite, summarize};

/// Everything of one request.
pub(crate) struct Reference {
    /// The prompts, one after the other.
    pub(crate) prompt: Vec<u32>,
    /// The answers. The last token of each is not among them.
    pub(crate) answer: Vec<u32>,
    /// Of each token of the answers.
    pub(crate) logits: Vec<f32>,
    /// The text, or all texts, one below the other.
    pub(crate) text: String,
}

/// Computes the summary with the model in `pack`.
pub(crate) fn summary(pack: &[u8], request: &summarize::Request) -> Reference {
    let recorder = Recorder::open(pack);
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
    let mut batch = recorder.whole_batch();
    let mut job = summaries.begin(&recorder, request).expect("a good request");
    let text = loop {
        match job.advance(&recorder, &mut batch).expect("it goes on") {
            SummaryStep::Done(summary) => break summary.text.to_string(),
            _ => recorder.step(&mut batch),
        };
    };
    recorder.into_reference(text)
}

/// Computes the next message of a conversation.
pub(crate) fn chat(pack: &[u8], request: chat::Request) -> Reference {
    let recorder = Recorder::open(pack);
    let turns: Vec<Turn<'_>> = request.messages.iter().map(turn).collect();
    let prompt = recorder.tokenizer().encode_chat(&turns);
    let bounds = Bounds {
        prompt_tokens: Limits::default().prompt_tokens,
        output_tokens: request.max_tokens as usize,
        sampling: Sampling {
            temperature: request.temperature,
            top_p: request.top_p,
            seed: request.seed.expect("the request has one"),
            ..Sampling::default()
        },
        stops: request.stop,
    };
    let mut batch = recorder.whole_batch();
    let mut job = Answer::new(&recorder, prompt, bounds).expect("it fits");
    let mut text = String::new();
    loop {
        match job.advance(&recorder, &mut batch).expect("it goes on") {
            AnswerStep::Done(answered) => break text.push_str(&answered.text),
            AnswerStep::Working(piece) => text.push_str(&piece),
            AnswerStep::NoRoom => panic!("an empty batch has room"),
        }
        recorder.step(&mut batch);
    }
    recorder.into_reference(text)
}

fn turn(message: &chat::Message) -> Turn<'_> {
    Turn {
        role: match message.role {
            chat::Role::System => Role::System,
            chat::Role::User => Role::User,
            chat::Role::Assistant => Role::Assistant,
        },
        text: &message.content,
    }
}

/// Computes other wordings; nothing if the model has none.
pub(crate) fn rewriting(pack: &[u8], request: &rewrite::Request) -> Option<Reference> {
    let recorder = Recorder::open(pack);
    let request = RewriteRequest {
        text: request.text.clone().into(),
        tone: match request.tone {
            rewrite::Tone::Friendly => Tone::Friendly,
            rewrite::Tone::Formal => Tone::Formal,
            rewrite::Tone::Shorter => Tone::Shorter,
            rewrite::Tone::Fix => Tone::Fix,
        },
        count: request.count as usize,
    };
    let Limits {
        prompt_tokens,
        output_tokens,
        ..
    } = Limits::default();
    let mut batch = recorder.whole_batch();
    let job = RewriteJob::new(&recorder, &request, prompt_tokens, output_tokens);
    let mut job = job.expect("it fits");
    let rewritten = loop {
        match job.advance(&recorder, &mut batch).ok()? {
            RewriteStep::Done(rewritten) => break rewritten,
            _ => recorder.step(&mut batch),
        };
    };
    let texts: Vec<&str> = rewritten.texts.iter().map(|text| text.as_str()).collect();
    let text = texts.join("\n");
    Some(recorder.into_reference(text))
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

impl<'p> Recorder<'p> {
    fn open(pack: &'p [u8]) -> Self {
        Self {
            model: Model::open(pack).expect("a good pack"),
            seen: RefCell::default(),
        }
    }

    fn whole_batch(&self) -> Batch {
        self.batch(self.context_tokens(), u64::MAX)
    }

    fn into_reference(self, text: String) -> Reference {
        let Seen {
            prompt,
            answer,
            logits,
        } = self.seen.into_inner();
        Reference {
            prompt,
            answer,
            logits,
            text,
        }
    }
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
