//! The model pack's tokenizer section: written once at build time, used in place at run time.
//!
//! All integers are little-endian `u32` unless said otherwise. With T tokens, M merges, S special
//! and E end-of-turn tokens:
//!
//! | field | bytes |
//! |---|---|
//! | magic `CLTK`, version `u16`, pre-tokenizer `u8`, chat template `u8` | 8 |
//! | T, M, S, E, length of the token bytes | 20 |
//! | token of each single byte, `NO_TOKEN` where the vocabulary has none | 1024 |
//! | where each token's bytes begin, and the end | 4 (T + 1) |
//! | special tokens that text may be parsed for, ascending | 4 S |
//! | tokens that end an answer | 4 E |
//! | for each left token, where its merges begin, and the end | 4 (T + 1) |
//! | merges by left token: right token (ascending), rank | 8 M |
//! | for each rank, the token that the merge makes | 4 M |
//! | kind of each token | T |
//! | token bytes | the rest |
//!
//! So a pair is looked up by a binary search among the few merges of its left token, and opening the
//! section allocates one bit a merge and nothing else.

use alloc::{vec, vec::Vec};
use core::fmt;

use super::{ChatTemplate, PreTokenizer, Tokenizer};

const MAGIC: &[u8; 4] = b"CLTK";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;

/// Marks a byte that has no token of its own.
pub(super) const NO_TOKEN: u32 = u32::MAX;
/// Most tokens that a vocabulary may have.
pub const MAX_TOKENS: usize = 1 << 20;
/// Most merges that a vocabulary may have.
pub const MAX_MERGES: usize = 1 << 20;
/// Longest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;
/// Most special tokens that text may be parsed for.
pub const MAX_SPECIAL: usize = 1024;
/// Most tokens that end an answer.
pub const MAX_STOPS: usize = 16;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// Bytes of text; the only kind that plain text is ever encoded to.
    Normal = 0,
    /// A mark of the model's own language (`<|im_start|>`): never part of decoded text.
    Control = 1,
    /// A mark that is also text (`<tool_call>`).
    UserDefined = 2,
    /// A row of the embedding that no text leads to.
    Unused = 3,
}

impl TokenKind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Normal,
            1 => Self::Control,
            2 => Self::UserDefined,
            3 => Self::Unused,
            _ => return None,
        })
    }
}

/// One entry of a vocabulary that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceToken {
    /// The bytes of text that the token stands for, or the name of a special token.
    pub bytes: Vec<u8>,
    /// What the token stands for.
    pub kind: TokenKind,
}

/// One merge rule that is to be written: the tokens `left` and `right`, side by side, become `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceMerge {
    /// Token on the left.
    pub left: u32,
    /// Token on the right.
    pub right: u32,
    /// Token whose bytes are those of both.
    pub result: u32,
}

/// A whole tokenizer that is to be written.
#[derive(Clone, Debug)]
pub struct Source {
    /// How text is cut into words.
    pub pre_tokenizer: PreTokenizer,
    /// How turns of a conversation are marked.
    pub chat_template: ChatTemplate,
    /// The vocabulary; the index is the token's number.
    pub tokens: Vec<SourceToken>,
    /// The merges, the most urgent first.
    pub merges: Vec<SourceMerge>,
    /// Tokens that end an answer.
    pub stops: Vec<u32>,
}

/// Why a tokenizer section is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataError {
    /// The section does not begin like one, or is of another version.
    NotASection,
    /// The section's length is not the one that its counts give.
    Length {
        /// Bytes that the counts give.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A count or a length is over its limit.
    TooMany(&'static str),
    /// The pre-tokenizer or chat template is not known.
    Unknown(&'static str),
    /// A token is malformed: its place, length, kind or bytes.
    Token(u32),
    /// The token named for this byte is not that byte.
    Byte(u8),
    /// A special or end-of-turn token is not one, or is out of order.
    Special(u32),
    /// The merges of this left token are out of order or make something else than left and right.
    Merge(u32),
    /// The chat template needs a special token that the vocabulary lacks.
    Template(&'static str),
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASection => f.write_str("not a tokenizer section of this version"),
            Self::Length { expected, found } => {
                write!(
                    f,
                    "tokenizer section of {found} bytes, its counts give {expected}"
                )
            }
            Self::TooMany(what) => write!(f, "too many or too long: {what}"),
            Self::Unknown(what) => write!(f, "unknown {what}"),
            Self::Token(id) => write!(f, "token {id} is malformed"),
            Self::Byte(byte) => write!(f, "the token of byte {byte} does not stand for it"),
            Self::Special(id) => write!(f, "token {id} is misplaced among the special tokens"),
            Self::Merge(left) => write!(f, "the merges of token {left} are malformed"),
            Self::Template(name) => write!(f, "the chat template needs the special token {name}"),
        }
    }
}

impl core::error::Error for DataError {}

/// Writes a tokenizer section; the same source gives the same bytes.
///
/// # Errors
/// Whatever [`parse`] would refuse in the result.
pub fn encode(source: &Source) -> Result<Vec<u8>, DataError> {
    check_counts(source)?;
    let specials: Vec<u32> = ids_where(source, |kind| {
        matches!(kind, TokenKind::Control | TokenKind::UserDefined)
    });
    let blob_bytes: usize = source.tokens.iter().map(|token| token.bytes.len()).sum();
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(source.pre_tokenizer as u8);
    out.push(source.chat_template as u8);
    for count in [
        source.tokens.len(),
        source.merges.len(),
        specials.len(),
        source.stops.len(),
        blob_bytes,
    ] {
        push(
            &mut out,
            u32::try_from(count).map_err(|_| DataError::TooMany("token bytes"))?,
        );
    }
    byte_tokens(source)
        .iter()
        .for_each(|&id| push(&mut out, id));
    push_starts(
        &mut out,
        source.tokens.iter().map(|token| token.bytes.len()),
    );
    specials
        .iter()
        .chain(&source.stops)
        .for_each(|&id| push(&mut out, id));
    push_merges(&mut out, source)?;
    out.extend(source.tokens.iter().map(|token| token.kind as u8));
    source
        .tokens
        .iter()
        .for_each(|token| out.extend_from_slice(&token.bytes));
    parse(&out)?;
    Ok(out)
}

fn check_counts(source: &Source) -> Result<(), DataError> {
    if source.tokens.len() > MAX_TOKENS {
        return Err(DataError::TooMany("tokens"));
    }
    if source.merges.len() > MAX_MERGES {
        return Err(DataError::TooMany("merges"));
    }
    Ok(())
}

fn ids_where(source: &Source, wanted: impl Fn(TokenKind) -> bool) -> Vec<u32> {
    (0u32..)
        .zip(&source.tokens)
        .filter(|(_, token)| wanted(token.kind))
        .map(|(id, _)| id)
        .collect()
}

fn byte_tokens(source: &Source) -> [u32; 256] {
    let mut found = [NO_TOKEN; 256];
    for id in ids_where(source, |kind| kind == TokenKind::Normal) {
        if let [byte] = source.tokens[id as usize].bytes[..] {
            found[usize::from(byte)] = found[usize::from(byte)].min(id);
        }
    }
    found
}

fn push(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Pushes where each item begins and where the last one ends. [`check_counts`] and the token bytes'
/// own count keep the sums within `u32`.
fn push_starts(out: &mut Vec<u8>, lengths: impl Iterator<Item = usize>) {
    let mut at = 0u32;
    push(out, at);
    for length in lengths {
        at += length as u32;
        push(out, at);
    }
}

fn push_merges(out: &mut Vec<u8>, source: &Source) -> Result<(), DataError> {
    let mut merges: Vec<(u32, u32, u32)> = (0u32..)
        .zip(&source.merges)
        .map(|(rank, merge)| (merge.left, merge.right, rank))
        .collect();
    merges.sort_unstable();
    let mut counts = vec![0usize; source.tokens.len()];
    for &(left, ..) in &merges {
        *counts
            .get_mut(left as usize)
            .ok_or(DataError::Merge(left))? += 1;
    }
    push_starts(out, counts.into_iter());
    for (_, right, rank) in merges {
        push(out, right);
        push(out, rank);
    }
    source
        .merges
        .iter()
        .for_each(|merge| push(out, merge.result));
    Ok(())
}

/// Opens a tokenizer section in place, believing none of it: every count, place, order and reference
/// is checked, and that each merge makes exactly the bytes of its two sides.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(section: &[u8]) -> Result<Tokenizer<'_>, DataError> {
    let tokenizer = split(section)?;
    check_tokens(&tokenizer)?;
    check_bytes(&tokenizer)?;
    check_specials(&tokenizer)?;
    check_merges(&tokenizer)?;
    tokenizer.with_template_marks()
}

/// Cuts the section into its arrays; only lengths are checked here.
fn split(section: &[u8]) -> Result<Tokenizer<'_>, DataError> {
    let (header, rest) = section
        .split_at_checked(HEADER_BYTES)
        .ok_or(DataError::NotASection)?;
    if &header[..4] != MAGIC || header[4..6] != VERSION.to_le_bytes() {
        return Err(DataError::NotASection);
    }
    let counts = Ids(&header[8..]);
    let limit = |index: usize, most: usize, what| {
        let count = counts.get(index) as usize;
        if count > most {
            Err(DataError::TooMany(what))
        } else {
            Ok(count)
        }
    };
    let tokens = limit(0, MAX_TOKENS, "tokens")?;
    let merges = limit(1, MAX_MERGES, "merges")?;
    let specials = limit(2, MAX_SPECIAL, "special tokens")?;
    let stops = limit(3, MAX_STOPS, "end-of-turn tokens")?;
    let blob = limit(4, MAX_TOKENS * MAX_TOKEN_BYTES, "token bytes")?;
    let words = 256 + (tokens + 1) + specials + stops + (tokens + 1) + 3 * merges;
    let expected = HEADER_BYTES + 4 * words + tokens + blob;
    if section.len() != expected {
        return Err(DataError::Length {
            expected,
            found: section.len(),
        });
    }
    let mut rest = rest;
    let mut take = |bytes: usize| {
        let (head, tail) = rest.split_at(bytes);
        rest = tail;
        head
    };
    Ok(Tokenizer {
        pre_tokenizer: PreTokenizer::from_byte(header[6])
            .ok_or(DataError::Unknown("pre-tokenizer"))?,
        chat_template: ChatTemplate::from_byte(header[7])
            .ok_or(DataError::Unknown("chat template"))?,
        byte_tokens: Ids(take(1024)),
        token_starts: Ids(take(4 * (tokens + 1))),
        specials: Ids(take(4 * specials)),
        stops: Ids(take(4 * stops)),
        merge_starts: Ids(take(4 * (tokens + 1))),
        merges: Ids(take(8 * merges)),
        merge_results: Ids(take(4 * merges)),
        kinds: take(tokens),
        token_bytes: take(blob),
        turn_start: NO_TOKEN,
        turn_end: NO_TOKEN,
    })
}

fn check_tokens(tokenizer: &Tokenizer<'_>) -> Result<(), DataError> {
    let starts = tokenizer.token_starts;
    let mut at = 0;
    for id in 0..tokenizer.token_count() {
        let (start, end) = (starts.get(id as usize), starts.get(id as usize + 1));
        let kind = TokenKind::from_byte(tokenizer.kinds[id as usize]);
        if start != at || end < start || (end - start) as usize > MAX_TOKEN_BYTES || kind.is_none()
        {
            return Err(DataError::Token(id));
        }
        if end as usize > tokenizer.token_bytes.len() {
            return Err(DataError::Token(id));
        }
        at = end;
    }
    if at as usize == tokenizer.token_bytes.len() && starts.get(0) == 0 {
        Ok(())
    } else {
        Err(DataError::Token(tokenizer.token_count()))
    }
}

fn check_bytes(tokenizer: &Tokenizer<'_>) -> Result<(), DataError> {
    for byte in 0..=u8::MAX {
        let id = tokenizer.byte_tokens.get(usize::from(byte));
        let fits =
            id == NO_TOKEN || (is_normal(tokenizer, id) && tokenizer.token_bytes(id) == [byte]);
        if !fits {
            return Err(DataError::Byte(byte));
        }
    }
    Ok(())
}

fn is_normal(tokenizer: &Tokenizer<'_>, id: u32) -> bool {
    tokenizer.kind(id) == Some(TokenKind::Normal)
}

fn check_specials(tokenizer: &Tokenizer<'_>) -> Result<(), DataError> {
    let mut previous = None;
    for id in tokenizer.specials.iter() {
        let kind = tokenizer.kind(id);
        let special = matches!(kind, Some(TokenKind::Control | TokenKind::UserDefined));
        let name = core::str::from_utf8(tokenizer.token_bytes(id));
        if !special || previous >= Some(id) || name.is_ok_and(str::is_empty) || name.is_err() {
            return Err(DataError::Special(id));
        }
        previous = Some(id);
    }
    match tokenizer
        .stops
        .iter()
        .find(|&id| id >= tokenizer.token_count())
    {
        Some(id) => Err(DataError::Special(id)),
        None => Ok(()),
    }
}

fn check_merges(tokenizer: &Tokenizer<'_>) -> Result<(), DataError> {
    let merge_count = tokenizer.merge_results.len();
    let mut ranks_seen = vec![0u8; merge_count.div_ceil(8)];
    let mut at = 0;
    for left in 0..tokenizer.token_count() {
        let (start, end) = tokenizer.merge_range(left);
        if start != at || end < start || end > merge_count {
            return Err(DataError::Merge(left));
        }
        let mut previous = None;
        for index in start..end {
            let (right, rank) = tokenizer.merge_at(index);
            let fresh = mark(&mut ranks_seen, rank as usize, merge_count);
            if previous >= Some(right) || !fresh || !merge_fits(tokenizer, left, right, rank) {
                return Err(DataError::Merge(left));
            }
            previous = Some(right);
        }
        at = end;
    }
    if at == merge_count {
        Ok(())
    } else {
        Err(DataError::Merge(tokenizer.token_count()))
    }
}

/// Marks a rank as seen; false if it is out of range or was seen before.
fn mark(seen: &mut [u8], rank: usize, ranks: usize) -> bool {
    let fresh = rank < ranks && seen[rank / 8] & (1 << (rank % 8)) == 0;
    if fresh {
        seen[rank / 8] |= 1 << (rank % 8);
    }
    fresh
}

/// Whether a merge joins text only and makes exactly its two sides, so that encoding can lose nothing
/// and can never reach a special token.
fn merge_fits(tokenizer: &Tokenizer<'_>, left: u32, right: u32, rank: u32) -> bool {
    let result = tokenizer.merge_results.get(rank as usize);
    if ![left, right, result]
        .iter()
        .all(|&id| is_normal(tokenizer, id))
    {
        return false;
    }
    let (left, right) = (tokenizer.token_bytes(left), tokenizer.token_bytes(right));
    tokenizer.token_bytes(result).strip_prefix(left) == Some(right)
        && !left.is_empty()
        && !right.is_empty()
}

/// Little-endian `u32` values in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'p>(pub(super) &'p [u8]);

impl<'p> Ids<'p> {
    pub(super) fn len(self) -> usize {
        self.0.len() / 4
    }

    /// The value at an index that is below [`Self::len`].
    pub(super) fn get(self, index: usize) -> u32 {
        let bytes = &self.0[4 * index..4 * index + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> + use<'p> {
        (0..self.len()).map(move |index| self.get(index))
    }
}

#[cfg(test)]
mod tests;
