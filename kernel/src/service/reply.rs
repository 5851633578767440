//! What a job says, as the inner answer that was asked for: a JSON text at its end, or server-sent events meanwhile.

use alloc::string::String;
use alloc::vec::Vec;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{chat, events, media, rewrite, summarize};
use cloister_protocol::bhttp::{self, stream};
use zeroize::Zeroizing;

use super::generator::{Answer, Task};
use super::inner;

/// An answer in the making. What it holds is wiped when it is dropped.
pub struct Reply {
    format: Format,
    /// What all answers of this image name.
    model: String,
    /// Text that was said and is not written yet.
    text: Zeroizing<String>,
    /// The end, until it is written.
    outcome: Option<Result<Answer, Problem>>,
    /// Something was written.
    has_begun: bool,
}

enum Format {
    Summary {
        is_streamed: bool,
    },
    Rewrite,
    Chat {
        completion: chat::Completion,
        is_streamed: bool,
        include_usage: bool,
    },
}

impl Reply {
    /// The answer to a task. `number` names it, if it needs a name; `created_s` is when it was asked for.
    #[must_use]
    pub fn new(task: &Task, model: &str, number: u64, created_s: u64) -> Self {
        let format = match task {
            Task::Summary(_, is_streamed) => Format::Summary {
                is_streamed: *is_streamed,
            },
            Task::Rewrite(_) => Format::Rewrite,
            Task::Chat(request) => Format::Chat {
                completion: chat::Completion {
                    id: alloc::format!("chatcmpl-{number:016x}"),
                    created_s,
                    model: model.into(),
                },
                is_streamed: request.stream,
                include_usage: request.include_usage,
            },
        };
        Self {
            format,
            model: model.into(),
            text: Zeroizing::default(),
            outcome: None,
            has_begun: false,
        }
    }

    /// Takes the next piece of the text.
    pub fn say(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// Takes the end.
    pub fn end(&mut self, outcome: Result<Answer, Problem>) {
        self.outcome = Some(outcome);
    }

    /// The whole answer, whose end was taken.
    #[must_use]
    pub fn into_response(mut self) -> bhttp::Response {
        match self.outcome.take() {
            Some(Err(problem)) => self.problem(problem),
            outcome => {
                self.outcome = outcome;
                let mut content = Zeroizing::new(Vec::new());
                let media_type = self.write_content(&mut content);
                inner::answer(200, media_type, core::mem::take(&mut *content))
            }
        }
    }

    /// Appends what there is to say by now to a message that is read while it is written, in binary HTTP. Returns whether
    /// the message is complete.
    pub fn write(&mut self, message: &mut Vec<u8>) -> bool {
        let is_over = self.outcome.is_some();
        let may_write = is_over || (self.is_streamed() && !self.text.is_empty());
        if !may_write {
            return false;
        }
        if !self.has_begun
            && let Some(Err(problem)) = self.outcome.take_if(|end| end.is_err())
        {
            let response = self.problem(problem).encode();
            message.extend_from_slice(&response.expect("our status codes are ones"));
            return true;
        }
        let mut content = Zeroizing::new(Vec::new());
        let is_first = !self.has_begun;
        let media_type = self.write_content(&mut content);
        if is_first {
            let head = inner::answer(200, media_type, Vec::new());
            stream::put_head(message, &head).expect("200 is a final status");
        }
        stream::put_content(message, &content);
        if is_over {
            stream::put_end(message);
        }
        is_over
    }

    fn is_streamed(&self) -> bool {
        match self.format {
            Format::Summary { is_streamed } | Format::Chat { is_streamed, .. } => is_streamed,
            Format::Rewrite => false,
        }
    }

    fn problem(&self, problem: Problem) -> bhttp::Response {
        match self.format {
            Format::Chat { .. } => inner::answer_problem(&problem.with_error()),
            _ => inner::answer_problem(&problem),
        }
    }

    /// Appends the content that there is by now; returns its media type.
    fn write_content(&mut self, out: &mut Vec<u8>) -> &'static str {
        let mut outcome = self.outcome.take();
        if let Some(Ok(answer)) = &mut outcome
            && !matches!(self.format, Format::Rewrite)
        {
            // The rest of the text.
            answer
                .texts
                .iter()
                .for_each(|rest| self.text.push_str(rest));
        }
        let text = core::mem::take(&mut self.text);
        let is_first = !core::mem::replace(&mut self.has_begun, true);
        if self.is_streamed() {
            self.write_events(out, &text, is_first, outcome.as_ref());
            return media::EVENT_STREAM;
        }
        if let Some(Ok(answer)) = outcome {
            out.extend_from_slice(&self.json(&text, answer));
        }
        media::JSON
    }

    fn write_events(
        &self,
        out: &mut Vec<u8>,
        text: &str,
        is_first: bool,
        outcome: Option<&Result<Answer, Problem>>,
    ) {
        if !text.is_empty() || (is_first && outcome.is_some()) {
            match &self.format {
                Format::Chat { completion, .. } => completion.put_piece(out, text, is_first),
                _ => events::put(out, &summarize::Event::piece(text).to_json()),
            }
        }
        match (outcome, &self.format) {
            (None, _) => {}
            (Some(Err(problem)), _) => chat::put_error(out, &problem.error_body()),
            (
                Some(Ok(answer)),
                Format::Chat {
                    completion,
                    include_usage,
                    ..
                },
            ) => {
                let usage = chat_usage(answer);
                completion.put_end(out, answer.finish, include_usage.then_some(usage));
            }
            (Some(Ok(answer)), _) => {
                let end = summarize::Event::end(summary_usage(answer), self.model.as_str());
                events::put(out, &end.to_json());
                events::put(out, events::DONE.as_bytes());
            }
        }
    }

    fn json(&self, text: &str, answer: Answer) -> Zeroizing<Vec<u8>> {
        let model = self.model.clone();
        match &self.format {
            Format::Chat { completion, .. } => {
                completion.to_json(text, answer.finish, chat_usage(&answer))
            }
            Format::Summary { .. } => {
                let response = summarize::Response {
                    summary: text.into(),
                    usage: summary_usage(&answer),
                    model,
                };
                Zeroizing::new(response.to_json())
            }
            Format::Rewrite => {
                let usage = rewrite::Usage {
                    prompt_tokens: answer.prompt_tokens,
                    output_tokens: answer.output_tokens,
                };
                let mut texts = answer.texts;
                let response = rewrite::Response {
                    suggestions: texts
                        .iter_mut()
                        .map(|text| core::mem::take(&mut **text))
                        .collect(),
                    usage,
                    model,
                };
                Zeroizing::new(response.to_json())
            }
        }
    }
}

fn chat_usage(answer: &Answer) -> chat::Usage {
    chat::Usage::new(answer.prompt_tokens, answer.output_tokens)
}

fn summary_usage(answer: &Answer) -> summarize::Usage {
    summarize::Usage {
        prompt_tokens: answer.prompt_tokens,
        output_tokens: answer.output_tokens,
        parts: answer.parts,
    }
}
