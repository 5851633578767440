//! Requests in chunks, answered in records of one size, and requests for other texts than summaries.

use std::net::TcpStream;

use cloister_protocol::api::summarize::{Request, Style};
use cloister_protocol::api::{chat, events, media, paths, rewrite};
use cloister_protocol::bhttp;
use cloister_protocol::records::{Decoder, RECORD_BYTES};
use cloister_tests::guests::metric;
use cloister_tests::known_exchange::KnownExchange;
use cloister_tests::raw;
use cloister_tests::sealed;
use cloister_tests::secrets::Secrets;
use serde_json::{Value, json};

use crate::canary::{canary, thread};
use crate::fates::{
    Subject, add_exchange, add_reference, add_text, begin_as, long_answer, open, wait_for,
};
use crate::reference;

/// Bytes before the first record: the response's nonce.
const NONCE_BYTES: usize = 32;
/// A record with its length and its tag.
const SEALED_BYTES: usize = RECORD_BYTES + 18;

/// The binary HTTP of a request with a JSON text.
fn message(path: &str, json: &[u8]) -> Vec<u8> {
    let request = bhttp::Request::new("POST", path).with_content(media::JSON, json.to_vec());
    let padded = request.expect("a valid media type").encode_padded();
    padded.expect("it fits").to_vec()
}

fn streamed_summary(told: &Request) -> Vec<u8> {
    message(paths::SUMMARIZE, &told.to_json_streamed())
}

fn begin(subject: &Subject<'_>, exchange: &KnownExchange) -> TcpStream {
    let form = media::OHTTP_CHUNKED_REQUEST;
    begin_as(subject.port(), form, &exchange.sealed)
}

/// Reads a stream to its end.
fn read_whole(stream: &mut TcpStream, exchange: &mut KnownExchange) -> bhttp::Response {
    let (answer, has_ended) = raw::read_chunks(stream, usize::MAX);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(has_ended, "the stream was cut");
    let (records, has_ended) = exchange.open_chunks(&answer.body, true);
    assert!(has_ended, "the last record is missing");
    let mut decoder = Decoder::default();
    let mut message = Vec::new();
    for record in &records {
        message.extend(decoder.read(record).expect("a record"));
    }
    bhttp::Response::decode(&message, &bhttp::Limits::DEFAULT).expect("binary HTTP")
}

/// The JSON texts of all events; the last event says that it is the last.
fn events_of(content: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(content).expect("text");
    let mut data: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("an event"))
        .collect();
    assert_eq!(data.pop(), Some(events::DONE));
    let read = |data: &str| serde_json::from_str(data).expect("a JSON text");
    data.into_iter().map(read).collect()
}

/// Requests in chunks of every fate.
pub(crate) fn streamed(subject: &mut Subject<'_>, secrets: &mut Secrets, before: &[u8]) {
    summary_to_its_end(subject, secrets);
    conversation(subject, secrets);
    left_while_it_is_made(subject, secrets, before);
    left_when_it_is_made(subject, secrets);
    refused(subject, secrets);
    altered(subject, secrets);
}

fn summary_to_its_end(subject: &Subject<'_>, secrets: &mut Secrets) {
    let fate = "streamed";
    let told = thread(Style::Paragraph, 20, 24);
    let reference = subject.reference(&told);
    let mut exchange = KnownExchange::seal_chunked(subject.key(), &streamed_summary(&told));
    let response = read_whole(&mut begin(subject, &exchange), &mut exchange);
    assert_eq!(response.status, 200);
    let pieces = events_of(&response.content);
    let pieces = pieces.iter().filter_map(|event| event["text"].as_str());
    let text: String = pieces.collect();
    // What was shown stays, though the summary may be shorter in the end.
    assert!(
        text.starts_with(&reference.text),
        "the host computes the same: {text:?}, {:?}",
        reference.text
    );
    add_text(secrets, fate, &told);
    add_exchange(secrets, fate, &exchange);
    add_reference(secrets, fate, &reference);
    secrets.add(&format!("{fate}: answer"), text.as_bytes());
    secrets.add(&format!("{fate}: answer"), &response.content);
}

fn conversation(subject: &Subject<'_>, secrets: &mut Secrets) {
    let fate = "chat";
    let (rule, question) = (canary(), format!("{} {}?", canary(), canary()));
    let json = json!({
        "messages": [
            { "role": "system", "content": rule },
            { "role": "user", "content": question },
        ],
        "max_tokens": 24, "temperature": 0.8, "seed": 7, "stream": true,
    });
    let json = json.to_string();
    let request = chat::Request::from_json(json.as_bytes(), &chat::Limits::DEFAULT);
    let reference = reference::chat(&subject.pack, request.expect("a good request"));
    let asked = message(paths::CHAT_COMPLETIONS, json.as_bytes());
    let mut exchange = KnownExchange::seal_chunked(subject.key(), &asked);
    let response = read_whole(&mut begin(subject, &exchange), &mut exchange);
    assert_eq!(response.status, 200);
    let pieces = events_of(&response.content);
    let pieces = pieces
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    let text: String = pieces.collect();
    assert_eq!(text, reference.text, "the host computes the same");
    for said in [&rule, &question] {
        secrets.add(&format!("{fate}: text"), said.as_bytes());
    }
    add_exchange(secrets, fate, &exchange);
    add_reference(secrets, fate, &reference);
    secrets.add(&format!("{fate}: answer"), text.as_bytes());
    secrets.add(&format!("{fate}: answer"), &response.content);
}

/// A client leaves in the middle. The search finds what the guest works with then.
fn left_while_it_is_made(subject: &mut Subject<'_>, secrets: &mut Secrets, before: &[u8]) {
    const NAMES: [&str; 3] = ["tokens of the prompt", "response key", "response nonce"];
    let fate = "stream left";
    let (told, reference) = long_answer(subject);
    add_text(secrets, fate, &told);
    add_reference(secrets, fate, &reference);
    secrets.add(&format!("{fate}: answer"), reference.text.as_bytes());
    let mut found_before = Vec::new();
    for _ in 0..5 {
        let cancelled = metric(subject.port(), "cloister_jobs_cancelled_total");
        let mut exchange = KnownExchange::seal_chunked(subject.key(), &streamed_summary(&told));
        let mut stream = begin(subject, &exchange);
        let (answer, has_ended) = raw::read_chunks(&mut stream, NONCE_BYTES + 2 * SEALED_BYTES);
        assert!(!has_ended && answer.status == 200, "{}", answer.text());
        let (records, _) = exchange.open_chunks(&answer.body, false);
        assert!(!records.is_empty(), "a record opens");
        let memory = subject.memory();
        drop(stream);
        let mut now = Secrets::new();
        add_exchange(&mut now, "now", &exchange);
        add_reference(&mut now, "now", &reference);
        let found = now.without(before).find(&memory);
        add_exchange(secrets, fate, &exchange);
        wait_for(subject.port(), "cloister_jobs", |jobs| jobs == 0);
        let is_cancelled = metric(subject.port(), "cloister_jobs_cancelled_total") > cancelled;
        if is_cancelled && NAMES.iter().all(|name| found.has(&format!("now: {name}"))) {
            return;
        }
        found_before.push((is_cancelled, found.to_string()));
    }
    panic!("not everything was found while the guest worked with it: {found_before:?}");
}

/// A client leaves when its answer is made and still leaves in records.
fn left_when_it_is_made(subject: &Subject<'_>, secrets: &mut Secrets) {
    let fate = "records left";
    let port = subject.port();
    let told = thread(Style::Headline, 2, 4);
    let finished = metric(port, "cloister_jobs_finished_total");
    let mut exchange = KnownExchange::seal_chunked(subject.key(), &streamed_summary(&told));
    let mut stream = begin(subject, &exchange);
    wait_for(port, "cloister_jobs_finished_total", |jobs| jobs > finished);
    let (answer, _) = raw::read_chunks(&mut stream, NONCE_BYTES);
    assert_eq!(answer.status, 200, "{}", answer.text());
    exchange.open_chunks(&answer.body, false);
    drop(stream);
    add_text(secrets, fate, &told);
    add_exchange(secrets, fate, &exchange);
    add_reference(secrets, fate, &subject.reference(&told));
}

/// What is wrong with these is told in records, too.
fn refused(subject: &Subject<'_>, secrets: &mut Secrets) {
    let word = canary();
    let chat = paths::CHAT_COMPLETIONS;
    let reasons = [
        (
            400,
            paths::SUMMARIZE,
            format!(r#"{{"messages":[{{"text":"{word}"#),
        ),
        (
            422,
            paths::REWRITE,
            format!(r#"{{"text":"{word}","tone":"{word}"}}"#),
        ),
        (
            400,
            chat,
            format!(r#"{{"messages":[{{"role":"user","content":"{word}\uD800"}}]}}"#),
        ),
        (404, "/v1/other", format!(r#"{{"text":"{word}"}}"#)),
    ];
    for (status, path, json) in reasons {
        let asked = message(path, json.as_bytes());
        let mut exchange = KnownExchange::seal_chunked(subject.key(), &asked);
        let response = read_whole(&mut begin(subject, &exchange), &mut exchange);
        let shown = String::from_utf8_lossy(&response.content);
        assert_eq!(response.status, status, "{shown}");
        add_exchange(secrets, "stream refused", &exchange);
    }
    secrets.add("stream refused: text", word.as_bytes());
}

/// Chunks that do not open, and ones that are missing.
fn altered(subject: &Subject<'_>, secrets: &mut Secrets) {
    // More than a chunk.
    let told = thread(Style::Headline, 1_000, 4);
    let asked = streamed_summary(&told);
    let changes: [fn(&mut Vec<u8>); 4] = [
        |sealed| sealed[1_500] ^= 1,
        |sealed| *sealed.last_mut().expect("not empty") ^= 1,
        |sealed| sealed.truncate(sealed.len() - 100),
        |sealed| sealed.truncate(1_127 + 4 + 16_400),
    ];
    for change in changes {
        let mut exchange = KnownExchange::seal_chunked(subject.key(), &asked);
        change(&mut exchange.sealed);
        let answer = raw::read_answer(&mut begin(subject, &exchange));
        assert!([400, 422].contains(&answer.status), "{}", answer.text());
        add_exchange(secrets, "stream altered", &exchange);
    }
    add_text(secrets, "stream altered", &told);
}

/// A request for other wordings that is answered.
pub(crate) fn rewritten(subject: &Subject<'_>, secrets: &mut Secrets) {
    let fate = "rewritten";
    let mut tries = (0..20).filter_map(|_| {
        let request = rewrite::Request {
            text: format!("{}. {}.", canary(), canary()),
            tone: rewrite::Tone::Friendly,
            count: 2,
        };
        let reference = reference::rewriting(&subject.pack, &request)?;
        Some((request, reference))
    });
    let (request, reference) = tries.next().expect("random weights say something");
    let asked = message(paths::REWRITE, &request.to_json());
    let mut exchange = KnownExchange::seal(subject.key(), &asked);
    let answer = sealed::post(subject.port(), &exchange.sealed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let response = open(&mut exchange, &answer.body);
    let texts = rewrite::Response::from_json(&response.content).expect("the JSON of an answer");
    let text = texts.suggestions.join("\n");
    assert_eq!(text, reference.text, "the host computes the same");
    secrets.add(&format!("{fate}: text"), request.text.as_bytes());
    add_exchange(secrets, fate, &exchange);
    add_reference(secrets, fate, &reference);
    secrets.add(&format!("{fate}: answer"), text.as_bytes());
    secrets.add(&format!("{fate}: answer"), &response.content);
}
