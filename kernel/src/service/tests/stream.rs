//! Answers in records: what they say, and what the wire shows of them.

use std::string::String;
use std::vec::Vec;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{events, media, paths, summarize as api};
use cloister_protocol::bhttp;
use cloister_protocol::ohttp::MAX_REQUEST_OVERHEAD_BYTES;
use cloister_protocol::ohttp::chunked::ResponseOpener;
use cloister_protocol::records::{self, TICK_MS};
use serde_json::Value;

use crate::net::lan::Client;
use crate::service::jobs::MAX_WAITING;
use crate::service::testing::{World, chat, dechunk, open_streamed, problem, summarize};

/// The data of each event but the end.
fn data(response: &bhttp::Response) -> Vec<String> {
    let text = String::from_utf8(response.content.to_vec()).unwrap();
    let mut data: Vec<String> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap().into())
        .collect();
    assert_eq!(data.pop().as_deref(), Some(events::DONE), "{text}");
    data
}

/// The content of a streamed conversation's answer.
fn said(response: &bhttp::Response) -> String {
    let data = data(response);
    let deltas = data.iter().map(|data| {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let content = &chunk["choices"][0]["delta"]["content"];
        content.as_str().unwrap_or_default().into()
    });
    deltas.collect::<Vec<String>>().concat()
}

#[test]
fn an_answer_comes_while_it_is_made() {
    let mut world = World::new();
    let (client, opener) = world.send_streamed(&chat("Hel|~700|lo|~700| 你好", true));
    let seen = world.capture(client);
    let bytes: Vec<u8> = seen.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let (response, count) = open_streamed(&bytes, opener);
    assert_eq!((response.status, count), (200, 8));
    assert_eq!(
        response.field("content-type"),
        Some(media::EVENT_STREAM.as_bytes())
    );
    assert_eq!(said(&response), "Hello 你好");
    let data = data(&response);
    assert_eq!(data.len(), 4, "each word came by itself: {data:?}");
    assert!(
        data[0].contains(r#""role":"assistant""#) && data[3].contains(r#""finish_reason":"stop""#)
    );
    assert_eq!(
        (world.live.get(), world.server.metrics().jobs_finished),
        (0, 1)
    );
}

#[test]
fn what_is_said_between_two_ticks_is_one_event() {
    let mut world = World::new();
    let script = ["word "; 150].join("|");
    let (response, _) = world.ask_streamed(&chat(&script, true));
    assert_eq!(said(&response), "word ".repeat(150));
    assert!(data(&response).len() <= 4, "{:?}", data(&response));
}

#[test]
fn a_word_is_there_long_before_the_last() {
    let mut world = World::new();
    let (client, mut opener) = world.send_streamed(&chat("early|~60000|late", true));
    world.turns(2 * TICK_MS as usize);
    let pieces = dechunk(&world.lan.received(client));
    let mut message = bhttp::stream::ResponseReader::new(bhttp::Limits::DEFAULT);
    let mut decoder = records::Decoder::default();
    for piece in pieces {
        for record in opener.push(&piece).unwrap() {
            message.push(decoder.read(&record).unwrap()).unwrap();
        }
    }
    let content = message.take_content();
    assert!(String::from_utf8_lossy(&content).contains("early"));
    assert!(!message.is_complete());
    assert_eq!(world.live.get(), 1);
}

/// What an observer sees of an answer: when how many bytes come.
fn shape(seen: &[(u64, Vec<u8>)]) -> Vec<(u64, usize)> {
    seen.iter()
        .map(|(at_ms, bytes)| (*at_ms, bytes.len()))
        .collect()
}

#[test]
fn the_wire_shows_nothing_but_the_number_of_ticks() {
    let mut world = World::new();
    let mut observe = |request: &bhttp::Request| {
        let (client, opener) = world.send_streamed(request);
        let seen = world.capture(client);
        let bytes: Vec<u8> = seen.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let (response, count) = open_streamed(&bytes, opener);
        (shape(&seen), count, response)
    };
    // Short and at once; long, in three bursts; silent to the end; refused; a list; no such path.
    let long = std::format!(
        "{}|~400|{}|~900|{}",
        "a".repeat(100),
        "b".repeat(300),
        "c".repeat(5)
    );
    let requests = [
        chat("x", true),
        chat(&long, true),
        chat("~1200|late", true),
        chat("refuse", true),
        bhttp::Request::new("GET", paths::MODELS),
        bhttp::Request::new("GET", "/nothing"),
    ];
    let observed: Vec<_> = requests.iter().map(&mut observe).collect();
    let (expected, count, _) = &observed[0];
    assert_eq!(*count, 8);
    for (index, (shape, count, response)) in observed.iter().enumerate() {
        assert_eq!((shape, *count), (expected, 8), "{index}: {response:?}");
    }
    let answers: Vec<_> = observed[..3]
        .iter()
        .map(|(_, _, response)| said(response))
        .collect();
    assert_eq!(answers[1].len(), 405);
    assert_eq!((answers[0].as_str(), answers[2].as_str()), ("x", "late"));
    // The records are a tick apart, and of one size: the first with head and nonce, the last with the end.
    let times: Vec<u64> = expected.iter().map(|(at_ms, _)| *at_ms).collect();
    assert_eq!(times, (0..8).map(|tick| tick * TICK_MS).collect::<Vec<_>>());
    assert!(
        expected[1..7]
            .iter()
            .all(|(_, bytes)| *bytes == expected[1].1)
    );
    // An answer of another number of ticks looks different, so the comparison can fail.
    let (other, count, _) = observe(&chat("~2100|late", true));
    assert_eq!(count, 16);
    assert_ne!(other, *expected);
    assert_eq!(other[..7], expected[..7], "not before it goes on");
}

#[test]
fn the_number_of_records_is_one_of_a_few() {
    let mut world = World::new();
    for (length, expected) in [(1, 8), (1_200, 8), (2_500, 16), (5_000, 32), (40_000, 256)] {
        let (response, count) = world.ask_streamed(&chat(&"x".repeat(length), true));
        assert_eq!((said(&response).len(), count), (length, expected));
    }
}

#[test]
fn everything_else_goes_through_records_too() {
    let mut world = World::new();
    let (models, _) = world.ask_streamed(&bhttp::Request::new("GET", paths::MODELS));
    assert!(String::from_utf8_lossy(&models.content).contains("parrot"));
    let (missing, _) = world.ask_streamed(&bhttp::Request::new("GET", "/nothing"));
    assert_eq!(problem(&missing).0, 404);
    let (summary, _) = world.ask_streamed(&summarize("as one", 300));
    let summary = api::Response::from_json(&summary.content).unwrap();
    assert_eq!(summary.summary, "as one");
    let (whole, _) = world.ask_streamed(&chat("as |one", false));
    assert!(String::from_utf8_lossy(&whole.content).contains(r#""content":"as one""#));
}

#[test]
fn a_summary_is_shown_while_it_is_written() {
    let mut world = World::new();
    let messages = [api::Message::new("Ana", "- one|~300|\n- two")].to_vec();
    let request = api::Request {
        messages,
        style: api::Style::Bullets,
        max_tokens: None,
    };
    let request = bhttp::Request::new("POST", paths::SUMMARIZE)
        .with_content(media::JSON, request.to_json_streamed().to_vec())
        .unwrap();
    let (response, _) = world.ask_streamed(&request);
    let read = |data: &String| api::Event::from_json(data.as_bytes()).unwrap();
    let events: Vec<api::Event> = data(&response).iter().map(read).collect();
    let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts, ["- one", "\n- two", ""]);
    assert_eq!(events[2].usage.unwrap().output_tokens, 5);
    assert_eq!(events[2].model.as_deref(), Some("parrot"));
}

#[test]
fn what_goes_wrong_is_told_late_or_in_the_middle() {
    let mut world = World::new();
    let (refused, _) = world.ask_streamed(&chat("refuse", true));
    assert_eq!(problem(&refused).0, 422);
    let (failed, _) = world.ask_streamed(&chat("~300|fail", true));
    assert_eq!(problem(&failed).0, 500);
    let (broken, _) = world.ask_streamed(&chat("a|~300|fail", true));
    let text = String::from_utf8(broken.content.to_vec()).unwrap();
    assert_eq!(broken.status, 200);
    assert!(text.contains(r#""content":"a""#), "{text}");
    let last = text.trim().lines().last().unwrap();
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["error"]["message"], "failed");
}

#[test]
fn a_full_queue_is_told_in_records() {
    let mut world = World::new();
    world.room.set(0);
    let waiting: Vec<Client> = (0..=MAX_WAITING)
        .map(|_| world.send_streamed(&chat("wait", true)).0)
        .collect();
    let (refused, count) = world.ask_streamed(&chat("one too many", true));
    assert_eq!((problem(&refused).0, count), (429, 8));
    assert_eq!(world.server.metrics().jobs_refused, 1);
    waiting
        .iter()
        .for_each(|&client| world.lan.socket(client).abort());
    world.turns(10);
    assert_eq!(world.live.get(), 0);
    assert_eq!(
        world.server.metrics().jobs_cancelled,
        MAX_WAITING as u64 + 1
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_ends_its_job() {
    let mut world = World::new();
    // Its request has come by the first of these.
    for turns in [30, 60, 249, 251, 1_100] {
        let before = world.server.metrics().jobs_cancelled;
        let (client, _) = world.send_streamed(&chat("a|~100000|b", true));
        let (stays, opener) = world.send_streamed(&chat("c|~1500|d", true));
        world.turns(turns);
        assert_eq!(world.live.get(), 2);
        world.lan.socket(client).abort();
        world.turns(5);
        assert_eq!(world.live.get(), 1);
        assert_eq!(world.server.metrics().jobs_cancelled, before + 1);
        let seen = world.capture(stays);
        let bytes: Vec<u8> = seen.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(said(&open_streamed(&bytes, opener).0), "cd");
    }
    assert_eq!(world.live.get(), 0);
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_others_are_not_stopped() {
    let mut world = World::new();
    let (client, _) = world.send_streamed(&chat("~10000000", true));
    // Its side takes 16 KiB, ours as much, and 32 KiB wait: 230 records.
    let mut answered = 0;
    for second in 0..120 {
        for _ in 0..4 {
            world.lan.now_us += TICK_MS * 1000;
            world.turn();
        }
        if world.live.get() == 0 {
            assert!((50..70).contains(&second), "{second}");
            break;
        }
        assert_eq!(world.get(paths::HEALTH).status, 200);
        answered += 1;
    }
    assert!(answered >= 50);
    assert_eq!(world.server.metrics().jobs_cancelled, 1);
    world.lan.received(client);
    world.turns(20);
    assert!(!world.lan.socket(client).is_open());
}

#[test]
fn a_late_turn_sends_one_record_and_keeps_to_the_ticks() {
    let mut world = World::new();
    let (client, _) = world.send_streamed(&chat("~100000", true));
    world.turns(30);
    let count = |world: &mut World| {
        let records = world.lan.received(client);
        records
            .windows(5)
            .filter(|window| *window == b"112\r\n")
            .count()
    };
    let start_us = world.lan.now_us;
    assert_eq!(count(&mut world), 1);
    world.lan.now_us += 1_180_000;
    world.turns(5);
    assert_eq!(count(&mut world), 1, "four ticks were missed");
    // The next one is five ticks after the first.
    while world.lan.now_us < start_us + 1_200_000 {
        world.turn();
    }
    assert_eq!(count(&mut world), 0);
    world.turns(60);
    assert_eq!(count(&mut world), 1);
}

#[test]
fn a_connection_is_of_use_after_a_stream() {
    let mut world = World::new();
    let (client, opener) = world.send_streamed(&chat("first", true));
    world.send(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let seen = world.capture(client);
    let bytes: Vec<u8> = seen.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(said(&open_streamed(&bytes, opener).0), "first");
    assert_eq!(world.answer(client).unwrap().body, b"ready\n");
}

#[test]
fn an_older_client_is_answered_up_to_the_end_of_the_connection() {
    let mut world = World::new();
    let keys = world.keys();
    let (mut request, mut opener) = world.encapsulate_chunked(&keys, &chat("old", true));
    let client = world.connect();
    let at = request
        .windows(8)
        .position(|window| window == b"HTTP/1.1")
        .unwrap();
    request[at + 7] = b'0';
    world.send(client, &request);
    let seen = world.capture(client);
    let bytes: Vec<u8> = seen.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    assert!(head.contains("Connection: close\r\n") && !head.contains("Transfer-Encoding"));
    let records = opener.push(&bytes[end..]).unwrap().len();
    assert_eq!(records, 7);
    assert!(opener.finish().is_ok());
}

#[test]
fn requests_in_chunks_that_cannot_be_opened_are_refused_in_the_clear() {
    let mut world = World::new();
    let keys = world.keys();
    let (mut request, _): (_, ResponseOpener) = world.encapsulate_chunked(&keys, &chat("x", true));
    *request.last_mut().unwrap() ^= 1;
    let answer = world.exchange(&request);
    assert_eq!(answer.status, 422);
    let problem = Problem::from_json(&answer.body).unwrap();
    assert!(problem.is_key_problem());
    let head = "POST /.well-known/ohttp-gateway HTTP/1.1\r\nHost: x\r\nContent-Type: message/ohttp-chunked-req\r\n";
    let large = 256 * 1024 + 2 * MAX_REQUEST_OVERHEAD_BYTES;
    let request = std::format!("{head}Content-Length: {large}\r\n\r\n");
    assert_eq!(world.exchange(request.as_bytes()).status, 413);
    let request = std::format!("{head}Content-Length: 3\r\n\r\nabc");
    assert_eq!(world.exchange(request.as_bytes()).status, 400);
}
