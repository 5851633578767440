//! Gateways that speak TLS, or should.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use cloister_client::relay::{Event, KeyDigest, Limits};

use super::command::start;
use super::raw::{ANSWER, POST, RawGateway, Relaying, Then, answer, generous, refusal};
use super::tls_front::{TlsFront, TlsKey};

fn digest(key: &TlsKey) -> KeyDigest {
    KeyDigest::of(key.public_key())
}

#[test]
fn requests_pass_inside_tls_over_a_connection_that_is_kept() {
    let large = "x".repeat(1 << 18);
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: {}\r\n\r\n{large}",
        large.len()
    );
    let gateway = RawGateway::start(move |index, _| match index {
        0 => Then::Answer(ANSWER.as_bytes().to_vec()),
        _ => Then::Answer(long.clone().into_bytes()),
    });
    let front = TlsFront::before(gateway.address, &TlsKey::generate());
    let relay = Relaying::start(&front.url(), generous());
    assert!(relay.exchange(POST).ends_with("world"));
    assert!(relay.exchange(POST).ends_with(&large));
    assert_eq!(front.handshakes(), 1);
    assert_eq!(relay.counter("cloister_relay_gateway_reused_total"), 1);
    let authority = front.url().replace("https://", "");
    let request = format!(
        "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: {authority}\r\n\
         content-type: message/ohttp-req\r\ncontent-length: 5\r\n\r\nhello"
    );
    assert_eq!(gateway.received(), [request.repeat(2)]);
    assert!(relay.events.lock().unwrap().is_empty());
}

#[test]
fn without_a_pin_any_key_will_do() {
    let gateway = RawGateway::answering(ANSWER);
    let front = TlsFront::before(gateway.address, &TlsKey::generate());
    let relay = Relaying::start(&front.url(), generous());
    for _ in 0..3 {
        assert!(relay.exchange(POST).ends_with("world"));
        front.set_key(&TlsKey::generate());
        front.cut();
    }
    assert!(relay.events.lock().unwrap().is_empty());
}

#[test]
fn a_pinned_gateway_gets_nothing_while_it_has_another_key() {
    let gateway = RawGateway::answering(ANSWER);
    let (pinned, other) = (TlsKey::generate(), TlsKey::generate());
    let front = TlsFront::before(gateway.address, &pinned);
    let relay = Relaying::pinned(&front.url(), digest(&pinned));
    assert!(relay.exchange(POST).ends_with("world"));
    front.set_key(&other);
    front.cut();
    for _ in 0..3 {
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502);
        assert!(detail.contains("nothing was sent"), "{detail}");
        assert!(detail.contains(&digest(&other).to_string()), "{detail}");
    }
    front.set_key(&pinned);
    assert!(relay.exchange(POST).ends_with("world"));
    let received = gateway.received().concat();
    assert_eq!(received.matches("hello").count(), 2, "only under the pin");
    let events = relay.events.lock().unwrap().clone();
    let shown = digest(&other);
    assert_eq!(
        events,
        [Event::GatewayKey { shown }, Event::GatewayAnswers],
        "one line for each change"
    );
}

#[test]
fn a_certificate_without_its_private_key_is_nothing() {
    let gateway = RawGateway::answering(ANSWER);
    let pinned = TlsKey::generate();
    let front = TlsFront::before(gateway.address, &TlsKey::pretending(&pinned));
    for relay in [
        Relaying::pinned(&front.url(), digest(&pinned)),
        Relaying::start(&front.url(), generous()),
    ] {
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502);
        assert!(detail.contains("handshake with it failed"), "{detail}");
    }
    assert!(gateway.received().concat().is_empty());
}

/// Writes this to each connection once something has come, and then keeps or closes it.
fn saying(answer: &'static [u8], is_kept: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello);
            let _ = stream.write_all(answer);
            if is_kept {
                held.push(stream);
            }
        }
    });
    format!("https://{address}")
}

#[test]
fn what_is_no_tls_is_said() {
    for (answer, word) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "does not speak TLS",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak TLS"),
        // An alert of RFC 8446, section 6: fatal, protocol_version.
        (&[21, 3, 3, 0, 2, 2, 70], "no TLS 1.3"),
        // Fatal, handshake_failure.
        (&[21, 3, 3, 0, 2, 2, 40], "handshake with it failed"),
        (b"", "handshake with it failed"),
    ] {
        let relay = Relaying::start(&saying(answer, false), generous());
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502, "{detail}");
        assert!(detail.contains(word), "{answer:?}: {detail}");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
        let events = relay.events.lock().unwrap().clone();
        assert!(
            matches!(&events[..], [Event::GatewayFails { .. }]),
            "{events:?}"
        );
    }
}

#[test]
fn a_handshake_that_stalls_is_given_up() {
    // Nothing comes; or the beginning of a record, and then nothing.
    for answer in [&b""[..], &[22, 3, 3, 0, 100, 2]] {
        let limits = Limits {
            connect_timeout: Duration::from_millis(200),
            ..generous()
        };
        let relay = Relaying::start(&saying(answer, true), limits);
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 504);
        assert!(detail.contains("took no connection"), "{detail}");
    }
}

#[test]
fn the_command_takes_a_pin() {
    let gateway = RawGateway::answering(ANSWER);
    let (key, other) = (TlsKey::generate(), TlsKey::generate());
    let front = TlsFront::before(gateway.address, &key);
    for (pin, status) in [(&key, 200), (&other, 502)] {
        let pin = digest(pin).to_string();
        let process = start(&front.url(), &["--gateway-key", &pin]);
        assert_eq!(process.0.said("gateway"), front.url());
        assert_eq!(process.0.said("gateway_key"), pin);
        let mut client = process.connect("url");
        client.write_all(POST.as_bytes()).unwrap();
        let answer = answer(&mut client);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        let (_, errors) = process.0.terminate();
        let is_told = errors.contains("\"event\":\"gateway-key\"");
        assert_eq!(is_told, status == 502, "{errors}");
        assert_eq!(
            errors.contains(&digest(&key).to_string()),
            is_told,
            "{errors}"
        );
    }
}
