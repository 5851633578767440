use super::super::testing::{World, summarize};
use super::*;
use cloister_protocol::api::paths;
use std::vec::Vec;

const DOCUMENT: &str = include_str!("../../../../ARCHITECTURE.md");

/// Name and kind of each metric in the document's table.
fn documented() -> Vec<(&'static str, &'static str)> {
    let rows = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `cloister_"));
    let read = |row: &'static str| {
        let (name, rest) = row.split_once("` | ")?;
        let (kind, _) = rest.split_once(" |")?;
        Some((name, kind))
    };
    rows.map(|row| read(row).expect("name and kind")).collect()
}

#[test]
fn the_list_is_the_documented_one_and_has_no_labels() {
    let text = Metrics::default().to_text(&Gauges::default());
    let lines: Vec<&str> = text.lines().collect();
    let (pairs, []) = lines.as_chunks::<2>() else {
        panic!("a line of kind and a line of value for each: {text}")
    };
    let mut found = Vec::new();
    for [kind, value] in pairs {
        let kind = kind.strip_prefix("# TYPE cloister_").expect("a kind");
        let (name, kind) = kind.split_once(' ').expect("a kind");
        let value = value
            .strip_prefix("cloister_")
            .and_then(|line| line.strip_prefix(name));
        let value = value.and_then(|line| line.strip_prefix(' '));
        // A name without labels, and a whole number.
        assert!(
            value.is_some_and(|value| value.parse::<u64>().is_ok()),
            "{text}"
        );
        assert!(["counter", "gauge"].contains(&kind), "{kind}");
        found.push((name, kind));
    }
    assert_eq!(found, documented());
}

/// What `/metrics` says after requests with this text.
fn after_requests_with(text: &str) -> String {
    let mut world = World::new();
    for (text, steps) in [(text, 3), (&text[1..], 1)] {
        world.ask(&summarize(text, steps));
    }
    world.ask(&cloister_protocol::bhttp::Request::new(
        "GET",
        &std::format!("/{}", text.replace(' ', "-")),
    ));
    world.exchange(&super::super::testing::post(text.as_bytes()));
    String::from_utf8(world.get(paths::METRICS).body).unwrap()
}

#[test]
fn figures_do_not_depend_on_what_requests_say() {
    let one = after_requests_with("meet Ana at the station at nine");
    assert_eq!(one, after_requests_with("the merger with Initech is over"));
    assert!(one.contains("\ncloister_jobs_finished_total 2\n"), "{one}");
}
