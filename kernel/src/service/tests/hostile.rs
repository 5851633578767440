//! Clients that stall, send a byte a second or break off: others are served, and nothing of them stays.

use std::vec::Vec;

use super::super::testing::{World, open, summarize};
use super::summary;
use crate::memory::counting;
use crate::net::lan::Client;
use cloister_protocol::api::paths;
use cloister_protocol::ohttp::ResponseOpener;

/// Clients that misbehave at the same time: more than there are places.
const HOSTILE: usize = 100;
/// Those that come and go together.
const CROWD: usize = 60;
/// Until a connection is given up on which nothing ever came, in s: a client that found no place is served by then.
const PATIENCE_S: u64 = 35;

/// Frames on the way, of which there are not as many at every moment: less than two bytes a client.
const TOLERANCE_BYTES: usize = 4096;

/// How a client ends.
type End = fn(&mut World, Client);

const LEAVES: [End; 2] = [
    |world, client| world.lan.socket(client).abort(),
    |world, client| world.lan.socket(client).close(),
];

impl World {
    /// A valid request, sealed, and what opens the answer.
    fn valid(&mut self) -> (Vec<u8>, ResponseOpener) {
        let keys = self.keys();
        self.encapsulate(&keys, &summarize("hello", 1))
    }

    fn break_off(&mut self, request: &[u8], end: End) {
        let client = self.connect();
        self.send(client, request);
        end(self, client);
        self.part(client);
    }

    fn is_healthy(&mut self) -> bool {
        let client = self.connect();
        self.send(
            client,
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        let answer = self.answer(client);
        self.part(client);
        answer.is_some_and(|answer| answer.status == 200)
    }

    /// When all clients have gone, what is allocated must be what it was the first time.
    fn must_have_used(&mut self, before: &mut Option<usize>) {
        self.skip_s(100);
        assert_eq!(self.live.get(), 0, "no job is left");
        let used = counting::used_bytes();
        let before = *before.get_or_insert(used);
        assert!(
            used.abs_diff(before) < TOLERANCE_BYTES,
            "{used} bytes, {before} before"
        );
    }
}

#[test]
fn requests_that_break_off_at_any_byte_leave_nothing() {
    let mut world = World::new();
    let (request, _) = world.valid();
    let mut before = None;
    // The first time queues and lists get their size.
    for lengths in [
        (0..request.len()).step_by(97),
        (0..request.len()).step_by(1),
    ] {
        for length in lengths {
            for end in LEAVES {
                world.break_off(&request[..length], end);
            }
            assert!(length % 100 != 0 || world.is_healthy(), "{length}");
        }
        world.must_have_used(&mut before);
    }
    assert_eq!(world.server.metrics().jobs_queued, 0);
}

#[test]
fn clients_that_vanish_at_any_byte_leave_nothing() {
    let mut world = World::new();
    let (request, _) = world.valid();
    let lengths: Vec<usize> = (0..request.len()).collect();
    let mut before = None;
    for crowd in lengths.chunks(CROWD) {
        let clients: Vec<Client> = crowd.iter().map(|_| world.connect()).collect();
        for (client, length) in clients.iter().zip(crowd) {
            world.send(*client, &request[..*length]);
        }
        clients
            .into_iter()
            .for_each(|client| world.lan.vanish(client));
        assert!(world.is_healthy(), "{crowd:?}");
        world.must_have_used(&mut before);
    }
}

#[test]
fn answers_that_are_not_read_to_their_end_leave_nothing() {
    let mut world = World::new();
    let (request, opener) = world.valid();
    let client = world.connect();
    world.send(client, &request);
    while world.lan.socket(client).recv_queue() == 0 {
        world.turn();
    }
    world.turns(10);
    let whole = world.lan.socket(client).recv_queue();
    let answer = world.answer(client).expect("an answer");
    assert_eq!(summary(&open(answer, opener)), "hello");
    world.lan.socket(client).close();
    world.part(client);
    let mut before = None;
    for lengths in [(1..whole).step_by(97), (1..whole).step_by(1)] {
        for length in lengths {
            // Its buffer has room for no more.
            let client = world.lan.connect_with(length);
            world.turns(3);
            world.send(client, &request);
            while world.lan.socket(client).recv_queue() < length {
                world.turn();
            }
            world.lan.socket(client).abort();
            world.part(client);
            assert!(length % 100 != 0 || world.is_healthy(), "{length}");
        }
        world.must_have_used(&mut before);
    }
}

/// A client that misbehaves: what it does in each second after the first.
struct Hostile {
    client: Client,
    number: usize,
    sent: usize,
}

impl Hostile {
    fn act(&mut self, world: &mut World, request: &[u8], second: usize) {
        if !world.lan.socket(self.client).may_send() {
            return;
        }
        match self.number % 3 {
            // Stalls, at another byte each.
            0 if self.sent == 0 => {
                self.sent = self.number * request.len() / HOSTILE;
                world.send(self.client, &request[..self.sent]);
            }
            // A byte a second.
            1 => {
                world.send(self.client, &request[self.sent..=self.sent]);
                self.sent += 1;
            }
            // Breaks off.
            2 if second == self.number / 3 => {
                let length = self.number * request.len() / HOSTILE;
                world.send(self.client, &request[..length]);
                world.lan.socket(self.client).abort();
            }
            _ => {}
        }
    }
}

#[test]
fn a_hundred_hostile_clients_do_not_keep_others_out() {
    let mut world = World::new();
    let (request, _) = world.valid();
    // So that lists have their size.
    let crowd: Vec<Client> = (0..2 * HOSTILE).map(|_| world.lan.connect()).collect();
    crowd
        .into_iter()
        .for_each(|client| world.lan.vanish(client));
    let mut before = None;
    world.must_have_used(&mut before);

    let patient = world.connect();
    let clients: Vec<Client> = (0..HOSTILE).map(|_| world.lan.connect()).collect();
    let numbered = clients.into_iter().enumerate();
    let mut hostile: Vec<Hostile> = numbered
        .map(|(number, client)| Hostile {
            client,
            number,
            sent: 0,
        })
        .collect();
    let mut served = Vec::new();
    for second in 0..2 * PATIENCE_S {
        for hostile in &mut hostile {
            hostile.act(&mut world, &request, second as usize);
        }
        // Who has a place is served, whatever the others do.
        world.send(patient, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(
            world.answer(patient).expect("an answer").status,
            200,
            "{second}"
        );
        if world.is_healthy() {
            served.push(second);
        }
        world.skip_s(1);
    }
    // Who has none gets one as soon as hostile clients are given up.
    assert!(served[0] <= PATIENCE_S, "{served:?}");
    let late: Vec<u64> = (served[0]..2 * PATIENCE_S).collect();
    assert_eq!(served, late, "and from then on always");
    let (request, opener) = world.valid();
    let answer = world.exchange(&request);
    assert_eq!(summary(&open(answer, opener)), "hello");

    assert!(
        world.server.metrics().connections_refused > 0,
        "they were too many"
    );
    assert!(world.get(paths::METRICS).status == 200);
    for Hostile { client, .. } in hostile {
        world.lan.socket(client).abort();
        world.part(client);
    }
    world.lan.socket(patient).close();
    world.part(patient);
    drop((request, served, late));
    world.must_have_used(&mut before);
}
