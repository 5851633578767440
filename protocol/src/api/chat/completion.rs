//! Answers: as one JSON text, or as events while they are written.

use crate::api::events;
use crate::api::problem::ErrorBody;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;
use zeroize::Zeroizing;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model was done, or came to a string of `stop`.
    Stop,
    /// It had as many tokens as it may have, or began to repeat itself.
    Length,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
}

impl Usage {
    /// Both counts and their sum.
    #[must_use]
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
        }
    }
}

/// What all parts of one answer say alike, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The answer's name.
    pub id: String,
    /// When it was asked for, Unix time in seconds by the server's clock.
    pub created_s: u64,
    /// The model that writes it.
    pub model: String,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Said<'a>>,
    finish_reason: Option<Finish>,
}

#[derive(Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

const ASSISTANT: Option<&str> = Some("assistant");

impl Completion {
    /// The whole answer, a JSON text.
    #[must_use]
    pub fn to_json(&self, content: &str, finish: Finish, usage: Usage) -> Zeroizing<Vec<u8>> {
        let message = Some(Said {
            role: ASSISTANT,
            content: Some(content),
        });
        let choice = Choice {
            index: 0,
            message,
            delta: None,
            finish_reason: Some(finish),
        };
        self.document("chat.completion", &[choice], Some(usage))
    }

    /// Appends the event with the next piece of a streamed answer, in whole characters; the first one names the role.
    pub fn put_piece(&self, out: &mut Vec<u8>, content: &str, is_first: bool) {
        let delta = Said {
            role: ASSISTANT.filter(|_| is_first),
            content: Some(content),
        };
        self.put_chunk(out, Some((delta, None)), None);
    }

    /// Appends the events that end a streamed answer.
    pub fn put_end(&self, out: &mut Vec<u8>, finish: Finish, usage: Option<Usage>) {
        let delta = Said {
            role: None,
            content: None,
        };
        self.put_chunk(out, Some((delta, Some(finish))), None);
        if usage.is_some() {
            self.put_chunk(out, None, usage);
        }
        events::put(out, events::DONE.as_bytes());
    }

    fn put_chunk(
        &self,
        out: &mut Vec<u8>,
        said: Option<(Said<'_>, Option<Finish>)>,
        usage: Option<Usage>,
    ) {
        let choice = said.map(|(delta, finish_reason)| Choice {
            index: 0,
            message: None,
            delta: Some(delta),
            finish_reason,
        });
        let json = self.document("chat.completion.chunk", choice.as_slice(), usage);
        events::put(out, &json);
    }

    fn document(
        &self,
        object: &'static str,
        choices: &[Choice<'_>],
        usage: Option<Usage>,
    ) -> Zeroizing<Vec<u8>> {
        to_json(&Document {
            id: &self.id,
            object,
            created: self.created_s,
            model: &self.model,
            choices,
            usage,
        })
    }
}

/// Appends the event that ends a streamed answer which cannot be finished.
pub fn put_error(out: &mut Vec<u8>, error: &ErrorBody) {
    #[derive(Serialize)]
    struct Event<'a> {
        error: &'a ErrorBody,
    }
    events::put(out, &to_json(&Event { error }));
}

fn to_json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(value).expect("strings and numbers always have a JSON form"))
}
