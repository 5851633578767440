//! Cutting text into words, by hand instead of by the regular expressions that define it.
//!
//! `qwen2`, as in the tokenizer of Qwen2 (`pre_tokenizer` of its tokenizer.json):
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
//!
//! `smollm`, as in the tokenizer of SmolLM: every `\p{N}` alone, and what is between them by
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//!
//! Every alternative consumes what it looked at, up to a fixed number of looks, so the work is linear.

use super::unicode::{Class, class};

/// How a model's tokenizer prepares text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PreTokenizer {
    /// Qwen2 and Qwen2.5: normalisation form C, contractions in either case.
    Qwen2 = 1,
    /// SmolLM and SmolLM2: no normalisation, contractions in lower case.
    SmolLm = 2,
}

impl PreTokenizer {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Qwen2),
            2 => Some(Self::SmolLm),
            _ => None,
        }
    }
}

/// The words of normalised text; together they are the text.
pub(super) fn words(pre_tokenizer: PreTokenizer, text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = match pre_tokenizer {
            PreTokenizer::Qwen2 => qwen2_word(rest, first),
            PreTokenizer::SmolLm => smollm_word(rest, first),
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

/// Bytes of the first word of `text`, which begins with `first`.
fn qwen2_word(text: &str, first: char) -> usize {
    if let Some(length) = contraction(text, |suffix, letters| suffix.eq_ignore_ascii_case(letters))
    {
        return length;
    }
    let lead = match class(first) {
        Class::Number => return first.len_utf8(),
        Class::Letter => 0,
        _ => first.len_utf8(),
    };
    let letters = if is_line_end(first) {
        0
    } else {
        span(&text[lead..], |c| class(c) == Class::Letter)
    };
    if letters > 0 {
        return lead + letters;
    }
    let marks = marks(text, first);
    if marks > 0 {
        return marks + span(&text[marks..], is_line_end);
    }
    let space = span(text, is_space);
    match text[..space].rfind(is_line_end) {
        Some(last) => last + 1,
        None => space_word(text, space, |_| false),
    }
}

/// Bytes of the first word of `text`, which begins with `first`.
fn smollm_word(text: &str, first: char) -> usize {
    if class(first) == Class::Number {
        return first.len_utf8();
    }
    if let Some(length) = contraction(text, |suffix, letters| suffix == letters) {
        return length;
    }
    let lead = usize::from(first == ' ');
    let letters = span(&text[lead..], |c| class(c) == Class::Letter);
    if letters > 0 {
        return lead + letters;
    }
    let marks = marks(text, first);
    if marks > 0 {
        return marks;
    }
    // Numbers were cut out first: for the lookahead, one of them is the end of the text.
    space_word(text, span(text, is_space), |next| {
        class(next) == Class::Number
    })
}

/// Length of a contraction (`'s`, `'re`, ...) that the text begins with.
fn contraction(text: &str, same: impl Fn(&[u8], &[u8]) -> bool) -> Option<usize> {
    let letters = text.as_bytes().strip_prefix(b"'")?;
    let endings: [&[u8]; 7] = [b"s", b"t", b"re", b"ve", b"m", b"ll", b"d"];
    let found = endings
        .iter()
        .find(|e| letters.get(..e.len()).is_some_and(|start| same(start, e)))?;
    Some(1 + found.len())
}

/// ` ?[^\s\p{L}\p{N}]+`
fn marks(text: &str, first: char) -> usize {
    let lead = usize::from(first == ' ');
    match span(&text[lead..], |c| class(c) == Class::Other) {
        0 => 0,
        length => lead + length,
    }
}

/// `\s+(?!\S)|\s+` for a run of `space` bytes: the last character of the run is left to the word that
/// follows, unless the run has no other or nothing follows.
fn space_word(text: &str, space: usize, is_end: impl Fn(char) -> bool) -> usize {
    let last = text[..space].chars().next_back().map_or(0, char::len_utf8);
    match text[space..].chars().next() {
        Some(next) if !is_end(next) && space > last => space - last,
        _ => space,
    }
}

/// Bytes at the start of `text` whose characters are all wanted.
fn span(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

fn is_space(c: char) -> bool {
    class(c) == Class::Space
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}
