//! Conversations, other wordings, and answers that come while they are made.

use std::io::Read;

use cloister_client::events::Events;
use cloister_protocol::api::{media, paths, rewrite};
use cloister_protocol::bhttp;
use cloister_protocol::ohttp::Client;
use cloister_protocol::records::{self, RECORD_BYTES};
use cloister_tests::guests::Shared;
use cloister_tests::raw::{self, connect, send};
use cloister_tests::sealed::keys;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::{Value, json};

const SENTENCE: &str = "The launch moves to Thursday.";

fn conversation(members: &Value) -> bhttp::Request {
    let mut json = json!({
        "model": "any",
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": [{"type": "text", "text": SENTENCE}]},
        ],
        "max_tokens": 24,
    });
    let object = json.as_object_mut().expect("an object");
    object.extend(members.as_object().expect("an object").clone());
    bhttp::Request::new("POST", paths::CHAT_COMPLETIONS)
        .with_content(media::JSON, json.to_string().into_bytes())
        .expect("a valid media type")
}

#[test]
fn a_conversation_is_answered_the_same_for_the_same_seed() {
    let guest = Shared::lease();
    let client = guest.client();
    let ask = |members: Value| {
        let answer = client.send(&conversation(&members)).expect("an answer");
        let text = String::from_utf8_lossy(&answer.content).into_owned();
        assert_eq!(answer.status, 200, "{text}");
        let document: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(document["object"], "chat.completion");
        let usage = &document["usage"];
        assert!(usage["prompt_tokens"].as_u64() > Some(20), "{usage}");
        assert!(
            (1..=24).contains(&usage["completion_tokens"].as_u64().unwrap_or(0)),
            "{usage}"
        );
        let said = document["choices"][0]["message"]["content"].as_str();
        said.expect("text").to_owned()
    };
    let seeded = |seed: u64| ask(json!({"temperature": 1.5, "seed": seed}));
    assert_eq!(seeded(5), seeded(5));
    assert_ne!(seeded(5), seeded(6), "24 tokens at random");
    let all = seeded(5);
    let stop: String = all.chars().skip(all.chars().count() / 2).take(3).collect();
    let stopped = ask(json!({"temperature": 1.5, "seed": 5, "stop": stop}));
    assert_eq!(
        all.split(&stop).next(),
        Some(stopped.as_str()),
        "{all} up to {stop}"
    );
    let refused = client.send(&conversation(&json!({"tools": [{"type": "function"}]})));
    assert_eq!(refused.expect("an answer").status, 422);
}

#[test]
fn a_text_is_written_anew() {
    let guest = Shared::lease();
    for tone in rewrite::Tone::NAMES {
        let request = rewrite::Request {
            text: SENTENCE.to_owned(),
            tone: rewrite::Tone::from_name(tone).expect("a tone"),
            count: 2,
        };
        let response = guest.client().rewrite(&request).expect("an answer");
        let suggestions = &response.suggestions;
        assert!((1..=2).contains(&suggestions.len()), "{suggestions:?}");
        assert!(suggestions.iter().all(|text| !text.trim().is_empty()));
        assert!(
            response.usage.prompt_tokens > 100,
            "two prompts: {response:?}"
        );
    }
}

/// The chunk of the chunked coding that every record but the first and the last is.
const RECORD_CHUNK: &[u8] = b"\r\n112\r\n";

#[test]
fn a_streamed_answer_says_the_same_and_the_wire_shows_records_only() {
    let guest = Shared::lease();
    let client = guest.client();
    let members = json!({"stream": true, "stream_options": {"include_usage": true}});
    let whole = client.send(&conversation(&json!({}))).expect("an answer");
    let whole: Value = serde_json::from_slice(&whole.content).expect("JSON");
    let stream = client.stream(&conversation(&members)).expect("an answer");
    assert_eq!(stream.status(), 200);
    let mut events = Events::new(stream);
    let chunks: Vec<Value> = events
        .by_ref()
        .map(|data| serde_json::from_str(&data.expect("an event")).expect("JSON"))
        .collect();
    assert!(events.is_done());
    let said = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let message = &whole["choices"][0]["message"]["content"];
    assert_eq!(said.collect::<String>(), message.as_str().expect("text"));
    let last = chunks.last().expect("chunks");
    assert_eq!(last["usage"], whole["usage"]);
    events.into_inner().finish().expect("the end is right");

    // The same once more as the network sees it.
    let message = conversation(&members).encode_padded().expect("it fits");
    let sealed = Client::new(keys(guest.port()).preferred())
        .encapsulate_chunked(&mut UnwrapErr(SysRng), &message);
    let (sealed, mut opener) = sealed.expect("the guest's key is valid");
    let mut socket = connect(guest.port());
    let request = raw::post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_CHUNKED_REQUEST, &sealed);
    send(&mut socket, &request);
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        let mut part = [0; 4096];
        let count = socket.read(&mut part).expect("an answer");
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..count]);
    }
    let count = 1 + seen
        .windows(RECORD_CHUNK.len())
        .filter(|window| *window == RECORD_CHUNK)
        .count();
    assert_eq!(records::bucket(count as u64), count as u64);
    let end = seen
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let sealed_bytes = 32 + (count - 1) * (RECORD_BYTES + 18) + RECORD_BYTES + 17;
    let framing_bytes = b"20\r\n\r\n".len() + count * b"112\r\n\r\n".len() + b"0\r\n\r\n".len();
    assert_eq!(seen.len() - end, sealed_bytes + framing_bytes);
    // And what it cannot see.
    let mut body = &seen[end..];
    let mut opened = 0;
    while let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..at]).expect("hexadecimal");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        if size == 0 {
            break;
        }
        opened += opener
            .push(&body[at + 2..at + 2 + size])
            .expect("it opens")
            .len();
        body = &body[at + 2 + size + 2..];
    }
    assert_eq!(opened, count - 1);
    assert_eq!(opener.finish().expect("the last one").len(), RECORD_BYTES);
}

#[test]
fn a_client_that_leaves_a_stream_ends_its_job() {
    let guest = Shared::lease();
    let cancelled = guest.metric("cloister_jobs_cancelled_total");
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(60);
    let members = json!({
        "messages": [{"role": "user", "content": text}], "max_tokens": 400, "stream": true, "temperature": 1.5,
    });
    let message = conversation(&members).encode_padded().expect("it fits");
    let sealed = Client::new(keys(guest.port()).preferred())
        .encapsulate_chunked(&mut UnwrapErr(SysRng), &message);
    let (sealed, _) = sealed.expect("the guest's key is valid");
    let mut socket = connect(guest.port());
    let request = raw::post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_CHUNKED_REQUEST, &sealed);
    send(&mut socket, &request);
    // Two records: the answer is being made.
    let mut seen = [0; 700];
    socket.read_exact(&mut seen).expect("records");
    assert_eq!(guest.metric("cloister_jobs"), 1);
    drop(socket);
    guest.wait_for_metric("cloister_jobs", |jobs| jobs == 0);
    assert_eq!(guest.metric("cloister_jobs_cancelled_total"), cancelled + 1);
}
