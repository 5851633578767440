//! What comes inside the encapsulation, or should.

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_tests::guests::Shared;
use cloister_tests::raw::{self, connect, send};
use cloister_tests::sealed::{ask, keys, post, problem_of, seal, summarize_message};

const THREAD: &[u8] =
    br#"{"messages":[{"from":"Ana","text":"The launch moves to Thursday."}],"max_tokens":8}"#;

#[test]
fn an_unknown_key_id_asks_for_a_new_key() {
    let guest = Shared::lease();
    let (mut sealed, _) = seal(&keys(guest.port()), &summarize_message(THREAD));
    sealed[0] ^= 0x40;
    let answer = post(guest.port(), &sealed);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.head.contains(media::PROBLEM_JSON), "{}", answer.head);
    assert!(
        Problem::from_json(&answer.body)
            .expect("a problem document")
            .is_key_problem()
    );
}

#[test]
fn altered_bytes_are_not_opened() {
    let guest = Shared::lease();
    let (sealed, _) = seal(&keys(guest.port()), &summarize_message(THREAD));
    for place in [10, sealed.len() / 2, sealed.len() - 1] {
        let mut altered = sealed.clone();
        altered[place] ^= 1;
        let answer = post(guest.port(), &altered);
        assert!(
            [400, 422].contains(&answer.status),
            "byte {place}: {} {}",
            answer.status,
            answer.text()
        );
    }
    for length in [0, 6, 7, 100, sealed.len() - 1] {
        let answer = post(guest.port(), &sealed[..length]);
        assert!(
            [400, 422].contains(&answer.status),
            "{length} bytes: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[test]
fn sealed_noise_is_not_binary_http() {
    let guest = Shared::lease();
    let response = ask(guest.port(), &[0xff; 100]);
    assert_eq!(response.status, 400);
}

#[test]
fn inner_paths_and_methods() {
    let guest = Shared::lease();
    let status = |method: &str, path: &str| {
        let message = bhttp::Request::new(method, path)
            .encode_padded()
            .expect("it fits");
        ask(guest.port(), &message).status
    };
    assert_eq!(status("GET", "/v1/nothing"), 404);
    assert_eq!(status("GET", paths::SUMMARIZE), 405);
    assert_eq!(status("POST", paths::MODELS), 405);
    assert_eq!(status("GET", paths::MODELS), 200);
    let message =
        bhttp::Request::new("POST", paths::SUMMARIZE).with_content("text/plain", b"hi".to_vec());
    let message = message.and_then(|message| message.encode()).expect("valid");
    assert_eq!(ask(guest.port(), &message).status, 415);
}

#[test]
fn json_that_is_not_what_was_asked_for() {
    let guest = Shared::lease();
    for (json, status, word) in [
        (&b"{"[..], 400, ""),
        (b"", 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"[]", 422, "object"),
        (b"{}", 422, "messages"),
        (br#"{"messages":"hi"}"#, 422, "messages"),
        (br#"{"messages":[]}"#, 422, "messages"),
        (br#"{"messages":[{"text":" \n "}]}"#, 422, "no text"),
        (br#"{"messages":[{"from":"Ana"}]}"#, 422, "messages[0].text"),
        (br#"{"messages":[{"text":7}]}"#, 422, "messages[0].text"),
        (
            br#"{"messages":[{"text":"a"}],"style":"poem"}"#,
            422,
            "style",
        ),
        (
            br#"{"messages":[{"text":"a"}],"max_tokens":0}"#,
            422,
            "max_tokens",
        ),
        (
            br#"{"messages":[{"text":"a"}],"max_tokens":1e9}"#,
            422,
            "max_tokens",
        ),
        (
            br#"{"messages":[{"text":"a"}],"temperature":1}"#,
            422,
            "temperature",
        ),
    ] {
        let problem = problem_of(guest.port(), json);
        let shown = String::from_utf8_lossy(json);
        assert_eq!(problem.status, status, "{shown}: {problem:?}");
        assert!(
            problem.detail.is_some_and(|detail| detail.contains(word)),
            "{shown} should name {word}"
        );
    }
    let nested = [b"[".repeat(20_000), b"]".repeat(20_000)].concat();
    assert!([400, 413, 422].contains(&problem_of(guest.port(), &nested).status));
}

#[test]
fn a_message_of_300_kib_is_too_large() {
    let guest = Shared::lease();
    let text = "word ".repeat(60 << 10);
    let json = format!(r#"{{"messages":[{{"text":"{text}"}}]}}"#);
    let message =
        bhttp::Request::new("POST", paths::SUMMARIZE).with_content(media::JSON, json.into_bytes());
    let message = message.and_then(|message| message.encode()).expect("valid");
    let (sealed, _) = seal(&keys(guest.port()), &message);
    assert!(sealed.len() > 300 << 10);
    assert_eq!(post(guest.port(), &sealed).status, 413);
}

#[test]
fn a_client_that_leaves_cancels_its_job() {
    let guest = Shared::lease();
    let cancelled = guest.metric("cloister_jobs_cancelled_total");
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(600);
    let json = format!(r#"{{"messages":[{{"text":"{text}"}}],"max_tokens":400}}"#);
    let (sealed, _) = seal(&keys(guest.port()), &summarize_message(json.as_bytes()));
    let mut stream = connect(guest.port());
    send(
        &mut stream,
        &raw::post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed),
    );
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 1);
    drop(stream);
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 0);
    assert_eq!(guest.metric("cloister_jobs_cancelled_total"), cancelled + 1);
    assert!(guest.client().models().is_ok());
}

#[test]
fn others_are_served_while_a_summary_is_made() {
    let guest = Shared::lease();
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(300);
    let json = format!(r#"{{"messages":[{{"text":"{text}"}}],"max_tokens":200}}"#);
    let (sealed, opener) = seal(&keys(guest.port()), &summarize_message(json.as_bytes()));
    let mut stream = connect(guest.port());
    send(
        &mut stream,
        &raw::post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed),
    );
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 1);
    for _ in 0..3 {
        assert_eq!(raw::get(guest.port(), paths::HEALTH).status, 200);
    }
    assert_eq!(
        guest.metric("cloister_jobs"),
        1,
        "the summary is still being made"
    );
    let answer = raw::read_answer(&mut stream);
    assert_eq!(answer.status, 200);
    assert!(opener.open(&answer.body).is_ok());
}
