//! Bytes of tokens to text, although a character may be spread over several tokens.

use alloc::string::String;

/// Longest UTF-8 sequence.
const MAX_CHAR_BYTES: usize = 4;

/// Holds the bytes of a character that is not complete yet. Malformed bytes become U+FFFD, as in
/// `String::from_utf8_lossy` over all the bytes at once.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    pending: [u8; MAX_CHAR_BYTES],
    length: usize,
}

impl Utf8Stream {
    /// Takes the bytes of the next token and appends the characters that are complete to `text`.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        for &byte in bytes {
            self.pending[self.length] = byte;
            self.length += 1;
            self.settle(text);
        }
    }

    /// Ends the text: what is still pending never became a character.
    pub fn finish(&mut self, text: &mut String) {
        if self.length > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        *self = Self::default();
    }

    /// Whether a character is still incomplete.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.length > 0
    }

    /// Moves on until what is pending may still become a character.
    fn settle(&mut self, text: &mut String) {
        while self.length > 0 {
            let (consumed, c) = match core::str::from_utf8(&self.pending[..self.length]) {
                Ok(complete) => (self.length, complete.chars().next()),
                Err(error) => match error.error_len() {
                    Some(malformed) => (malformed, Some(char::REPLACEMENT_CHARACTER)),
                    None => return,
                },
            };
            text.extend(c);
            self.pending.copy_within(consumed..self.length, 0);
            self.length -= consumed;
            self.pending[self.length..].fill(0);
        }
    }
}
