//! A server that speaks TLS: its key has to be the one that the accepted evidence binds, on every connection.

use super::behaviour::{CHAT, ask, said};
use super::process::{Proxy, run};
use super::raw::Relaying;
use super::server::Server;
use super::tls_front::{TlsFront, TlsKey};

/// A server whose evidence binds the key that it has.
fn serving(key: &TlsKey) -> (Server, TlsFront) {
    let server = Server::start();
    server.bind_tls_key(key.public_key());
    let front = TlsFront::before(server.address, key);
    (server, front)
}

/// Asks in both ways, and asserts that both are refused for the key.
fn assert_refused(proxy: &Proxy) {
    for stream in [false, true] {
        let answer = proxy.post(CHAT, &ask("hi", stream));
        assert_eq!(answer.status, 502, "{}", answer.body);
        assert_eq!(answer.error("type"), "attestation_error");
        assert_eq!(answer.error("code"), "tls_key");
        let message = answer.error("message");
        assert!(message.contains("nothing was sent"), "{message}");
        let head = &answer.head;
        assert!(head.contains("x-should-retry: false"), "{head}");
    }
}

#[test]
fn answers_whole_and_streamed_over_one_connection() {
    let (server, front) = serving(&TlsKey::generate());
    let proxy = Proxy::start(&front.url(), &[]);
    let answer = proxy.post(CHAT, &ask("good day", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = proxy.post(CHAT, &ask("good day", true));
    assert_eq!(said(&answer.body), "You said: good day");
    assert_eq!(server.looks(), 1);
    assert_eq!(front.handshakes(), 2, "one for the evidence");
}

#[test]
fn another_key_than_the_evidence_binds_is_refused_at_the_start() {
    let (server, front) = serving(&TlsKey::generate());
    for bound in [TlsKey::generate().public_key(), b""] {
        server.bind_tls_key(bound);
        let output = run(&front.url(), &["--insecure-no-attestation"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("TLS connection's key"), "{text}");
    }
    assert!(server.inner().is_empty());
}

#[test]
fn a_server_that_was_started_anew_is_judged_anew() {
    let (server, front) = serving(&TlsKey::generate());
    let proxy = Proxy::start(&front.url(), &[]);
    for stream in [false, true] {
        assert_eq!(proxy.post(CHAT, &ask("hi", stream)).status, 200);
        let new = TlsKey::generate();
        server.rotate();
        server.bind_tls_key(new.public_key());
        front.set_key(&new);
        front.cut();
        let answer = proxy.post(CHAT, &ask("hi", stream));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(server.looks(), 3);
}

#[test]
fn a_kept_connection_with_the_old_key_is_not_used_again() {
    let (server, front) = serving(&TlsKey::generate());
    let proxy = Proxy::start(&front.url(), &[]);
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    let new = TlsKey::generate();
    server.rotate();
    server.bind_tls_key(new.public_key());
    front.set_key(&new);
    // The old connection is there, and says that the server has other keys now.
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    assert_eq!((server.looks(), front.handshakes()), (2, 4));
}

#[test]
fn whoever_steps_between_gets_nothing() {
    let (server, front) = serving(&TlsKey::generate());
    let proxy = Proxy::start(&front.url(), &[]);
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    front.set_key(&TlsKey::generate());
    front.cut();
    assert_refused(&proxy);
    assert_eq!(server.inner(), [CHAT], "one before, none after");
}

#[test]
fn a_key_that_differs_for_requests_only_is_refused_after_one_more_look() {
    let key = TlsKey::generate();
    let (server, front) = serving(&key);
    let other = TlsKey::generate();
    let proxy = Proxy::start(&front.url(), &[]);
    assert_eq!(server.looks(), 1);
    // For each request: its connection, the one for evidence, its second connection.
    front.show_next([&other, &key, &other, &other, &key, &other]);
    assert_refused(&proxy);
    assert_eq!(server.looks(), 3);
    assert!(server.inner().is_empty());
    let answer = proxy.post(CHAT, &ask("hi", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_relay_speaks_tls_to_the_server_and_http_to_the_proxy() {
    let (server, front) = serving(&TlsKey::generate());
    let relay = Relaying::start(&front.url(), cloister_client::relay::Limits::default());
    let proxy = Proxy::start("https://127.0.0.1:1", &["--relay", &relay.url()]);
    let answer = proxy.post(CHAT, &ask("good day", true));
    assert_eq!(said(&answer.body), "You said: good day");
    assert_eq!(server.inner(), [CHAT]);
}
