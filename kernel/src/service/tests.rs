//! The service from the client's side: every byte goes through the card in software, TCP, HTTP and the encapsulation.

mod hostile;

use std::string::String;
use std::vec::Vec;

use cloister_protocol::api::models::Models;
use cloister_protocol::api::problem::{self as kinds, Problem};
use cloister_protocol::api::{media, paths, summarize as api};
use cloister_protocol::bhttp;
use cloister_protocol::evidence::{Evidence, Kind};
use cloister_protocol::keyconfig::Kem;

use super::jobs::{MAX_RUNNING, MAX_WAITING};
use super::testing::{World, open, post, problem, summarize};

mod inner;
mod stream;

fn summary(response: &bhttp::Response) -> String {
    assert_eq!(
        response.status,
        200,
        "{:?}",
        String::from_utf8_lossy(&response.content)
    );
    api::Response::from_json(&response.content)
        .unwrap()
        .summary
        .clone()
}

#[test]
fn keys_evidence_health_and_counters_are_open_to_all() {
    let mut world = World::new();
    let keys = world.keys();
    assert_eq!(keys.configs().len(), 2);
    assert_eq!(keys.preferred().kem(), Kem::XWing);
    let epoch = keys.epoch().unwrap();
    assert_eq!(epoch.end_s - epoch.start_s, 3600);

    let answer = world.get(paths::EVIDENCE);
    assert!(answer.head.contains(media::CMW_CBOR));
    let evidence = Evidence::decode(&answer.body).unwrap();
    assert_eq!((evidence.kind, evidence.nonce), (Kind::None, None));
    assert_eq!(evidence.epoch, epoch.number);
    let nonce = "0F".repeat(32);
    let answer = world.get(&std::format!("{}?nonce={nonce}", paths::EVIDENCE));
    assert_eq!(
        Evidence::decode(&answer.body).unwrap().nonce,
        Some([0x0f; 32])
    );
    for query in ["nonce=00", "nonce=", "other=1", "nonce", "nonce=zz"] {
        let answer = world.get(&std::format!("{}?{query}", paths::EVIDENCE));
        assert_eq!(answer.status, 400, "{query}");
    }

    assert_eq!(world.get(paths::HEALTH).body, b"ready\n");
    let metrics = String::from_utf8(world.get(paths::METRICS).body).unwrap();
    assert!(
        metrics.contains("\ncloister_heap_used_bytes 4711\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\ncloister_requests_refused_total 5\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\ncloister_connections 1\n"), "{metrics}");
}

#[test]
fn wrong_paths_methods_and_types() {
    let mut world = World::new();
    assert_eq!(world.get("/").status, 404);
    assert_eq!(
        world.get("/v1/models").status,
        404,
        "inner paths are not outer ones"
    );
    let put = world.exchange(b"PUT /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(put.status == 405 && put.head.contains("\r\nAllow: GET, HEAD\r\n"));
    let delete = world.exchange(b"DELETE /.well-known/ohttp-gateway HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(delete.status == 405 && delete.head.contains("Allow: GET, HEAD, POST\r\n"));
    let json = b"POST /.well-known/ohttp-gateway HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Content-Length: 2\r\n\r\n{}";
    assert_eq!(world.exchange(json).status, 415);
}

#[test]
fn a_summary_end_to_end() {
    let mut world = World::new();
    let answer = world.ask(&summarize("Bonjour 🌍, 你好", 3));
    assert_eq!(summary(&answer), "Bonjour 🌍, 你好");
    assert_eq!(
        (world.live.get(), world.server.metrics().jobs_finished),
        (0, 1)
    );
    let long: String = "long ".repeat(40_000);
    assert_eq!(summary(&world.ask(&summarize(&long, 1))), long);
}

#[test]
fn the_models_of_the_image() {
    let mut world = World::new();
    let answer = world.ask(&bhttp::Request::new("GET", paths::MODELS));
    let models = Models::from_json(&answer.content).unwrap();
    assert_eq!(
        (models.data[0].id.as_str(), models.data[0].context_tokens),
        ("parrot", 2048)
    );
}

#[test]
fn an_image_without_a_model() {
    let mut world = World::with_model(false);
    assert_eq!(problem(&world.ask(&summarize("hello", 1))).0, 503);
    let answer = world.ask(&bhttp::Request::new("GET", paths::MODELS));
    assert!(Models::from_json(&answer.content).unwrap().data.is_empty());
}

#[test]
fn problems_inside_the_encapsulation() {
    let mut world = World::new();
    let with_body = |text: &str| {
        bhttp::Request::new("POST", paths::SUMMARIZE)
            .with_content(media::JSON, text.as_bytes().to_vec())
            .unwrap()
    };
    assert_eq!(
        problem(&world.ask(&bhttp::Request::new("GET", "/v1/other"))).0,
        404
    );
    assert_eq!(
        problem(&world.ask(&bhttp::Request::new("GET", paths::SUMMARIZE))).0,
        405
    );
    assert_eq!(
        problem(&world.ask(&bhttp::Request::new("POST", paths::MODELS))).0,
        405
    );
    assert_eq!(
        problem(&world.ask(&bhttp::Request::new("POST", paths::SUMMARIZE))).0,
        415
    );
    assert_eq!(
        problem(&world.ask(&with_body("not json"))).1.kind,
        kinds::INVALID_JSON
    );
    let (status, empty) = problem(&world.ask(&with_body(r#"{"messages":[]}"#)));
    assert_eq!((status, empty.field.as_deref()), (422, Some("messages")));
    assert_eq!(problem(&world.ask(&summarize("refuse", 1))).0, 422);
    assert_eq!(problem(&world.ask(&summarize("fail", 2))).0, 500);
    assert_eq!(world.live.get(), 0);

    let keys = world.keys();
    let (request, opener) = world.encapsulate_bytes(&keys, b"\x05garbage");
    let answer = open(world.exchange(&request), opener);
    assert_eq!(problem(&answer).1.kind, kinds::INVALID_MESSAGE);
}

#[test]
fn encapsulated_requests_that_cannot_be_opened() {
    let mut world = World::new();
    let keys = world.keys();
    let (request, _) = world.encapsulate(&keys, &summarize("hello", 1));
    let body = request
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let kind = |world: &mut World, sealed: &[u8]| {
        let answer = world.exchange(&post(sealed));
        let problem = Problem::from_json(&answer.body).unwrap();
        assert_eq!(problem.status, answer.status);
        (answer.status, problem.is_key_problem())
    };
    let mut sealed = request[body..].to_vec();
    sealed[0] ^= 0x80;
    assert_eq!(kind(&mut world, &sealed), (400, true), "unknown key id");
    sealed[0] ^= 0x80;
    *sealed.last_mut().unwrap() ^= 1;
    assert_eq!(kind(&mut world, &sealed), (422, true), "altered");
    assert_eq!(kind(&mut world, &sealed[..20]), (400, false), "cut short");
    assert_eq!(kind(&mut world, b""), (400, false), "empty");
    assert_eq!(world.server.metrics().requests_refused, 4);
    assert_eq!(
        summary(&world.ask(&summarize("still here", 1))),
        "still here"
    );
}

#[test]
fn a_message_of_300_kib() {
    let mut world = World::new();
    assert_eq!(world.exchange(&post(&[0; 300 * 1024])).status, 413);
    assert_eq!(world.get(paths::HEALTH).status, 200);
}

#[test]
fn the_65th_connection_is_told_and_the_others_go_on() {
    let mut world = World::new();
    let clients: Vec<_> = (0..64).map(|_| world.connect()).collect();
    let extra = world.connect();
    let answer = world.answer(extra).unwrap();
    assert!(
        answer.status == 503 && answer.head.contains("Retry-After: 5\r\n"),
        "{}",
        answer.head
    );
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for client in &clients {
        world.send(*client, request);
    }
    for client in &clients {
        assert_eq!(world.answer(*client).unwrap().status, 200);
    }
    // One leaves, and the next is served at once, although the one that was refused is still there.
    world.lan.socket(clients[0]).close();
    world.turns(5);
    assert_eq!(world.get(paths::HEALTH).status, 200);
    // Far too many at once: each is told or refused, and when they have gone there is room again.
    let crowd: Vec<_> = (0..20).map(|_| world.lan.connect()).collect();
    world.turns(50);
    crowd
        .into_iter()
        .for_each(|client| world.lan.socket(client).abort());
    clients
        .into_iter()
        .for_each(|client| world.lan.socket(client).close());
    world.skip_s(3);
    assert_eq!(world.get(paths::HEALTH).status, 200);
    assert!(world.server.metrics().connections_refused > 1);
}

#[test]
fn slow_clients_are_refused_and_do_not_hold_up_others() {
    let mut world = World::new();
    let slow = world.connect();
    world.send(slow, b"GET /healthz HTTP/1.1\r\nHo");
    let slow_body = world.connect();
    world.send(slow_body, &post(&[0; 2000])[..300]);
    for _ in 0..9 {
        world.skip_s(1);
        world.send(slow, b"s");
        assert_eq!(world.get(paths::HEALTH).status, 200);
    }
    assert_eq!(world.answer(slow).unwrap().status, 408);
    world.skip_s(20);
    assert_eq!(world.answer(slow_body).unwrap().status, 408);
}

#[test]
fn the_network_is_served_while_a_job_runs() {
    let mut world = World::new();
    let keys = world.keys();
    let (request, opener) = world.encapsulate(&keys, &summarize("patience", 400));
    let client = world.connect();
    world.send(client, &request);
    world.turns(30);
    let answer = world.get(paths::HEALTH);
    assert_eq!((answer.status, world.live.get()), (200, 1));
    let answer = world.answer(client).unwrap();
    assert_eq!(summary(&open(answer, opener)), "patience");
}

#[test]
fn a_client_that_leaves_takes_its_job_along() {
    let mut world = World::new();
    let keys = world.keys();
    let leave: [fn(&mut World, crate::net::lan::Client); 3] = [
        |world, client| world.lan.socket(client).abort(),
        // Ends its sending side and is gone: what comes for it then is answered with a reset.
        |world, client| {
            world.lan.socket(client).close();
            world.turns(10);
            world.lan.vanish(client);
        },
        |world, client| world.lan.vanish(client),
    ];
    for (index, leave) in leave.into_iter().enumerate() {
        let (request, _) = world.encapsulate(&keys, &summarize("secret", 512));
        let client = world.connect();
        world.send(client, &request);
        world.turns(20);
        assert_eq!(world.live.get(), 1);
        leave(&mut world, client);
        for _ in 0..400 {
            world.lan.now_us += 99_000;
            // Time runs for the network, not for the engine.
            world.lan.turn(&mut world.stack);
            if index == 2 {
                world.lan.turn(&mut world.stack);
            }
            if world.server.metrics().jobs_cancelled == index as u64 + 1 {
                break;
            }
            if world.live.get() == 1 {
                world.server_turn();
            }
        }
        assert_eq!(
            (world.live.get(), world.server.metrics().jobs_cancelled),
            (0, index as u64 + 1)
        );
    }
}

#[test]
fn a_client_that_has_only_finished_sending_is_answered() {
    let mut world = World::new();
    let keys = world.keys();
    let (request, opener) = world.encapsulate(&keys, &summarize("half", 500));
    world.skip_s(2);
    let client = world.connect();
    world.send(client, &request);
    world.lan.socket(client).close();
    let mut bytes = Vec::new();
    for _ in 0..20 {
        world.turn();
        bytes.extend(world.lan.received(client));
    }
    assert_eq!(bytes, b"HTTP/1.1 102 Processing\r\n\r\n");
    let answer = world.answer(client).unwrap();
    assert_eq!(summary(&open(answer, opener)), "half");
    assert!(world.server.metrics().jobs_cancelled == 0);
}

#[test]
fn a_full_queue_is_a_problem_inside() {
    let mut world = World::new();
    let keys = world.keys();
    let mut waiting = Vec::new();
    // The first one has a place, but no room, and nobody may overtake it.
    world.room.set(0);
    for _ in 0..=MAX_WAITING {
        let (request, opener) = world.encapsulate(&keys, &summarize("wait", 10));
        let client = world.connect();
        world.send(client, &request);
        waiting.push((client, opener));
    }
    assert_eq!(problem(&world.ask(&summarize("one too many", 1))).0, 429);
    assert_eq!(world.server.metrics().jobs_refused, 1);
    assert_eq!(gauge(&mut world, "jobs_running"), 1);
    assert_eq!(gauge(&mut world, "jobs_waiting"), MAX_WAITING as u64);
    world.room.set(usize::MAX);
    for (client, opener) in waiting {
        let answer = world.answer(client).unwrap();
        assert_eq!(summary(&open(answer, opener)), "wait");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut world = World::new();
    let keys = world.keys();
    let (mut request, opener) = world.encapsulate(&keys, &summarize("first", 50));
    request.extend_from_slice(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let client = world.connect();
    world.send(client, &request);
    let first = world.answer(client).unwrap();
    assert_eq!(summary(&open(first, opener)), "first");
    assert_eq!(world.answer(client).unwrap().body, b"ready\n");
}

#[test]
fn keys_live_for_an_hour_and_five_minutes() {
    let mut world = World::new();
    let old = world.keys();
    world.skip_s(3_590);
    assert_eq!(world.keys(), old);
    world.skip_s(20);
    let new = world.keys();
    assert_eq!(new.epoch().unwrap().number, old.epoch().unwrap().number + 1);
    let evidence = world.get(paths::EVIDENCE).body;
    assert_eq!(
        Evidence::decode(&evidence).unwrap().epoch,
        new.epoch().unwrap().number
    );
    let (request, opener) = world.encapsulate(&old, &summarize("late", 1));
    let answer = world.exchange(&request);
    assert_eq!(summary(&open(answer, opener)), "late");
    world.skip_s(300);
    let (request, _) = world.encapsulate(&old, &summarize("too late", 1));
    let answer = world.exchange(&request);
    let problem = Problem::from_json(&answer.body).unwrap();
    assert!(answer.status == 400 && problem.is_key_problem());
}

#[test]
fn idle_connections_are_closed() {
    let mut world = World::new();
    let client = world.connect();
    world.skip_s(29);
    assert!(world.lan.socket(client).may_recv());
    world.skip_s(3);
    assert!(!world.lan.socket(client).may_recv());
}

#[test]
fn the_engine_gets_one_step_a_turn() {
    let mut world = World::new();
    let keys = world.keys();
    let (request, _) = world.encapsulate(&keys, &summarize("steps", 100));
    let client = world.connect();
    world.send(client, &request);
    while world.live.get() == 0 {
        world.turn();
    }
    // One in which it begins, and 99 steps.
    world.turns(100);
    assert_eq!(world.live.get(), 1);
    world.turn();
    assert_eq!(world.live.get(), 0);
}

/// The value of a gauge, as a client reads it.
fn gauge(world: &mut World, name: &str) -> u64 {
    let metrics = String::from_utf8(world.get(paths::METRICS).body).unwrap();
    let start = std::format!("\ncloister_{name} ");
    let (_, value) = metrics.split_once(&start).expect("the gauge is there");
    value.lines().next().unwrap().parse().unwrap()
}

/// A request on a connection of its own that is still to be answered.
struct Asked {
    text: String,
    client: crate::net::lan::Client,
    opener: cloister_protocol::ohttp::ResponseOpener,
}

impl World {
    fn send_summary(&mut self, text: &str, steps: u32) -> Asked {
        let keys = self.keys();
        let (request, opener) = self.encapsulate(&keys, &summarize(text, steps));
        let client = self.connect();
        self.send(client, &request);
        self.turns(4);
        Asked {
            text: text.into(),
            client,
            opener,
        }
    }

    fn check(&mut self, asked: Asked) {
        let answer = self.answer(asked.client).expect("an answer");
        assert_eq!(summary(&open(answer, asked.opener)), asked.text);
    }
}

#[test]
fn sixteen_are_served_together_and_the_17th_waits_for_a_place() {
    let mut world = World::new();
    let asked: Vec<Asked> = (0..MAX_RUNNING)
        .map(|index| world.send_summary(&std::format!("text {index}"), 500))
        .collect();
    let last = world.send_summary("the 17th", 1);
    assert_eq!(gauge(&mut world, "jobs_running"), MAX_RUNNING as u64);
    assert_eq!(gauge(&mut world, "jobs_waiting"), 1);
    assert_eq!(gauge(&mut world, "jobs"), MAX_RUNNING as u64 + 1);
    world.check(last);
    assert!(
        world.server.metrics().jobs_finished <= 3,
        "it had to wait for one place only"
    );
    asked.into_iter().for_each(|asked| world.check(asked));
    assert_eq!(world.live.get(), 0);
}

#[test]
fn a_job_without_room_is_not_overtaken() {
    let mut world = World::new();
    world.room.set(2);
    let slow: Vec<Asked> = (0..2).map(|_| world.send_summary("slow", 500)).collect();
    let next = world.send_summary("next", 400);
    let last = world.send_summary("last", 1);
    slow.into_iter().for_each(|asked| world.check(asked));
    // Two have room, so the last one is served beside the third, not before it.
    world.check(last);
    assert_eq!(world.live.get(), 1);
    world.check(next);
    assert_eq!(world.live.get(), 0);
}

#[test]
fn a_client_can_leave_at_every_step_and_the_others_are_answered() {
    let mut world = World::new();
    world.room.set(2);
    for turns in 0..30 {
        let stays = world.send_summary("stays", 60);
        let leaves = world.send_summary("leaves", 20);
        let waits = world.send_summary("waits", 5);
        world.turns(turns);
        world.lan.socket(leaves.client).abort();
        world.check(waits);
        world.check(stays);
        assert_eq!(world.live.get(), 0, "{turns}");
    }
    assert!(world.server.metrics().jobs_cancelled > 10);
}

#[test]
fn the_longest_time_without_the_network_is_known() {
    let mut world = World::new();
    world.turns(10);
    world.lan.now_us += 250_000;
    world.turns(10);
    let gap_ms = gauge(&mut world, "poll_gap_ms_max");
    assert!((250..260).contains(&gap_ms), "{gap_ms}");
}
