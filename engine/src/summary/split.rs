//! Cutting messages into parts that fit a prompt: between messages, else between sentences, else
//! between words, else between characters. Every character of every message is in exactly one part.

use alloc::{string::String, vec, vec::Vec};
use core::ops::Range;

use zeroize::Zeroizing;

use super::{Message, clean};

/// A cleaned message: who, and what, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: Zeroizing<String>,
    pub(super) text: Zeroizing<String>,
}

impl Line {
    /// The message as a line, unless it has no text.
    pub(super) fn of_message(message: &Message) -> Option<Self> {
        let text = clean::text(&message.text);
        (!text.is_empty()).then(|| Self {
            name: clean::name(&message.from),
            text,
        })
    }

    /// The line with a piece of its text: `name: text` and a line end.
    fn print(&self, piece: &str) -> Zeroizing<String> {
        let piece = piece.trim();
        let mut out = Zeroizing::new(String::with_capacity(self.name.len() + piece.len() + 3));
        if !self.name.is_empty() {
            out.push_str(&self.name);
            out.push_str(": ");
        }
        out.push_str(piece);
        out.push('\n');
        out
    }
}

/// A piece of a line's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) line: usize,
    pub(super) bytes: Range<usize>,
}

/// The texts of parts of at most `budget` tokens each; `count` counts the tokens of a text. Tokens
/// never reach across a line end, so the tokens of a part are the sum of those of its lines.
pub(super) fn parts(
    lines: &[Line],
    budget: usize,
    count: impl Fn(&str) -> usize,
) -> Vec<Zeroizing<String>> {
    let print = |part: Vec<Piece>| {
        let printed: Vec<_> = part
            .iter()
            .map(|p| lines[p.line].print(&lines[p.line].text[p.bytes.clone()]))
            .collect();
        let mut text = Zeroizing::new(String::with_capacity(
            printed.iter().map(|line| line.len()).sum(),
        ));
        printed.iter().for_each(|line| text.push_str(line));
        text
    };
    cut(lines, budget, count).into_iter().map(print).collect()
}

/// The pieces of each part.
pub(super) fn cut(lines: &[Line], budget: usize, count: impl Fn(&str) -> usize) -> Vec<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let fits = |bytes: Range<usize>| count(&line.print(&line.text[bytes])) <= budget;
        pieces.extend(
            cut_line(&line.text, fits)
                .into_iter()
                .map(|bytes| Piece { line: index, bytes }),
        );
    }
    let tokens = |piece: &Piece| {
        count(&lines[piece.line].print(&lines[piece.line].text[piece.bytes.clone()]))
    };
    balance(pieces, budget, tokens)
}

/// Puts pieces into as few parts as they need, of about equal size: a last part of one line would
/// weigh as much in the merged summary as all the others.
fn balance(pieces: Vec<Piece>, budget: usize, tokens: impl Fn(&Piece) -> usize) -> Vec<Vec<Piece>> {
    let sizes: Vec<usize> = pieces.iter().map(&tokens).collect();
    let total: usize = sizes.iter().sum();
    let target = total.div_ceil(total.div_ceil(budget).max(1));
    let mut parts = vec![Vec::new()];
    let mut used = 0;
    for (piece, size) in pieces.into_iter().zip(sizes) {
        if used >= target || used + size > budget {
            parts.push(Vec::new());
            used = 0;
        }
        used += size;
        parts.last_mut().expect("begins with one part").push(piece);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Cuts a line's text until each piece fits: at the best place near the middle, again and again. A
/// single character is never cut, whether it fits or not.
fn cut_line(text: &str, fits: impl Fn(Range<usize>) -> bool) -> Vec<Range<usize>> {
    let mut done = Vec::new();
    let mut waiting: Vec<_> = core::iter::once(0..text.len()).collect();
    while let Some(piece) = waiting.pop() {
        if fits(piece.clone()) {
            done.push(piece);
            continue;
        }
        match cut_place(&text[piece.clone()]) {
            Some(place) => {
                let place = piece.start + place;
                waiting.push(place..piece.end);
                waiting.push(piece.start..place);
            }
            None => done.push(piece),
        }
    }
    done
}

/// Where to cut a text in two: of the sentence ends in its middle half the one nearest the middle,
/// else a space there, else the middle character; `None` if there is only one character.
fn cut_place(text: &str) -> Option<usize> {
    let quarter = text.len() / 4;
    let middle_half = quarter..text.len() - quarter;
    let nearest = |places: &mut dyn Iterator<Item = usize>| {
        places
            .filter(|place| middle_half.contains(place) && *place > 0)
            .min_by_key(|place| place.abs_diff(text.len() / 2))
    };
    nearest(&mut sentence_ends(text))
        .or_else(|| nearest(&mut text.match_indices(' ').map(|(at, _)| at + 1)))
        .or_else(|| {
            text.char_indices()
                .map(|(at, _)| at)
                .skip(1)
                .min_by_key(|at| at.abs_diff(text.len() / 2))
        })
}

/// The places behind sentences: behind a full stop of any script and the space that follows it.
fn sentence_ends(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().filter_map(move |(at, c)| {
        let after = at + c.len_utf8();
        match c {
            '。' | '！' | '？' | '।' | '۔' | '።' => Some(after),
            '.' | '!' | '?' | '…' if text[after..].starts_with(' ') => Some(after + 1),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests;
