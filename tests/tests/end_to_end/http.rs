//! Outer HTTP from clients that do not do as they should.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cloister_protocol::api::{media, paths};
use cloister_protocol::evidence::{Evidence, Kind, to_hex};
use cloister_tests::guests::Shared;
use cloister_tests::raw::{
    self, connect, exchange, get, half_close, post, read_answer, read_to_end, send,
};
use cloister_tests::sealed;

#[test]
fn the_paths_of_the_protocol() {
    let guest = Shared::lease();
    assert_eq!(get(guest.port(), paths::HEALTH).status, 200);
    let metrics = get(guest.port(), paths::METRICS);
    assert!(
        metrics.text().contains("cloister_heap_used_bytes"),
        "{}",
        metrics.text()
    );
    let keys = sealed::keys(guest.port());
    assert_eq!(keys.configs().len(), 2, "X-Wing and X25519");
    let nonce = [0x5a; 32];
    let evidence = get(
        guest.port(),
        &format!(
            "{}?{}={}",
            paths::EVIDENCE,
            paths::NONCE_PARAMETER,
            to_hex(&nonce)
        ),
    );
    let evidence = Evidence::decode(&evidence.body).expect("evidence");
    assert_eq!((evidence.kind, evidence.nonce), (Kind::None, Some(nonce)));
    assert_eq!(
        evidence.key_configs,
        get(guest.port(), paths::OHTTP_GATEWAY).body,
        "the same keys for everyone"
    );
    let cached = get(guest.port(), paths::EVIDENCE);
    assert_eq!(
        Evidence::decode(&cached.body).expect("evidence").nonce,
        None
    );
}

#[test]
fn wrong_requests_have_their_status() {
    let guest = Shared::lease();
    let port = guest.port();
    assert_eq!(get(port, "/nothing-here").status, 404);
    assert_eq!(
        get(port, &format!("{}?nonce=zz", paths::EVIDENCE)).status,
        400
    );
    assert_eq!(post(port, paths::HEALTH, "text/plain", b"x").status, 405);
    assert_eq!(
        post(port, paths::OHTTP_GATEWAY, "text/plain", b"x").status,
        415
    );
    assert_eq!(
        post(port, paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, b"").status,
        400
    );
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_refused() {
    let guest = Shared::lease();
    for (what, bytes) in [
        ("not HTTP", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..]),
        ("no version", b"GET /healthz\r\n\r\n"),
        ("bare line feeds", b"GET /healthz HTTP/1.1\nHost: guest\n\n"),
        ("space before the colon", b"GET /healthz HTTP/1.1\r\nHost : guest\r\n\r\n"),
        ("folded field", b"GET /healthz HTTP/1.1\r\nHost: guest\r\nA: b\r\n c\r\n\r\n"),
        ("no host", b"GET /healthz HTTP/1.1\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("both framings", b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a length that is none", b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: -1\r\n\r\n"),
        ("a zero byte", b"GET /health\0z HTTP/1.1\r\nHost: guest\r\n\r\n"),
    ] {
        let answer = exchange(guest.port(), bytes);
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
    }
}

#[test]
fn too_long_heads_and_bodies_are_refused() {
    let guest = Shared::lease();
    let long = "a".repeat(9 << 10);
    let answer = exchange(
        guest.port(),
        format!("GET / HTTP/1.1\r\nHost: g\r\nX: {long}\r\n\r\n").as_bytes(),
    );
    assert_eq!(answer.status, 431, "{answer:?}");
    let endless = "x".repeat(64 << 10);
    let answer = exchange(guest.port(), endless.as_bytes());
    assert!([400, 431].contains(&answer.status), "{answer:?}");
    let body = vec![0; 300 << 10];
    let answer = post(
        guest.port(),
        paths::OHTTP_GATEWAY,
        media::OHTTP_REQUEST,
        &body,
    );
    assert_eq!(answer.status, 413, "{answer:?}");
    let lie = format!(
        "POST {} HTTP/1.1\r\nHost: g\r\nContent-Type: {}\r\nContent-Length: 18446744073709551615\r\n\r\n",
        paths::OHTTP_GATEWAY,
        media::OHTTP_REQUEST
    );
    assert_eq!(exchange(guest.port(), lie.as_bytes()).status, 413);
}

#[test]
fn a_body_in_chunks_is_read_and_bounded() {
    let guest = Shared::lease();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: g\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        paths::OHTTP_GATEWAY,
        media::OHTTP_REQUEST
    );
    let answer = exchange(
        guest.port(),
        format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes(),
    );
    assert_eq!(
        answer.status, 400,
        "three bytes are no encapsulated request: {answer:?}"
    );
    let answer = exchange(
        guest.port(),
        format!("{head}ffffffffffffffff\r\n").as_bytes(),
    );
    assert!([400, 413].contains(&answer.status), "{answer:?}");
}

#[test]
fn a_slow_head_ends_with_408() {
    let guest = Shared::lease();
    let started = Instant::now();
    let mut stream = connect(guest.port());
    for byte in b"GET /healthz HTTP/1.1\r\n" {
        send(&mut stream, &[*byte]);
        sleep(Duration::from_millis(700));
    }
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_silent_connection_is_closed() {
    let guest = Shared::lease();
    let (said, after) = read_to_end(&mut connect(guest.port()));
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&said)
    );
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(60)).contains(&after),
        "{after:?}"
    );
}

#[test]
fn a_client_that_only_stops_sending_is_answered() {
    let guest = Shared::lease();
    let mut stream = connect(guest.port());
    send(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: guest\r\n\r\n");
    half_close(&stream);
    assert_eq!(read_answer(&mut stream).status, 200);
}

#[test]
fn a_request_that_is_cut_off_is_dropped() {
    let guest = Shared::lease();
    for part in [
        &b"GET /hea"[..],
        b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\nabc",
    ] {
        let mut stream = connect(guest.port());
        send(&mut stream, part);
        half_close(&stream);
        let answer = read_answer(&mut stream);
        assert!(
            [0, 400].contains(&answer.status) || answer.status >= 404,
            "{answer:?}"
        );
    }
}

#[test]
fn one_connection_serves_several_requests() {
    let guest = Shared::lease();
    let mut stream = connect(guest.port());
    for _ in 0..3 {
        send(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: guest\r\n\r\n");
        assert_eq!(read_answer(&mut stream).status, 200);
    }
}

/// Connections that each hold a place by half a request. QEMU accepts few connections at a time for its guest, and a
/// client that finds no room asks again only after a second or more; `None` if that took so long that the guest may
/// have given up on the first one.
fn hold_places(port: u16, count: usize) -> Option<Vec<TcpStream>> {
    const GUEST_WAITS_FOR_A_HEAD: Duration = Duration::from_secs(10);
    let started = Instant::now();
    let streams = (0..count)
        .map(|_| {
            let mut stream = connect(port);
            send(&mut stream, b"GET /healthz HTTP/1.1\r\n");
            // Leaves the emulator the time to accept it.
            sleep(Duration::from_millis(10));
            stream
        })
        .collect();
    sleep(Duration::from_millis(500));
    (started.elapsed() < GUEST_WAITS_FOR_A_HEAD / 2).then_some(streams)
}

#[test]
fn sixty_five_connections_at_once() {
    let guest = Shared::lease();
    let held = (0..10).find_map(|_| {
        guest.wait_for_metric("cloister_connections", |connections| connections <= 1);
        hold_places(guest.port(), 65)
    });
    let mut streams = held.expect("65 connections within seconds, in one of ten attempts");
    streams
        .iter_mut()
        .for_each(|stream| send(stream, b"Host: guest\r\n\r\n"));
    let statuses: Vec<u16> = streams
        .iter_mut()
        .map(|stream| read_answer(stream).status)
        .collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(
        (count(200), count(503)),
        (64, 1),
        "64 served and one told that there is no room: {statuses:?}"
    );
    drop(streams);
    guest.wait_for_metric("cloister_connections", |connections| connections <= 1);
    assert_eq!(get(guest.port(), paths::HEALTH).status, 200);
}

#[test]
fn refused_uploads_end_with_an_answer() {
    let guest = Shared::lease();
    let mut stream = connect(guest.port());
    send(&mut stream, b"POST /nothing HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n");
    let answer = read_answer(&mut stream);
    assert!([404, 417].contains(&answer.status), "{answer:?}");
    let answer = raw::get(guest.port(), paths::HEALTH);
    assert_eq!(answer.status, 200);
}
