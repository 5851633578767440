//! The tables are made here from the crates that the reference tokenizer uses, and compared with the
//! ones in the source. To write them anew: `CLOISTER_WRITE_TABLES=1 cargo test -p cloister-engine`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use regex_syntax::hir::{Class as HirClass, HirKind};
use unicode_normalization_alignments::char as reference;

use super::*;

fn all_chars() -> impl Iterator<Item = char> {
    '\0'..=char::MAX
}

/// First character and value of each run of equal values.
fn runs(bits: u32, value: impl Fn(char) -> u32) -> Vec<u64> {
    let mut runs = vec![];
    let mut last = None;
    for c in all_chars() {
        let now = value(c);
        if last != Some(now) {
            runs.push(u64::from(u32::from(c) << bits | now));
            last = Some(now);
        }
    }
    runs
}

fn regex_class(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).unwrap();
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(class)) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        other => panic!("{pattern} is not a class: {other:?}"),
    }
}

fn class_table() -> String {
    let sets = [(r"\p{L}", 1), (r"\p{N}", 2), (r"\s", 3)]
        .map(|(pattern, class)| (regex_class(pattern), class));
    let within = |set: &[(char, char)], c: char| {
        let at = set.partition_point(|&(_, end)| end < c);
        set.get(at).is_some_and(|&(start, _)| start <= c)
    };
    let class_of = |c| {
        sets.iter()
            .find(|(set, _)| within(set, c))
            .map_or(0, |(_, class)| *class)
    };
    let doc =
        "First character of each run << 2 | class: 0 other, 1 letter, 2 number, 3 white space.";
    let mut out = header("Classes of characters, Unicode 16");
    push_table(&mut out, "CLASS_RUNS", "u32", doc, &runs(2, class_of));
    out
}

fn full_decomposition(c: char) -> Vec<char> {
    let mut full = vec![];
    reference::decompose_canonical(c, |part| full.push(part));
    full
}

/// One-step decompositions, found again from the full ones that the reference offers.
fn decompositions() -> Vec<(char, char, char)> {
    let not_hangul = |&c: &char| !('\u{AC00}'..='\u{D7A3}').contains(&c);
    let full: Vec<(char, Vec<char>)> = all_chars()
        .filter(not_hangul)
        .map(|c| (c, full_decomposition(c)))
        .filter(|(c, full)| full[..] != [*c])
        .collect();
    // Of several characters with one decomposition, the primary composite is the one encoded first.
    let composites: BTreeMap<&[char], char> = full
        .iter()
        .rev()
        .filter(|(_, parts)| parts.len() > 1)
        .map(|(c, parts)| (&parts[..], *c))
        .collect();
    let step = |(c, parts): &(char, Vec<char>)| match parts.split_last() {
        Some((&last, [])) => (*c, last, '\0'),
        Some((&last, [first])) => (*c, *first, last),
        Some((&last, init)) => (*c, composites[init], last),
        None => panic!("an empty decomposition of {c:?}"),
    };
    full.iter().map(step).collect()
}

fn pack(a: char, b: char, c: char) -> u64 {
    u64::from(a) << 42 | u64::from(b) << 21 | u64::from(c)
}

fn nfc_table() -> String {
    let steps = decompositions();
    let mut compositions: Vec<u64> = steps
        .iter()
        .filter_map(|&(_, first, second)| {
            Some(pack(first, second, reference::compose(first, second)?))
        })
        .collect();
    compositions.sort_unstable();
    compositions.dedup();
    let steps: Vec<u64> = steps
        .iter()
        .map(|&(c, first, second)| pack(c, first, second))
        .collect();
    let ccc = runs(8, |c| u32::from(reference::canonical_combining_class(c)));
    let mut out = header("Normalisation form C, Unicode 9");
    push_table(
        &mut out,
        "COMBINING_RUNS",
        "u32",
        "First character of each run << 8 | canonical combining class.",
        &ccc,
    );
    push_table(
        &mut out,
        "DECOMPOSITIONS",
        "u64",
        "Character << 42 | first << 21 | second or 0.",
        &steps,
    );
    push_table(
        &mut out,
        "COMPOSITIONS",
        "u64",
        "First << 42 | second << 21 | primary composite.",
        &compositions,
    );
    out
}

fn header(title: &str) -> String {
    format!("//! {title}. Made by the tests of the module above; do not edit.\n")
}

fn push_table(out: &mut String, name: &str, kind: &str, doc: &str, values: &[u64]) {
    let per_line = if kind == "u32" { 12 } else { 7 };
    write!(
        out,
        "\n/// {doc}\npub(super) const {name}: &[{kind}] = &[\n"
    )
    .unwrap();
    for line in values.chunks(per_line) {
        let line: Vec<String> = line.iter().map(|value| format!("{value:#x},")).collect();
        writeln!(out, "    {}", line.join(" ")).unwrap();
    }
    out.push_str("];\n");
}

fn check(file: &str, in_source: &str, made: &str) {
    if std::env::var_os("CLOISTER_WRITE_TABLES").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/tokenizer/unicode")
            .join(file);
        fs::write(path, made).unwrap();
    } else {
        assert!(in_source == made, "{file} is not what the reference gives");
    }
}

#[test]
fn classes_are_those_of_the_reference() {
    check("classes.rs", include_str!("classes.rs"), &class_table());
}

#[test]
fn normalisation_tables_are_those_of_the_reference() {
    check("nfc.rs", include_str!("nfc.rs"), &nfc_table());
}

#[test]
fn properties_of_known_characters() {
    let cases = [
        ('a', Class::Letter),
        ('é', Class::Letter),
        ('中', Class::Letter),
        ('\u{AA}', Class::Letter),
        ('7', Class::Number),
        ('٣', Class::Number),
        ('Ⅷ', Class::Number),
        ('½', Class::Number),
        (' ', Class::Space),
        ('\u{85}', Class::Space),
        ('\u{3000}', Class::Space),
        ('\n', Class::Space),
        ('\0', Class::Other),
        ('_', Class::Other),
        ('\u{301}', Class::Other),
        ('😀', Class::Other),
        ('\u{200B}', Class::Other),
        (char::MAX, Class::Other),
    ];
    for (c, expected) in cases {
        assert_eq!(class(c), expected, "{c:?}");
    }
    assert_eq!(combining_class('\u{301}'), 230);
    assert_eq!(decompose('é'), Some(('e', Some('\u{301}'))));
    assert_eq!(decompose('\u{2126}'), Some(('Ω', None)));
    assert_eq!(compose('e', '\u{301}'), Some('é'));
    assert_eq!(compose('e', 'f'), None);
}
