//! Gateways that are down, slow, gone in between, or lie.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use cloister_client::relay::{Event, Limits};

use super::raw::{ANSWER, POST, RawGateway, Relaying, Then, generous, refusal, wait_until};

const CHUNKED: &str = "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\n\
    content-type: message/ohttp-chunked-req\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

#[test]
fn a_gateway_that_is_down_is_said_and_its_coming_back_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let relay = Relaying::start(&format!("http://{address}"), generous());
    for _ in 0..2 {
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502);
        assert!(detail.contains("cannot be reached"), "{detail}");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
    }
    let listener = TcpListener::bind(address).unwrap();
    let gateway = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(ANSWER.as_bytes()).unwrap();
    });
    assert!(relay.exchange(POST).ends_with("world"));
    gateway.join().unwrap();
    let events = relay.events.lock().unwrap().clone();
    assert!(
        matches!(
            &events[..],
            [Event::GatewayFails { .. }, Event::GatewayAnswers]
        ),
        "one line for each change: {events:?}"
    );
}

#[test]
fn a_gateway_that_does_not_answer_in_time() {
    let limits = || Limits {
        answer_timeout: Duration::from_millis(100),
        ..generous()
    };
    let gateway = RawGateway::start(|_, _| Then::Wait);
    let relay = Relaying::start(&gateway.url(), limits());
    for request in [POST, CHUNKED] {
        let (status, detail) = refusal(&relay.exchange(request));
        assert_eq!(status, 504);
        assert!(detail.contains("did not answer"), "{detail}");
    }
    // The head comes, and then nothing.
    let head = &ANSWER[..ANSWER.len() - 2];
    let gateway = slow(head);
    let relay = Relaying::start(&gateway, limits());
    let (status, detail) = refusal(&relay.exchange(POST));
    assert_eq!(status, 504);
    assert!(detail.contains("took over"), "{detail}");
}

/// Writes this once and then nothing.
fn slow(answer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
            held.push(stream);
        }
    });
    url
}

#[test]
fn a_kept_connection_that_the_gateway_closed_costs_no_request() {
    let gateway = RawGateway::start(|index, _| match index % 2 {
        0 => Then::Close(ANSWER.as_bytes().to_vec()),
        _ => Then::Answer(ANSWER.as_bytes().to_vec()),
    });
    let relay = Relaying::before(&gateway);
    for index in 0..20 {
        assert!(relay.exchange(POST).ends_with("world"));
        // A request that was on its way when the connection ended would be lost: the relay sends none twice.
        gateway.wait_for_ends(index / 2 + 1);
    }
    let received = gateway.received();
    assert_eq!(received.concat().matches("hello").count(), 20, "each once");
    assert_eq!(received.len(), 11);
}

#[test]
fn lies_are_not_passed_on() {
    let head =
        |more: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\n{more}\r\n");
    let huge = "x".repeat(3 << 20);
    for (answer, word) in [
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n<p".to_owned(), "is not message/ohttp-res"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxx".to_owned(), "is not message/ohttp-res"),
        ("HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ncontent-length: 2\r\n\r\nxx".to_owned(), "is not message/ohttp-res"),
        ("HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_owned(), "it answered 302"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "it answered 204"),
        ("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(), "101"),
        (head("content-length: 3000000000\r\n"), "has over 2097152 bytes"),
        (head(&format!("content-length: {}\r\n", huge.len())) + &huge, "has over 2097152 bytes"),
        (head("transfer-encoding: chunked\r\n") + &format!("{:x}\r\n{huge}\r\n0\r\n\r\n", huge.len()), "has over 2097152 bytes"),
        (format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n{}", 70_000, &huge[..70_000]), "has over 65536 bytes"),
        (head("transfer-encoding: chunked\r\n") + "zz\r\nhello", "cut short"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "not HTTP"),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000)), "not HTTP"),
        (String::new(), "ended before its answer"),
    ] {
        let shown = answer[..answer.len().min(120)].to_owned();
        let gateway = RawGateway::start(move |_, _| Then::Close(answer.clone().into_bytes()));
        let relay = Relaying::before(&gateway);
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502, "{shown}");
        assert!(detail.contains(word), "{shown}: {detail}");
        assert_eq!(relay.counter("cloister_relay_answers_total"), 0);
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_is_no_answer() {
    let gateway = RawGateway::start(|index, _| Then::Close(ANSWER.as_bytes()[..index].to_vec()));
    let relay = Relaying::before(&gateway);
    for cut in 0..ANSWER.len() {
        let (status, detail) = refusal(&relay.exchange(POST));
        assert_eq!(status, 502, "cut at {cut}: {detail}");
    }
    assert!(
        relay.exchange(POST).ends_with("world"),
        "and one that is whole is one"
    );
}

/// An answer in chunks is cut for the client where the gateway cut it: never does it look whole.
#[test]
fn chunks_that_are_cut_anywhere_stay_cut() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n\
        transfer-encoding: chunked\r\n\r\n5\r\nworld\r\n6\r\nagain!\r\n0\r\n\r\n";
    let gateway = RawGateway::start(|index, _| Then::Close(whole.as_bytes()[..index].to_vec()));
    let relay = Relaying::before(&gateway);
    let head = whole.find("\r\n\r\n").unwrap() + 4;
    for cut in 0..=whole.len() {
        let mut client = relay.connect();
        client.write_all(CHUNKED.as_bytes()).unwrap();
        let mut received = Vec::new();
        // Cut off, or closed after the answer.
        let _ = client.read_to_end(&mut received);
        let text = String::from_utf8(received).unwrap();
        match cut {
            _ if cut < head => assert!(text.starts_with("HTTP/1.1 502"), "{cut}: {text}"),
            _ if cut < whole.len() => {
                // The last chunk is there only when all of it came.
                assert!(
                    text.is_empty() || text.starts_with("HTTP/1.1 200"),
                    "{cut}: {text}"
                );
                assert!(!text.ends_with("\r\n0\r\n\r\n"), "{cut}: {text}");
            }
            _ => assert!(
                text.ends_with("world\r\n6\r\nagain!\r\n0\r\n\r\n"),
                "{text}"
            ),
        }
    }
    wait_until(|| relay.counter("cloister_relay_requests") == 0);
}

#[test]
fn chunks_without_end_are_cut_off() {
    let gateway = RawGateway::start(|_, _| {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n\
            transfer-encoding: chunked\r\n\r\n"
            .to_vec();
        for _ in 0..100 {
            answer.extend_from_slice(b"400\r\n");
            answer.extend_from_slice(&[b'x'; 1024]);
            answer.extend_from_slice(b"\r\n");
        }
        Then::Answer(answer)
    });
    let limits = Limits {
        chunked_answer_bytes: 10_000,
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    let mut client = relay.connect();
    client.write_all(CHUNKED.as_bytes()).unwrap();
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    assert!(received.len() < 12_000 && !received.ends_with(b"0\r\n\r\n"));
    gateway.wait_for_ends(1);
}
