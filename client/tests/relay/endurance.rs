//! Many requests at once, some of them broken off: each is answered once, with its own answer, and memory stays as it is.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::command::{Process, start};
use super::raw::{RawGateway, Then, read_message};

const CLIENTS: usize = 8;
const REQUESTS: usize = 10_000;
/// What the allocator may keep beside what is used.
const MAX_GROWTH_KIB: u64 = 4 << 10;

fn request(id: &str) -> String {
    let length = id.len();
    format!(
        "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-req\r\n\
         content-length: {length}\r\n\r\n{id}"
    )
}

fn content(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message).into_owned();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// One client's share; how long each took.
fn ask(process: &Process, client: usize, requests: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut connection: Option<TcpStream> = None;
    for number in 0..requests {
        let id = format!("{client}-{number}");
        if number % 10 == 9 {
            // Broken off: never seen by the gateway.
            let mut broken = process.connect("url");
            let text = request(&format!("broken {id}"));
            broken
                .write_all(&text.as_bytes()[..text.len() - 1])
                .unwrap();
        }
        if number % 50 == 49 {
            connection = None;
        }
        let stream = connection.get_or_insert_with(|| process.connect("url"));
        let started = Instant::now();
        stream.write_all(request(&id).as_bytes()).unwrap();
        let answer = read_message(stream, |_| ()).unwrap().expect("an answer");
        took.push(started.elapsed());
        assert_eq!(content(&answer), id, "its own answer");
    }
    took
}

fn ask_all(process: &Arc<Process>, requests: usize, first_client: usize) -> Vec<Duration> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let process = Arc::clone(process);
            thread::spawn(move || ask(&process, first_client + client, requests / CLIENTS))
        })
        .collect();
    let took = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap());
    took.collect()
}

#[test]
fn ten_thousand_requests() {
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let log = Arc::clone(&seen);
    let gateway = RawGateway::start(move |_, message| {
        let id = content(message);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\n";
        let answer = format!("{head}content-length: {}\r\n\r\n{id}", id.len());
        *log.lock().unwrap().entry(id).or_default() += 1;
        Then::Answer(answer.into_bytes())
    });
    let process = Arc::new(start(&gateway.url(), &["--requests-per-client", "0"]));
    ask_all(&process, REQUESTS / 5, 0);
    let before = process.resident_kib();
    let mut took = ask_all(&process, REQUESTS - REQUESTS / 5, CLIENTS);
    let after = process.resident_kib();
    {
        let seen = seen.lock().unwrap();
        assert_eq!(
            seen.len(),
            REQUESTS,
            "none lost, and nothing of broken ones"
        );
        assert!(seen.values().all(|times| *times == 1), "none sent twice");
    }
    assert!(
        after <= before + MAX_GROWTH_KIB,
        "{before} KiB after {} requests, {after} KiB after {REQUESTS}",
        REQUESTS / 5
    );
    took.sort();
    let at = |share: usize| took[took.len() * share / 100];
    eprintln!(
        "{CLIENTS} clients: p50 {:?}, p99 {:?}; {before} to {after} KiB resident",
        at(50),
        at(99)
    );
}
