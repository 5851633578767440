//! The text of an answer as it grows: whole characters, and nothing of a string that ends it.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use crate::tokenizer::Utf8Stream;

/// Bytes of tokens to text that may be shown.
#[derive(Debug)]
pub(super) struct Text {
    /// None of them is empty.
    stops: Vec<Zeroizing<String>>,
    characters: Utf8Stream,
    /// What may still become one of the `stops`, or was not taken yet.
    held: Zeroizing<String>,
    /// One of them came: nothing more is shown.
    stopped: bool,
}

impl Text {
    pub(super) fn new(stops: Vec<Zeroizing<String>>) -> Self {
        Self {
            stops,
            characters: Utf8Stream::default(),
            held: Zeroizing::default(),
            stopped: false,
        }
    }

    /// Takes the bytes of the next token. Whether the answer goes on: it ends before the first of the `stops`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.stopped {
            return false;
        }
        self.reserve(3 * bytes.len() + 3);
        self.characters.push(bytes, &mut self.held);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = first {
            self.held.truncate(at);
            self.stopped = true;
        }
        first.is_none()
    }

    /// The text that is certain and was not taken yet.
    pub(super) fn take(&mut self) -> Zeroizing<String> {
        let certain = match self.stopped {
            true => self.held.len(),
            false => self.held.len() - self.uncertain(),
        };
        let taken = Zeroizing::new(String::from(&self.held[..certain]));
        self.held.drain(..certain);
        taken
    }

    /// The rest, where no more will come.
    pub(super) fn finish(&mut self) -> Zeroizing<String> {
        if !self.stopped {
            self.reserve(3);
            self.characters.finish(&mut self.held);
        }
        core::mem::take(&mut self.held)
    }

    /// Bytes at the end of what is held that one of the `stops` begins with.
    fn uncertain(&self) -> usize {
        let beginnings = self.stops.iter().map(|stop| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest)
                .rev()
                .find(|&length| {
                    let end = &self.held.as_bytes()[self.held.len() - length..];
                    stop.as_bytes().starts_with(end)
                })
                .unwrap_or(0)
        });
        beginnings.max().unwrap_or(0)
    }

    /// Room for so many more bytes. What must move leaves no copy behind.
    fn reserve(&mut self, bytes: usize) {
        let needed = self.held.len() + bytes;
        if self.held.capacity() < needed {
            let mut moved = Zeroizing::new(String::with_capacity(2 * needed));
            moved.push_str(&self.held);
            self.held = moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stops: &[&str]) -> Text {
        Text::new(
            stops
                .iter()
                .map(|stop| Zeroizing::new((*stop).into()))
                .collect(),
        )
    }

    /// The pieces that are shown of bytes that come in steps of `step`, up to a stop.
    fn shown(stops: &[&str], answer: &[u8], step: usize) -> Vec<String> {
        let mut text = text(stops);
        let mut pieces = Vec::new();
        for bytes in answer.chunks(step) {
            let goes_on = text.push(bytes);
            pieces.push(text.take().to_string());
            if !goes_on {
                break;
            }
        }
        pieces.push(text.finish().to_string());
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    #[test]
    fn characters_are_never_split() {
        let answer = "é 日本 👩\u{200d}🚀";
        for step in 1..=answer.len() {
            let pieces = shown(&[], answer.as_bytes(), step);
            assert_eq!(pieces.concat(), answer, "{step}");
        }
        assert_eq!(shown(&[], b"a\xf0\x9f", 1).concat(), "a\u{fffd}");
    }

    #[test]
    fn nothing_of_a_stop_is_shown_however_it_is_cut() {
        let stops = ["\nUser:", "END", "é!"];
        for (answer, expected) in [
            ("one\nUser: two", "one"),
            ("one\nUsed: two\nUser", "one\nUsed: two\nUser"),
            ("EENDX", "E"),
            ("ENENEND", "ENEN"),
            ("caf\u{e9}! more", "caf"),
            ("caf\u{e9}? more", "caf\u{e9}? more"),
            ("END", ""),
        ] {
            for step in 1..=answer.len() {
                let pieces = shown(&stops, answer.as_bytes(), step);
                assert_eq!(pieces.concat(), expected, "{answer} by {step}");
            }
        }
    }

    #[test]
    fn what_cannot_become_a_stop_is_shown_at_once() {
        let mut text = text(&["STOP"]);
        assert!(text.push(b"a ST"));
        assert_eq!(*text.take(), "a ");
        assert!(text.push(b"A"));
        assert_eq!(*text.take(), "STA");
        assert!(!text.push(b"xSTOPy"));
        assert_eq!(*text.take(), "x");
        assert!(!text.push(b"more"));
        assert_eq!((text.take().as_str(), text.finish().as_str()), ("", ""));
    }
}
