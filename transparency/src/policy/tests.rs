//! Policies: the specification's example, each rule of the format, and quorums against counting all subsets.

use super::*;
use crate::key::{KeyType, SigningKey};
use alloc::format;
use alloc::string::{String, ToString};
use zeroize::Zeroizing;

fn vkey(name: &str, key_type: KeyType, byte: u8) -> String {
    let key = SigningKey::from_seed(name, key_type, &Zeroizing::new([byte; 32])).expect("a name");
    key.verifier().to_string()
}

fn log(byte: u8) -> String {
    format!("log {}\n", vkey("example.com/log", KeyType::Ed25519, byte))
}

fn witness(name: &str, byte: u8) -> String {
    format!(
        "witness {name} {}\n",
        vkey(&format!("w.example/{byte}"), KeyType::CosignatureV1, byte)
    )
}

fn witnesses(count: u8) -> String {
    (1..=count).map(|n| witness(&format!("w{n}"), n)).collect()
}

fn parse(text: &str) -> Policy {
    Policy::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The example of the specification, with keys.
fn two_levels() -> Policy {
    parse(&format!(
        "{}\n{}group X-witnesses 2 w1 w2 w3\n\n# the others\n \tgroup Y-witnesses\tany w4 w5 w6 \n{}",
        log(100),
        witnesses(6),
        "group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    ))
}

fn subset(bits: u32) -> Vec<bool> {
    (0..8).map(|at| (bits >> at) & 1 == 1).collect()
}

#[test]
fn the_example_of_the_specification() {
    let policy = two_levels();
    assert_eq!(
        (
            policy.logs().len(),
            policy.witnesses().len(),
            policy.groups().len()
        ),
        (1, 6, 3)
    );
    for bits in 0..64_u32 {
        let expected = (bits & 7).count_ones() >= 2 && bits >> 3 != 0;
        assert_eq!(policy.is_quorum(&subset(bits)), expected, "{bits:b}");
    }
    assert_eq!(Policy::parse(&policy.to_bytes()), Ok(policy));
}

#[test]
fn one_witness_or_none_can_be_the_quorum() {
    let one = parse(&format!("{}quorum w2\n", witnesses(2)));
    assert!(one.is_quorum(&[false, true]) && !one.is_quorum(&[true, false]));
    let none = parse("quorum none\n");
    assert!(none.is_quorum(&[]));
    assert_eq!(none.least_overlap(), 0);
    assert_eq!(one.least_overlap(), 1);
    assert!(
        !one.is_quorum(&[]),
        "witnesses beyond the end did not cosign"
    );
}

/// By trying every two quorums.
#[test]
fn the_least_overlap_is_that_of_all_pairs_of_quorums() {
    let groups = [
        "group g 3 w1 w2 w3 w4\nquorum g\n",
        "group g 2 w1 w2 w3\nquorum g\n",
        "group g any w1 w2 w3\nquorum g\n",
        "group g all w1 w2 w3\nquorum g\n",
        "group g 4 w1 w2 w3 w4 w5\nquorum g\n",
        "group a 2 w1 w2 w3\ngroup b all w4 w5\ngroup g all a b w6\nquorum g\n",
        "group a 2 w1 w2 w3\ngroup b all w4 w5\ngroup g 2 a b w6\nquorum g\n",
        "group a any w1 w2\ngroup b any w3 w4\ngroup g all a b w5\nquorum g\n",
    ];
    for text in groups {
        let policy = parse(&format!("{}{text}", witnesses(6)));
        let quorums: Vec<u32> = (0..64)
            .filter(|bits| policy.is_quorum(&subset(*bits)))
            .collect();
        let overlaps = quorums
            .iter()
            .flat_map(|a| quorums.iter().map(move |b| (a & b).count_ones()));
        assert_eq!(
            Some(policy.least_overlap()),
            overlaps.min().map(|least| least as usize),
            "{text}"
        );
    }
}

#[test]
fn malformed_policies_are_refused_with_the_line_and_the_reason() {
    let refused = |text: &str, line: usize, error: LineError| {
        assert_eq!(
            Policy::parse(text.as_bytes()),
            Err(PolicyError::Line { line, error }),
            "{text}"
        );
    };
    let three = witnesses(3);
    refused("logs x\n", 1, LineError::Keyword);
    refused("\n#\nlog\n", 3, LineError::Words);
    refused("log a b c\n", 1, LineError::Words);
    refused("witness a\n", 1, LineError::Words);
    refused("quorum\n", 1, LineError::Words);
    refused("quorum a b\n", 1, LineError::Words);
    refused(&format!("{three}group g 1\n"), 4, LineError::Words);
    refused("log x+y\n", 1, LineError::Key(KeyError::Format));
    refused(
        &format!("witness w {}\n", vkey("w", KeyType::Ed25519, 1)),
        1,
        LineError::NotACosigner,
    );
    refused(&format!("{}{}", log(1), log(1)), 2, LineError::DuplicateKey);
    let renamed = format!("witness v {}\n", vkey("other", KeyType::CosignatureV1, 2));
    refused(&format!("{three}{renamed}"), 4, LineError::DuplicateKey);
    refused(
        &format!("{three}{}", witness("w1", 9)),
        4,
        LineError::NameTaken,
    );
    refused(&witness("none", 1), 1, LineError::NameTaken);
    refused(
        &format!("{three}group w1 all w1 w2\n"),
        4,
        LineError::NameTaken,
    );
    refused(
        &format!("{three}group g all w1 w4\n"),
        4,
        LineError::UndefinedName,
    );
    refused(
        &format!("{three}group g all w1 g\n"),
        4,
        LineError::UndefinedName,
    );
    refused(
        &format!("{three}group g all w1 none\n"),
        4,
        LineError::UndefinedName,
    );
    refused(&format!("quorum w1\n{three}"), 1, LineError::UndefinedName);
    refused(
        &format!("{three}group g 2 w1 w1\n"),
        4,
        LineError::MemberTwice,
    );
    refused(
        &format!("{three}group g any w1\ngroup h any w1 w2\n"),
        5,
        LineError::MemberTwice,
    );
    for threshold in ["0", "4", "03", "-1", "ALL", "most", "99999999999999999999"] {
        refused(
            &format!("{three}group g {threshold} w1 w2 w3\n"),
            4,
            LineError::Threshold,
        );
    }
    refused(
        &format!("{three}quorum w1\nquorum w2\n"),
        5,
        LineError::SecondQuorum,
    );
    refused("quorum none\nquorum none\n", 2, LineError::SecondQuorum);
    let many: String = (0..=MAX_DEFINITIONS as u8)
        .map(|n| witness(&format!("w{n}"), n))
        .collect();
    refused(&many, MAX_DEFINITIONS + 1, LineError::TooMany);
    assert_eq!(
        Policy::parse(b"log \xff\n"),
        Err(PolicyError::Line {
            line: 1,
            error: LineError::KeyNotUtf8
        })
    );
}

#[test]
fn malformed_files_are_refused() {
    assert_eq!(Policy::parse(b""), Err(PolicyError::NoQuorum));
    assert_eq!(Policy::parse(log(1).as_bytes()), Err(PolicyError::NoQuorum));
    assert_eq!(
        Policy::parse(b"quorum none"),
        Err(PolicyError::Unterminated)
    );
    assert_eq!(
        Policy::parse(b"quorum none\r\n"),
        Err(PolicyError::ControlCharacter { at: 11 })
    );
    assert_eq!(
        Policy::parse(b"quorum\x7fnone\n"),
        Err(PolicyError::ControlCharacter { at: 6 })
    );
    let large = "#".repeat(MAX_POLICY_BYTES) + "\n";
    assert_eq!(
        Policy::parse(large.as_bytes()),
        Err(PolicyError::TooLarge { bytes: large.len() })
    );
}

/// Names are bytes: two that look alike are two, and what is not UTF-8 is a name as well.
#[test]
fn names_are_bytes() {
    let kelvin = format!("{}{}", witness("K", 1), witness("\u{212a}", 2));
    assert_eq!(
        parse(&format!("{kelvin}quorum K\n")).quorum(),
        Some(Member::Witness(0))
    );
    let mut bytes = witness("X", 1).replace(" X ", " \u{80} ").into_bytes();
    bytes.retain(|byte| *byte != 0xc2);
    bytes.extend(b"quorum \x80\n");
    let policy = Policy::parse(&bytes).expect("any bytes");
    assert_eq!(policy.witnesses()[0].name, b"\x80");
    assert_eq!(policy.to_bytes(), bytes);
}

#[test]
fn urls_are_kept() {
    let text = format!(
        "{} https://log.example/\n{} \u{fc}\nquorum none\n",
        log(1).trim_end(),
        witness("w", 2).trim_end()
    );
    let policy = parse(&text);
    assert_eq!(
        policy.logs()[0].url.as_deref(),
        Some(&b"https://log.example/"[..])
    );
    assert_eq!(policy.to_bytes(), text.as_bytes());
}

#[test]
fn as_many_definitions_are_taken_as_the_limit_says() {
    let count = MAX_DEFINITIONS as u8;
    let logs: String = (0..count).map(|n| log(100 + n)).collect();
    let groups: String = (1..=count)
        .map(|n| format!("group g{n} any w{n}\n"))
        .collect();
    let policy = parse(&format!("{logs}{}{groups}quorum g1\n", witnesses(count)));
    assert_eq!(policy.groups().len(), MAX_DEFINITIONS);
}
