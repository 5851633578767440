//! The section is hostile: whatever is altered, it is refused or still safe to use.

use super::*;
use crate::tokenizer::{
    Special,
    tests::{Random, small_source},
};

fn section() -> Vec<u8> {
    encode(&small_source(PreTokenizer::Qwen2)).unwrap()
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    assert_eq!(section(), section());
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let whole = section();
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "{length} bytes");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(parse(&longer), Err(DataError::Length { .. })));
}

#[test]
fn altered_sections_are_refused_or_harmless() {
    let whole = section();
    let mut random = Random(1);
    let mut refused = 0;
    for round in 0..20_000 {
        let mut altered = whole.clone();
        // Half of the rounds aim at the header and the arrays at its end, where structure is dense.
        let range = if round % 2 == 0 { 28 } else { altered.len() };
        for _ in 0..=random.below(3) {
            let at = random.below(range);
            altered[at] = random.next() as u8;
        }
        match parse(&altered) {
            Err(_) => refused += 1,
            Ok(tokenizer) => {
                let text = "hello <|im_end|> wörld baaaa\r\n 42";
                let tokens = tokenizer.encode(text, Special::Plain);
                assert!(
                    tokens
                        .iter()
                        .all(|&t| tokenizer.kind(t) == Some(TokenKind::Normal))
                );
                let _ = tokenizer.encode(text, Special::Parse);
                let _ = tokenizer.decode(&[0, 255, 300, u32::MAX]);
            }
        }
    }
    assert!(refused > 10_000, "only {refused} of 20000 refused");
}

#[test]
fn a_merge_must_make_its_two_sides() {
    let mut source = small_source(PreTokenizer::Qwen2);
    source.merges[0].result = source.merges[1].result;
    assert_eq!(encode(&source), Err(DataError::Merge(u32::from(b'h'))));
}

#[test]
fn a_merge_must_not_make_a_special_token() {
    let mut source = small_source(PreTokenizer::Qwen2);
    source.tokens[source.merges[0].result as usize].kind = TokenKind::Control;
    assert_eq!(encode(&source), Err(DataError::Merge(u32::from(b'h'))));
}

#[test]
fn a_pair_merges_in_one_way_only() {
    let mut source = small_source(PreTokenizer::Qwen2);
    let twice = source.merges[0];
    source.merges.push(twice);
    assert_eq!(encode(&source), Err(DataError::Merge(u32::from(b'h'))));
}

#[test]
fn the_template_needs_its_marks() {
    let mut source = small_source(PreTokenizer::Qwen2);
    source.tokens[256].kind = TokenKind::Unused;
    assert_eq!(encode(&source), Err(DataError::Template("<|im_start|>")));
}

#[test]
fn stops_must_be_tokens() {
    let mut source = small_source(PreTokenizer::Qwen2);
    source.stops.push(9_999);
    assert_eq!(encode(&source), Err(DataError::Special(9_999)));
}
