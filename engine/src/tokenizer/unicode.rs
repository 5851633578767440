//! The few Unicode properties that tokenizers ask for.
//!
//! The tables are those of the models' reference tokenizer, which takes its classes from Unicode 16
//! and its normalisation from Unicode 9: newer normalisation data would give other tokens than the
//! ones that the models were trained with. The tests make the tables anew and compare.

#[rustfmt::skip]
mod classes;
#[rustfmt::skip]
mod nfc;

use self::{
    classes::CLASS_RUNS,
    nfc::{COMBINING_RUNS, COMPOSITIONS, DECOMPOSITIONS},
};

/// What the pre-tokenizers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything else: marks, signs, emoji, controls, unassigned.
    Other = 0,
    /// `\p{L}`
    Letter = 1,
    /// `\p{N}`
    Number = 2,
    /// `\s`
    Space = 3,
}

/// The class of a character.
pub(super) fn class(c: char) -> Class {
    match run_of(CLASS_RUNS, 2, c) {
        1 => Class::Letter,
        2 => Class::Number,
        3 => Class::Space,
        _ => Class::Other,
    }
}

/// The canonical combining class of a character (UAX #44).
pub(super) fn combining_class(c: char) -> u8 {
    // The table's values have 8 bits.
    run_of(COMBINING_RUNS, 8, c) as u8
}

/// The value of the run that a character is in. Each entry is the first character of a run, shifted
/// left by `bits`, with the run's value in the low bits; the first run begins at U+0000.
fn run_of(runs: &[u32], bits: u32, c: char) -> u32 {
    let after = runs.partition_point(|&run| run >> bits <= u32::from(c));
    runs[after.saturating_sub(1)] & ((1 << bits) - 1)
}

const FIELD_BITS: u32 = 21;
const FIELD: u64 = (1 << FIELD_BITS) - 1;

/// One step of canonical decomposition, Hangul excepted: one or two characters.
pub(super) fn decompose(c: char) -> Option<(char, Option<char>)> {
    let at = DECOMPOSITIONS
        .binary_search_by_key(&u64::from(c), |entry| entry >> (2 * FIELD_BITS))
        .ok()?;
    let entry = DECOMPOSITIONS[at];
    Some((
        field(entry >> FIELD_BITS)?,
        field(entry).filter(|&second| second != '\0'),
    ))
}

/// The primary composite of two characters, Hangul excepted.
pub(super) fn compose(first: char, second: char) -> Option<char> {
    let pair = u64::from(first) << FIELD_BITS | u64::from(second);
    let at = COMPOSITIONS
        .binary_search_by_key(&pair, |entry| entry >> FIELD_BITS)
        .ok()?;
    field(COMPOSITIONS[at])
}

fn field(entry: u64) -> Option<char> {
    char::from_u32((entry & FIELD) as u32)
}

#[cfg(test)]
mod tests;
