//! A hundred clients that stall, send a byte a second or break off, all at once: others are served, and the memory is
//! what it was.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cloister_protocol::api::{media, paths};
use cloister_protocol::keyconfig::KeyConfigList;
use cloister_tests::guests::{Lease, Shared};
use cloister_tests::raw::{connect, connect_within, exchange_on, post_bytes, read_answer, send};
use cloister_tests::sealed::{keys, seal, summarize_message};

/// More than the guest has places.
const HOSTILE: usize = 100;
/// How long they are at it.
const DURATION: Duration = Duration::from_secs(60);
/// The guest gives up on a silent connection after 30 s; under emulation, on a busy machine, a little later.
const FIRST_SERVED: Duration = Duration::from_secs(50);
/// One comes so long after the other: QEMU accepts one at a time, and a client that it does not notice comes back only
/// after seconds ([`connect_within`]), all of them at once again.
const APART: Duration = Duration::from_millis(20);
/// Who cannot reach QEMU for so long tries anew.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The heap may be cut up a little differently from moment to moment.
const TOLERANCE_BYTES: u64 = 64 << 10;
const THREAD: &[u8] = br#"{"messages":[{"text":"The launch moves to Thursday."}],"max_tokens":4}"#;

#[test]
fn a_hundred_hostile_clients_do_not_keep_others_out() {
    let guest = Shared::lease();
    let port = guest.port();
    let keys = keys(port);
    let (sealed, _) = seal(&keys, &summarize_message(THREAD));
    let request = post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed);
    let before = heap(&guest);
    let mut patient = connect(port);
    assert!(is_served(&mut patient));

    let (is_over, started) = (AtomicBool::new(false), Instant::now());
    let (mut served, mut refused, mut first) = (0, 0, None);
    let turns = thread::scope(|scope| {
        let hostile: Vec<_> = (0..HOSTILE)
            .map(|number| {
                let (request, is_over) = (&request, &is_over);
                sleep(APART);
                scope.spawn(move || misbehave(port, number, request, is_over))
            })
            .collect();
        while started.elapsed() < DURATION {
            assert!(is_served(&mut patient), "who has a place is served");
            if is_answered(port, &keys) {
                first.get_or_insert(started.elapsed());
                served += 1;
            } else {
                refused += 1;
            }
            sleep(Duration::from_millis(500));
        }
        is_over.store(true, Ordering::Relaxed);
        let ended = hostile
            .into_iter()
            .map(|hostile| hostile.join().expect("no panic"));
        ended.filter(|had_its_turn| *had_its_turn).count()
    });
    eprintln!(
        "{turns} hostile clients; others: {served} served, {refused} refused, the first after {first:?}"
    );
    assert_eq!(turns, HOSTILE, "each had its turn");
    assert!(first.is_some_and(|first| first < FIRST_SERVED), "{first:?}");
    assert!(served > 5, "{served}");
    drop(patient);
    let after = heap(&guest);
    assert!(
        after.abs_diff(before) <= TOLERANCE_BYTES,
        "{before} -> {after} bytes"
    );
}

/// Whether a new client finds a place, and its request is answered.
fn is_answered(port: u16, keys: &KeyConfigList) -> bool {
    let (sealed, opener) = seal(keys, &summarize_message(THREAD));
    let Ok(stream) = connect_within(port, ATTEMPT) else {
        return false;
    };
    let request = post_bytes(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed);
    let answer = exchange_on(stream, &request);
    answer.status == 200 && opener.open(&answer.body).is_ok()
}

/// Whether a client that keeps its connection is served.
fn is_served(patient: &mut TcpStream) -> bool {
    send(patient, b"GET /healthz HTTP/1.1\r\nHost: guest\r\n\r\n");
    read_answer(patient).status == 200
}

fn heap(guest: &Lease) -> u64 {
    guest.wait_for_metric("cloister_connections", |connections| connections <= 1);
    guest.metric("cloister_heap_used_bytes")
}

/// Takes a place and abuses it, in one of three ways and at another byte each; whether it had its turn.
fn misbehave(port: u16, number: usize, request: &[u8], is_over: &AtomicBool) -> bool {
    while !is_over.load(Ordering::Relaxed) {
        let place = number * request.len() / HOSTILE;
        let had_its_turn = connect_within(port, ATTEMPT).is_ok_and(|mut stream| match number % 3 {
            0 => stall(stream, &request[..place], is_over),
            1 => dawdle(stream, request, is_over),
            // Sends a part and is gone.
            _ => stream.write_all(&request[..place]).is_ok(),
        });
        if had_its_turn {
            return true;
        }
        sleep(Duration::from_secs(1));
    }
    false
}

/// Sends a part, and waits until the guest has had enough.
fn stall(mut stream: TcpStream, part: &[u8], is_over: &AtomicBool) -> bool {
    if stream.write_all(part).is_err() {
        return false;
    }
    wait_for_end(&mut stream, is_over)
}

/// Sends a byte a second.
fn dawdle(mut stream: TcpStream, request: &[u8], is_over: &AtomicBool) -> bool {
    for (second, byte) in request.iter().enumerate() {
        if is_over.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
            return second > 5;
        }
        sleep(Duration::from_secs(1));
    }
    true
}

/// Reads until the other side is done or the test is; whether it was patient for a while.
fn wait_for_end(stream: &mut TcpStream, is_over: &AtomicBool) -> bool {
    let started = Instant::now();
    let timeout = Some(Duration::from_millis(500));
    stream
        .set_read_timeout(timeout)
        .expect("a socket takes a timeout");
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut [0; 4096]) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break,
        }
    }
    started.elapsed() > Duration::from_secs(5)
}
