//! Many requests: nothing may grow.

use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_tests::guests::{Lease, Shared};
use cloister_tests::sealed::problem_of;

/// Requests in all.
const REQUESTS: usize = 1_000;
/// Every so many requests one is for a summary; the others list the models or are refused. All of them are sealed and
/// opened, but a summary takes the emulated CPU ten times as long as anything else.
const SUMMARY_EVERY: usize = 5;
/// Requests before the first look at the memory: queues and buffers have their size by then.
const WARM_UP: usize = 50;
/// The heap may be cut up a little differently from moment to moment.
const TOLERANCE_BYTES: u64 = 64 << 10;

#[test]
fn a_thousand_requests_leave_the_memory_flat() {
    let guest = Shared::lease();
    let mut client = guest.client();
    let finished = guest.metric("cloister_jobs_finished_total");
    let mut after_warm_up = 0;
    for index in 0..REQUESTS {
        match index % SUMMARY_EVERY {
            0 => summarize(&mut client, index),
            1 => assert_eq!(problem_of(guest.port(), b"{}").status, 422),
            _ => assert!(client.models().is_ok(), "request {index}"),
        }
        if index + 1 == WARM_UP {
            after_warm_up = heap(&guest);
        }
    }
    let after_all = heap(&guest);
    eprintln!("heap: {after_warm_up} bytes after {WARM_UP} requests, {after_all} after {REQUESTS}");
    assert!(
        after_all <= after_warm_up + TOLERANCE_BYTES,
        "{after_warm_up} -> {after_all} bytes"
    );
    let summaries = (REQUESTS / SUMMARY_EVERY) as u64;
    assert_eq!(
        guest.metric("cloister_jobs_finished_total"),
        finished + summaries
    );
}

fn summarize(client: &mut cloister_client::Client, index: usize) {
    let text = format!("Message {index}: {}", "lunch at one? ".repeat(index % 7));
    let messages = vec![Message::new("Ana", text)];
    let outcome = client.summarize(&Request {
        messages,
        style: Style::Headline,
        max_tokens: Some(8),
    });
    assert!(outcome.is_ok(), "request {index}: {outcome:?}");
}

fn heap(guest: &Lease) -> u64 {
    guest.metric("cloister_heap_used_bytes")
}
