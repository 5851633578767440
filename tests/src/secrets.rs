//! Looks for secrets in bytes that should have none: the memory of a guest, or what has left it.
//!
//! A secret is found by any piece of it: [`PIECE`] bytes in a row of a text or a key, four tokens in a row of a prompt.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use base64ct::{Base64, Encoding};

/// Bytes of a piece. Random ones are found by accident once in some millions of scans of a gigabyte.
pub const PIECE: usize = 8;
/// Tokens of a piece.
const PIECE_TOKENS: usize = 4;
/// Places of one secret that are told.
const PLACES: usize = 4;

/// What must not be found.
#[derive(Default)]
pub struct Secrets {
    names: Vec<String>,
    /// All pieces by their first bytes.
    pieces: HashMap<[u8; PIECE], Vec<Piece>>,
    /// A bit for each beginning of a piece, so that most places are passed over at once.
    beginnings: Vec<u64>,
    is_spelled: bool,
}

struct Piece {
    secret: usize,
    rest: Vec<u8>,
}

impl Secrets {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            beginnings: vec![0; 1 << (FILTER_BITS - 6)],
            ..Self::default()
        }
    }

    /// Nothing yet. What is added is looked for in every spelling in which a program could print it, too.
    pub fn spelled() -> Self {
        Self {
            is_spelled: true,
            ..Self::new()
        }
    }

    /// A key or a text: each [`PIECE`] bytes of it.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.add_pieces(name, bytes, PIECE, 1);
        if self.is_spelled {
            self.add_spellings(name, bytes);
        }
    }

    /// Tokens: each four in a row, as numbers of 32 and of 16 bits.
    pub fn add_tokens(&mut self, name: &str, tokens: &[u32]) {
        let words: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token.to_le_bytes())
            .collect();
        self.add_pieces(name, &words, PIECE_TOKENS * 4, 4);
        let halves = tokens
            .iter()
            .flat_map(|&token| (token as u16).to_le_bytes());
        let halves: Vec<u8> = halves.collect();
        self.add_pieces(name, &halves, PIECE_TOKENS * 2, 2);
        if self.is_spelled {
            self.add_lists(name, tokens, PIECE_TOKENS);
        }
    }

    /// Numbers as the engine has them: each two in a row.
    pub fn add_numbers(&mut self, name: &str, numbers: &[f32]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.add_pieces(name, &bytes, PIECE, 4);
    }

    fn add_spellings(&mut self, name: &str, bytes: &[u8]) {
        let spell = |each: fn(u8) -> String| -> Vec<u8> {
            bytes
                .iter()
                .flat_map(|byte| each(*byte).into_bytes())
                .collect()
        };
        let hex = spell(|byte| format!("{byte:02x}"));
        self.add_pieces(name, &hex, 2 * PIECE, 2);
        self.add_pieces(name, &hex.to_ascii_uppercase(), 2 * PIECE, 2);
        self.add_pieces(name, &spell(|byte| format!("\\u{byte:04x}")), 6 * PIECE, 6);
        self.add_pieces(name, &spell(|byte| format!("\\x{byte:02x}")), 4 * PIECE, 4);
        self.add_pieces(name, &spell(|byte| format!("%{byte:02X}")), 3 * PIECE, 3);
        self.add_lists(name, bytes, PIECE);
        for start in 0..3.min(bytes.len()) {
            let whole = &bytes[start..bytes.len() - (bytes.len() - start) % 3];
            let text = Base64::encode_string(whole);
            let url = text.replace('+', "-").replace('/', "_");
            self.add_pieces(name, text.as_bytes(), PIECE / 3 * 4 + 4, 4);
            self.add_pieces(name, url.as_bytes(), PIECE / 3 * 4 + 4, 4);
        }
    }

    /// Lists of so many numbers, with and without spaces.
    fn add_lists(&mut self, name: &str, numbers: &[impl ToString], length: usize) {
        for piece in numbers.windows(length) {
            let numbers: Vec<String> = piece.iter().map(ToString::to_string).collect();
            for separator in [", ", ","] {
                let list = format!("{}{separator}", numbers.join(separator));
                self.add_whole(name, list.as_bytes());
            }
        }
    }

    /// Only all of it.
    pub fn add_whole(&mut self, name: &str, bytes: &[u8]) {
        self.add_pieces(name, bytes, bytes.len(), 1);
    }

    fn add_pieces(&mut self, name: &str, bytes: &[u8], length: usize, step: usize) {
        assert!(length >= PIECE, "{name} is too short to be looked for");
        let secret = self.names.iter().position(|known| known == name);
        let secret = secret.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        for piece in bytes.windows(length).step_by(step) {
            let (first, rest) = piece.split_first_chunk::<PIECE>().expect("long enough");
            // Zeros are everywhere.
            if *first == [0; PIECE] {
                continue;
            }
            let pieces = self.pieces.entry(*first).or_default();
            let is_known = |known: &Piece| known.secret == secret && known.rest == rest;
            if !pieces.iter().any(is_known) {
                pieces.push(Piece {
                    secret,
                    rest: rest.to_vec(),
                });
            }
            let (word, bit) = place_in_filter(u64::from_le_bytes(*first));
            self.beginnings[word] |= bit;
        }
    }

    /// Forgets pieces that `bytes` has: there before there was a secret, they tell nothing of it.
    pub fn without(mut self, bytes: &[u8]) -> Self {
        let mut known = Vec::new();
        self.each_in(bytes, |first, index, _| known.push((*first, index)));
        known.sort_unstable_by(|one, other| other.cmp(one));
        known.dedup();
        for (first, index) in known {
            if let Some(pieces) = self.pieces.get_mut(&first) {
                pieces.remove(index);
            }
        }
        self
    }

    /// How many pieces of a secret are looked for.
    pub fn pieces_of(&self, name: &str) -> usize {
        let secret = self.names.iter().position(|known| known == name);
        let all = self.pieces.values().flatten();
        all.filter(|piece| Some(piece.secret) == secret).count()
    }

    /// All secrets of which `bytes` has a piece.
    pub fn find(&self, bytes: &[u8]) -> Found {
        let mut places: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        self.each_in(bytes, |first, index, at| {
            let piece = &self.pieces[first][index];
            let bytes = [&first[..], &piece.rest].concat();
            let place = Place { at, bytes };
            places
                .entry(&self.names[piece.secret])
                .or_default()
                .push(place);
        });
        let own = |(name, places): (&str, _)| (name.to_owned(), places);
        Found(places.into_iter().map(own).collect())
    }

    fn each_in(&self, bytes: &[u8], mut each: impl FnMut(&[u8; PIECE], usize, usize)) {
        let mut last = 0;
        for (end, byte) in bytes.iter().enumerate() {
            // The last eight bytes. Where there are fewer, zeros stand before them, and no piece is found too early.
            last = last >> 8 | u64::from(*byte) << 56;
            let (word, bit) = place_in_filter(last);
            if last == 0 || self.beginnings[word] & bit == 0 || end + 1 < PIECE {
                continue;
            }
            let (first, after) = (last.to_le_bytes(), &bytes[end + 1..]);
            let pieces = self.pieces.get(&first).into_iter().flatten();
            for (index, piece) in pieces.enumerate() {
                if after.starts_with(&piece.rest) {
                    each(&first, index, end + 1 - PIECE);
                }
            }
        }
    }
}

/// Bits of the filter, as a power of two.
const FILTER_BITS: u32 = 24;

/// Which word of the filter, and which bit of it.
fn place_in_filter(first: u64) -> (usize, u64) {
    let place = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS);
    ((place >> 6) as usize, 1 << (place & 63))
}

/// Which secrets were found, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found(BTreeMap<String, Vec<Place>>);

/// A piece that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    at: usize,
    bytes: Vec<u8>,
}

impl Found {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one was there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, places) in &self.0 {
            write!(f, "\n  {name}: {} pieces, at", places.len())?;
            let mut last = None;
            let apart = |place: &&Place| {
                last.replace(place.at)
                    .is_none_or(|last| place.at > last + 64)
            };
            for place in places.iter().filter(apart).take(PLACES) {
                write!(f, " {:#x} \"{}\"", place.at, place.bytes.escape_ascii())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"q7Vx0kTz93mPw2LfYb";

    fn secrets() -> Secrets {
        let mut secrets = Secrets::new();
        secrets.add("text", TEXT);
        secrets.add_tokens("tokens", &[7, 300, 12, 9, 45]);
        secrets.add_numbers("numbers", &[0.5, -1.25, 3.0]);
        secrets
    }

    fn hidden(piece: &[u8]) -> Vec<u8> {
        [&[0xaa; 1001][..], piece, &[0; 500]].concat()
    }

    #[test]
    fn any_piece_is_found_at_any_place() {
        let secrets = secrets();
        for start in 0..TEXT.len() - PIECE {
            let found = secrets.find(&hidden(&TEXT[start..start + PIECE]));
            assert!(found.has("text"), "{start}");
            assert!(
                secrets
                    .find(&hidden(&TEXT[start..start + PIECE - 1]))
                    .is_empty()
            );
        }
        let words = [300_u32, 12, 9, 45].map(u32::to_le_bytes).concat();
        assert!(secrets.find(&hidden(&words)).has("tokens"));
        assert!(secrets.find(&hidden(&words[..12])).is_empty());
        let halves = [7_u16, 300, 12, 9].map(u16::to_le_bytes).concat();
        assert!(secrets.find(&hidden(&halves)).has("tokens"));
        let numbers = [-1.25_f32, 3.0].map(f32::to_le_bytes).concat();
        assert_eq!(
            secrets.find(&hidden(&numbers)).to_string(),
            r#"
  numbers: 1 pieces, at 0x3e9 "\x00\x00\xa0\xbf\x00\x00@@""#
        );
    }

    #[test]
    fn what_was_there_before_is_left_out() {
        let mut secrets = secrets();
        let all = secrets.pieces_of("text");
        assert_eq!(all, TEXT.len() - PIECE + 1);
        secrets = secrets.without(&hidden(&TEXT[2..12]));
        assert_eq!(secrets.pieces_of("text"), all - 3);
        assert!(secrets.find(&hidden(&TEXT[2..12])).is_empty());
        assert!(secrets.find(&hidden(TEXT)).has("text"));
    }

    #[test]
    fn every_spelling_is_found() {
        let mut secrets = Secrets::spelled();
        secrets.add("text", TEXT);
        secrets.add_tokens("tokens", &[7, 300, 12, 9, 45]);
        assert!(secrets.find(&hidden(b"[7, 300, 12, 9, 45]")).has("tokens"));
        assert!(secrets.find(&hidden(b"7,300,12,9,45")).has("tokens"));
        let hex: String = TEXT.iter().map(|byte| format!("{byte:02x}")).collect();
        let json: String = TEXT.iter().map(|byte| format!("\\u{byte:04x}")).collect();
        let percent: String = TEXT.iter().map(|byte| format!("%{byte:02X}")).collect();
        for text in [
            hex.to_uppercase(),
            hex,
            json,
            percent,
            format!("{TEXT:?}"),
            format!("b\"{}\"", TEXT.escape_ascii()),
            Base64::encode_string(TEXT),
            Base64::encode_string(&[b"a", TEXT].concat()),
            Base64::encode_string(&[b"ab", TEXT].concat()),
        ] {
            assert!(secrets.find(&hidden(text.as_bytes())).has("text"), "{text}");
        }
    }
}
