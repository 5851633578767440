//! The prompt: instructions, one worked example as turns of the conversation, and the text.
//!
//! A worked example shows small models what to keep (decisions, dates, who does what) better than
//! any instruction does. It is short, because every token of it is paid for with each request.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use super::{Style, split::Line};
use crate::tokenizer::{Role, Tokenizer, Turn};

/// What is being summarized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Several messages.
    Thread,
    /// One message: a mail or an article.
    Text,
    /// Summaries of the parts of something longer.
    Parts,
}

impl Shape {
    pub(super) fn of(lines: &[Line]) -> Self {
        if lines.len() == 1 {
            Self::Text
        } else {
            Self::Thread
        }
    }

    const ALL: [Self; 3] = [Self::Thread, Self::Text, Self::Parts];
}

impl Style {
    const ALL: [Self; 3] = [Self::Bullets, Self::Paragraph, Self::Headline];
}

const SYSTEM: &str = "You write short, accurate summaries.";

/// One request to the model.
pub(super) struct Prompt<'t> {
    pub(super) shape: Shape,
    pub(super) style: Style,
    /// Lines, each with its end.
    pub(super) text: &'t str,
}

impl Prompt<'_> {
    /// The prompt's tokens; the model's answer comes next.
    pub(super) fn encode(&self, tokenizer: &Tokenizer<'_>) -> Zeroizing<Vec<u32>> {
        let (example, answer) = example(self.shape, self.style);
        let (example, text) = (self.ask(example), self.ask(self.text));
        tokenizer.encode_chat(&[
            Turn {
                role: Role::System,
                text: SYSTEM,
            },
            Turn {
                role: Role::User,
                text: &example,
            },
            Turn {
                role: Role::Assistant,
                text: answer,
            },
            Turn {
                role: Role::User,
                text: &text,
            },
        ])
    }

    fn ask(&self, text: &str) -> Zeroizing<String> {
        let (before, after) = question(self.shape, self.style);
        let mut out = Zeroizing::new(String::with_capacity(
            before.len() + text.len() + after.len(),
        ));
        out.push_str(before);
        out.push_str(text);
        out.push_str(after);
        out
    }
}

/// What stands before the text, up to a line end, and after it.
fn question(shape: Shape, style: Style) -> (&'static str, &'static str) {
    let before = match shape {
        Shape::Thread => "Messages:\n",
        Shape::Text => "Text:\n",
        Shape::Parts => "Notes:\n",
    };
    let after = match style {
        Style::Bullets => {
            "\nSummarize in short bullet points: what was decided, when, and who will do what."
        }
        Style::Paragraph => {
            "\nSummarize in two or three sentences: what was decided, when, and who will do what."
        }
        Style::Headline => "\nSummarize in one short headline.",
    };
    (before, after)
}

/// A worked example: lines and their summary.
fn example(shape: Shape, style: Style) -> (&'static str, &'static str) {
    let text = match shape {
        Shape::Thread | Shape::Text | Shape::Parts => {
            "Mia: The printer on floor 2 is broken again.\n\
             Tom: I called the repair service, they come on Tuesday at 9.\n\
             Mia: Thanks! I will be away until Wednesday, can you let them in?\n\
             Tom: Sure. Until then please use the one on floor 3.\n"
        }
    };
    let answer = match style {
        Style::Bullets => {
            "- The printer on floor 2 is broken; until it is repaired, use the one on floor 3.\n\
             - The repair service comes on Tuesday at 9.\n\
             - Tom lets them in because Mia is away until Wednesday."
        }
        Style::Paragraph => {
            "The printer on floor 2 is broken, and the repair service comes on Tuesday at 9. Tom lets them in \
             because Mia is away until Wednesday. Until then, the printer on floor 3 is to be used."
        }
        Style::Headline => "Printer on floor 2 broken, repair on Tuesday at 9",
    };
    (text, answer)
}

/// Tokens of the longest prompt without its text. Neither the text's lines nor what is around them
/// share a token, because each begins behind a line end.
pub(super) fn longest_frame(tokenizer: &Tokenizer<'_>) -> usize {
    let frames = Shape::ALL.into_iter().flat_map(|shape| {
        Style::ALL.map(|style| Prompt {
            shape,
            style,
            text: "",
        })
    });
    frames
        .map(|frame| frame.encode(tokenizer).len())
        .max()
        .unwrap_or(0)
}
