//! Byte-level BPE: text to tokens and back, the way the model was trained.
//!
//! Text is normalised, cut into words by the model's pre-tokenizer, and each word's bytes are joined
//! by the merges of the vocabulary. What the user wrote is encoded with [`Special::Plain`], which no
//! merge can turn into a special token: nobody can forge a turn of the conversation.

pub mod data;

mod bpe;
mod chat;
mod normalize;
mod pre;
mod stream;
mod unicode;

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use self::data::{DataError, Ids, TokenKind};
pub use self::{
    chat::{ChatTemplate, Role, Turn},
    pre::PreTokenizer,
    stream::Utf8Stream,
};

/// Whether text may name special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|im_end|>` in the text is that token. Only for text of our own.
    Parse,
    /// `<|im_end|>` in the text is ten characters. For everything from outside.
    Plain,
}

/// A tokenizer that reads its tables in place from the model pack. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'p> {
    pre_tokenizer: PreTokenizer,
    chat_template: ChatTemplate,
    byte_tokens: Ids<'p>,
    token_starts: Ids<'p>,
    specials: Ids<'p>,
    stops: Ids<'p>,
    merge_starts: Ids<'p>,
    /// Pairs: right token, rank.
    merges: Ids<'p>,
    merge_results: Ids<'p>,
    kinds: &'p [u8],
    token_bytes: &'p [u8],
    turn_start: u32,
    turn_end: u32,
}

impl<'p> Tokenizer<'p> {
    /// Number of tokens; every token is below it.
    #[must_use]
    pub fn token_count(&self) -> u32 {
        self.kinds.len() as u32
    }

    /// What a token stands for, `None` if there is no such token.
    #[must_use]
    pub fn kind(&self, token: u32) -> Option<TokenKind> {
        TokenKind::from_byte(*self.kinds.get(token as usize)?)
    }

    /// The bytes of a token: text, or the name of a special token. Empty if there is no such token.
    #[must_use]
    pub fn token_bytes(&self, token: u32) -> &'p [u8] {
        if token >= self.token_count() {
            return &[];
        }
        let start = self.token_starts.get(token as usize) as usize;
        let end = self.token_starts.get(token as usize + 1) as usize;
        self.token_bytes.get(start..end).unwrap_or_default()
    }

    /// Whether a token ends an answer.
    #[must_use]
    pub fn is_stop(&self, token: u32) -> bool {
        self.stops.iter().any(|stop| stop == token)
    }

    /// The token of this name, special tokens only.
    #[must_use]
    pub fn special_token(&self, name: &str) -> Option<u32> {
        self.specials
            .iter()
            .find(|&id| self.token_bytes(id) == name.as_bytes())
    }

    /// Encodes text. At most one token a byte of normalised text comes out; the work is at most
    /// O(n log n), also for one word of n bytes, and needs about 32 bytes of memory a byte of the
    /// longest word. Bytes that the vocabulary has no token for are left out, as in the reference.
    #[must_use]
    pub fn encode(&self, text: &str, special: Special) -> Zeroizing<Vec<u32>> {
        match special {
            Special::Plain => {
                let text = normalize::normalize(self.pre_tokenizer, text);
                let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
                self.encode_words(&text, &mut out);
                out
            }
            Special::Parse => self.encode_with_specials(text),
        }
    }

    fn encode_with_specials(&self, text: &str) -> Zeroizing<Vec<u32>> {
        // Normalisation makes text at most three times as long (UAX #15, 9.3).
        let mut out = Zeroizing::new(Vec::with_capacity(3 * text.len()));
        let mut rest = text;
        while !rest.is_empty() {
            let found = self.next_special(rest);
            let (plain, after) = match found {
                Some((at, id)) => (&rest[..at], &rest[at + self.token_bytes(id).len()..]),
                None => (rest, ""),
            };
            self.encode_words(&normalize::normalize(self.pre_tokenizer, plain), &mut out);
            out.extend(found.map(|(_, id)| id));
            rest = after;
        }
        out
    }

    /// Where the first special token of `text` is; of several at one place, the longest.
    fn next_special(&self, text: &str) -> Option<(usize, u32)> {
        let name = |id| core::str::from_utf8(self.token_bytes(id)).unwrap_or_default();
        let found = self
            .specials
            .iter()
            .filter_map(|id| Some((text.find(name(id))?, id)));
        found.min_by_key(|&(at, id)| (at, core::cmp::Reverse(self.token_bytes(id).len())))
    }

    /// Encodes normalised text without special tokens.
    fn encode_words(&self, text: &str, out: &mut Vec<u32>) {
        let mut merger = bpe::Merger::default();
        for word in pre::words(self.pre_tokenizer, text) {
            merger.encode(self, word.as_bytes(), out);
        }
    }

    /// Decodes tokens to text, control and unused tokens left out, malformed UTF-8 replaced.
    #[must_use]
    pub fn decode(&self, tokens: &[u32]) -> Zeroizing<String> {
        let bytes: usize = tokens
            .iter()
            .map(|&token| self.text_bytes(token).len())
            .sum();
        // A malformed byte becomes three bytes; the last character may be malformed on top of that.
        let mut text = Zeroizing::new(String::with_capacity(3 * bytes + 3));
        let mut stream = Utf8Stream::default();
        tokens
            .iter()
            .for_each(|&token| stream.push(self.text_bytes(token), &mut text));
        stream.finish(&mut text);
        text
    }

    /// The bytes that a token adds to decoded text: none for control and unused tokens.
    #[must_use]
    pub fn text_bytes(&self, token: u32) -> &'p [u8] {
        match self.kind(token) {
            Some(TokenKind::Normal | TokenKind::UserDefined) => self.token_bytes(token),
            _ => &[],
        }
    }

    /// Rank and result of the merge of two tokens, if they merge.
    fn merge(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let (mut low, mut high) = self.merge_range(left);
        while low < high {
            let middle = low.midpoint(high);
            let (candidate, rank) = self.merge_at(middle);
            match candidate.cmp(&right) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
                core::cmp::Ordering::Equal => {
                    return Some((rank, self.merge_results.get(rank as usize)));
                }
            }
        }
        None
    }

    /// Where the merges with this left token are.
    fn merge_range(&self, left: u32) -> (usize, usize) {
        let start = self.merge_starts.get(left as usize) as usize;
        (start, self.merge_starts.get(left as usize + 1) as usize)
    }

    /// Right token and rank of the merge at an index.
    fn merge_at(&self, index: usize) -> (u32, u32) {
        (self.merges.get(2 * index), self.merges.get(2 * index + 1))
    }

    /// Finds the tokens that the chat template needs.
    fn with_template_marks(mut self) -> Result<Self, DataError> {
        let mark = |name| self.special_token(name).ok_or(DataError::Template(name));
        (self.turn_start, self.turn_end) = match self.chat_template {
            ChatTemplate::ChatMl => (mark(chat::CHATML_START)?, mark(chat::CHATML_END)?),
        };
        Ok(self)
    }
}

#[cfg(test)]
pub(crate) mod tests;
