//! Texts that occur nowhere else.

use cloister_protocol::api::summarize::{Message, Request, Style};

/// Letters and digits, so that no spelling of JSON changes them.
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LENGTH: usize = 24;

/// A random word.
pub(crate) fn canary() -> String {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("random numbers");
    // Not all letters are equally likely, which does not matter here.
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    letters.iter().collect()
}

/// A request for a summary of two messages, one with so much text between two random words that reading it takes a
/// while.
pub(crate) fn thread(style: Style, filling: usize, max_tokens: u32) -> Request {
    let filler = "The box is on the table. ".repeat(filling);
    let long = format!("{} {filler}{}", canary(), canary());
    Request {
        messages: vec![
            Message::new(canary(), long),
            Message::new(canary(), canary()),
        ],
        style,
        max_tokens: Some(max_tokens),
    }
}
