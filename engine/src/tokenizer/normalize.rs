//! Unicode normalisation form C (UAX #15), which Qwen2's tokenizer applies before anything else.

use alloc::{string::String, vec::Vec};
use core::ops::Deref;

use zeroize::Zeroizing;

use super::{
    PreTokenizer,
    unicode::{combining_class, compose, decompose},
};

/// Text that is either the caller's or a normalised copy, wiped at its end.
pub(super) enum Normalized<'t> {
    Same(&'t str),
    Copy(Zeroizing<String>),
}

impl Deref for Normalized<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Same(text) => text,
            Self::Copy(text) => text,
        }
    }
}

/// Text as the pre-tokenizer wants it.
pub(super) fn normalize(pre_tokenizer: PreTokenizer, text: &str) -> Normalized<'_> {
    match pre_tokenizer {
        // Below U+0300 nothing decomposes into what is not composed again.
        PreTokenizer::Qwen2 if text.chars().any(|c| c >= '\u{300}') => Normalized::Copy(nfc(text)),
        PreTokenizer::Qwen2 | PreTokenizer::SmolLm => Normalized::Same(text),
    }
}

/// Most characters that one character decomposes into (UAX #15, 9.3, rounded up).
const MAX_EXPANSION: usize = 4;
/// Most bytes that a byte of text becomes in form C (UAX #15, 9.3).
const MAX_BYTE_EXPANSION: usize = 3;

/// Normalisation form C of a text; O(n log n) at worst, in one long run of combining marks.
pub(super) fn nfc(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(MAX_BYTE_EXPANSION * text.len()));
    // A segment begins with a starter that does not compose with what is before it, as far as one
    // character can tell: it is closed lazily, when the next starter has failed to compose.
    let room = MAX_EXPANSION * text.chars().count();
    let mut decomposed = Zeroizing::new(Vec::with_capacity(room));
    text.chars()
        .for_each(|c| push_decomposed(c, &mut decomposed));
    sort_marks(&mut decomposed);
    compose_all(&decomposed, &mut out);
    out
}

fn push_decomposed(c: char, out: &mut Vec<char>) {
    if let Some(syllable) = hangul::index_of(c) {
        out.extend(hangul::decompose(syllable));
        return;
    }
    match decompose(c) {
        // The table's chains are at most three steps long, so this does not nest deeply.
        Some((first, second)) => {
            push_decomposed(first, out);
            out.extend(second);
        }
        None => out.push(c),
    }
}

/// Puts each run of combining marks in canonical order, marks of one class as they stand.
fn sort_marks(text: &mut [char]) {
    for run in text.chunk_by_mut(|_, &next| combining_class(next) != 0) {
        let marks = usize::from(run.first().is_some_and(|&c| combining_class(c) == 0));
        run[marks..].sort_by_key(|&c| combining_class(c));
    }
}

/// Canonical composition (UAX #15, 1.3): a character joins the last starter before it unless another
/// of the same or a higher class stands between them.
fn compose_all(text: &[char], out: &mut String) {
    let mut starter: Option<char> = None;
    let mut marks = Zeroizing::new(Vec::with_capacity(text.len()));
    for &c in text {
        let class = combining_class(c);
        let blocked = marks
            .last()
            .is_some_and(|&last| combining_class(last) >= class);
        let joined = starter
            .filter(|_| !blocked)
            .and_then(|s| compose_pair(s, c));
        if joined.is_some() {
            starter = joined;
        } else if class == 0 {
            out.extend(starter.replace(c));
            out.extend(marks.drain(..));
        } else if starter.is_some() {
            marks.push(c);
        } else {
            out.push(c);
        }
    }
    out.extend(starter);
    out.extend(marks.drain(..));
}

fn compose_pair(first: char, second: char) -> Option<char> {
    hangul::compose(first, second).or_else(|| compose(first, second))
}

/// Conjoining jamo (The Unicode Standard, 3.12).
mod hangul {
    const S_BASE: u32 = 0xAC00;
    const L_BASE: u32 = 0x1100;
    const V_BASE: u32 = 0x1161;
    const T_BASE: u32 = 0x11A7;
    const L_COUNT: u32 = 19;
    const V_COUNT: u32 = 21;
    const T_COUNT: u32 = 28;

    /// The place of a precomposed syllable in its block.
    pub(super) fn index_of(c: char) -> Option<u32> {
        u32::from(c)
            .checked_sub(S_BASE)
            .filter(|&index| index < L_COUNT * V_COUNT * T_COUNT)
    }

    /// Leading consonant, vowel, and trailing consonant where there is one.
    pub(super) fn decompose(index: u32) -> impl Iterator<Item = char> {
        let trailing = Some(T_BASE + index % T_COUNT).filter(|&t| t > T_BASE);
        let pair = [
            L_BASE + index / (V_COUNT * T_COUNT),
            V_BASE + index / T_COUNT % V_COUNT,
        ];
        pair.into_iter().chain(trailing).filter_map(char::from_u32)
    }

    /// The syllable of a consonant and a vowel, or of a syllable and a trailing consonant.
    pub(super) fn compose(first: char, second: char) -> Option<char> {
        let within = |c: char, base: u32, count: u32| {
            u32::from(c)
                .checked_sub(base)
                .filter(|&index| index < count)
        };
        if let (Some(l), Some(v)) = (
            within(first, L_BASE, L_COUNT),
            within(second, V_BASE, V_COUNT),
        ) {
            return char::from_u32(S_BASE + (l * V_COUNT + v) * T_COUNT);
        }
        let syllable = index_of(first).filter(|index| index % T_COUNT == 0)?;
        let trailing = within(second, T_BASE, T_COUNT).filter(|&t| t > 0)?;
        char::from_u32(S_BASE + syllable + trailing)
    }
}
