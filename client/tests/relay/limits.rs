//! Limits, and clients that are slow, break off, or are too many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use cloister_client::relay::Limits;

use super::raw::{ANSWER, POST, RawGateway, Relaying, Then, answer, generous, refusal, wait_until};

const CHUNKED: &str = "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\n\
    content-type: message/ohttp-chunked-req\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

const CHUNKED_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n\
    transfer-encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n";

/// Whole requests that the gateway got.
fn whole_requests(gateway: &RawGateway) -> usize {
    let received = gateway.received().concat();
    received.matches("\r\n\r\nhello").count()
}

/// Waits until so many clients have come, some of whom wait to be accepted when they have already left, and none is there.
fn wait_until_all_left(relay: &Relaying, came: usize) {
    wait_until(|| {
        let count = |name| relay.counter(name);
        count("cloister_relay_connections_total") == came as u64
            && count("cloister_relay_connections") == 0
            && count("cloister_relay_requests") == 0
    });
}

#[test]
fn a_client_that_breaks_off_anywhere_disturbs_nobody() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::before(&gateway);
    for sent in 0..POST.len() {
        let mut client = relay.connect();
        client.write_all(&POST.as_bytes()[..sent]).unwrap();
        drop(client);
    }
    wait_until_all_left(&relay, POST.len());
    assert_eq!(
        whole_requests(&gateway),
        0,
        "nothing of a broken request goes on"
    );
    assert!(relay.exchange(POST).ends_with("world"));
    let connections = relay.counter("cloister_relay_connections_total");
    assert_eq!(connections, POST.len() as u64 + 1);
}

#[test]
fn chunks_that_break_off_anywhere_are_cut_at_the_gateway_too() {
    let gateway = RawGateway::answering(CHUNKED_ANSWER);
    let relay = Relaying::before(&gateway);
    for sent in 0..CHUNKED.len() {
        let mut client = relay.connect();
        client.write_all(&CHUNKED.as_bytes()[..sent]).unwrap();
        drop(client);
    }
    wait_until_all_left(&relay, CHUNKED.len());
    assert!(relay.exchange(CHUNKED).contains("\r\nworld\r\n"));
    let ends = gateway.received().concat().matches("\r\n0\r\n\r\n").count();
    assert_eq!(ends, 1, "only the whole one has an end");
}

#[test]
fn those_that_stall_leave_room_for_others() {
    let gateway = RawGateway::answering(ANSWER);
    let limits = Limits { ..generous() };
    let relay = Relaying::start(&gateway.url(), limits);
    let step = POST.len() / 100 + 1;
    let stalled: Vec<TcpStream> = (0..100)
        .map(|index| {
            let mut client = relay.connect();
            let sent = (index * step) % POST.len();
            client.write_all(&POST.as_bytes()[..sent]).unwrap();
            client
        })
        .collect();
    for _ in 0..20 {
        assert!(relay.exchange(POST).ends_with("world"));
    }
    drop(stalled);
    wait_until_all_left(&relay, 120);
    assert_eq!(whole_requests(&gateway), 20);
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    let gateway = RawGateway::answering(ANSWER);
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    for sent in [0, 1, 30, POST.len() - 6] {
        let mut client = relay.connect();
        client.write_all(&POST.as_bytes()[..sent]).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
            "{rest:?}"
        );
    }
}

#[test]
fn a_body_that_does_not_end_is_answered() {
    let gateway = RawGateway::answering(ANSWER);
    let limits = Limits {
        body_timeout: Duration::from_millis(50),
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    for request in [POST, CHUNKED] {
        let head = request.find("\r\n\r\n").unwrap() + 4;
        for sent in [head, head + 4] {
            let (status, detail) = refusal(&relay.exchange(&request[..sent]));
            assert_eq!(status, 408);
            assert!(detail.contains("took over"), "{detail}");
        }
    }
    assert_eq!(whole_requests(&gateway), 0);
}

#[test]
fn what_is_too_large_is_said_as_soon_as_it_is_known() {
    let gateway = RawGateway::answering(ANSWER);
    let limits = Limits {
        request_bytes: 5,
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    let whole = POST.replace("content-length: 5", "transfer-encoding: chunked");
    let head = |text: &str| text[..text.find("\r\n\r\n").unwrap() + 4].to_owned();
    for request in [
        POST.replace("content-length: 5", "content-length: 6")
            .replace("hello", ""),
        head(&whole) + "5\r\nhello\r\n1\r\n!\r\n",
        head(CHUNKED) + "5\r\nhello\r\n1\r\n!\r\n",
        head(CHUNKED) + "6\r\nhello!\r\n",
    ] {
        let (status, detail) = refusal(&relay.exchange(&request));
        assert_eq!(
            (status, detail.as_str()),
            (413, "a request has at most 5 bytes")
        );
    }
    assert!(relay.exchange(POST).ends_with("world"));
}

/// A gateway that answers only once it is told to.
fn waiting_gateway() -> (RawGateway, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (seen, see) = mpsc::channel::<()>();
    let (wait, seen) = (Mutex::new(wait), Mutex::new(seen));
    let gateway = RawGateway::start(move |_, _| {
        seen.lock().unwrap().send(()).unwrap();
        // Told to go on, or the test is over.
        let _ = wait.lock().unwrap().recv();
        Then::Answer(ANSWER.as_bytes().to_vec())
    });
    (gateway, go, see)
}

#[test]
fn a_client_has_so_many_requests_at_once() {
    let (gateway, go, see) = waiting_gateway();
    let limits = Limits {
        requests_per_client: 1,
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    let mut first = relay.connect();
    first.write_all(POST.as_bytes()).unwrap();
    see.recv().unwrap();
    let second = relay.exchange(POST);
    assert!(second.contains("\r\nretry-after: 2\r\n"), "{second}");
    assert_eq!(refusal(&second).0, 429);
    go.send(()).unwrap();
    assert!(answer(&mut first).ends_with("world"));
    wait_until(|| relay.counter("cloister_relay_requests") == 0);
    go.send(()).unwrap();
    assert!(relay.exchange(POST).ends_with("world"));
    // Connections that ask nothing count too.
    let _held: Vec<_> = (0..4).map(|_| relay.connect()).collect();
    wait_until(|| relay.counter("cloister_relay_connections_turned_away_total") > 0);
}

#[test]
fn a_gateway_has_so_many_requests_at_once() {
    let (gateway, go, see) = waiting_gateway();
    let limits = Limits {
        gateway_requests: 1,
        queue_timeout: Duration::from_millis(50),
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    let mut first = relay.connect();
    first.write_all(POST.as_bytes()).unwrap();
    see.recv().unwrap();
    let second = relay.exchange(POST);
    assert!(second.contains("\r\nretry-after: 2\r\n"), "{second}");
    let (status, detail) = refusal(&second);
    assert_eq!(status, 503);
    assert!(detail.contains("too many requests"), "{detail}");
    go.send(()).unwrap();
    assert!(answer(&mut first).ends_with("world"));
    assert!(
        relay.events.lock().unwrap().is_empty(),
        "the gateway is busy, it does not fail"
    );
}

#[test]
fn connections_to_the_gateway_are_few_and_used_again() {
    let gateway = RawGateway::answering(ANSWER);
    let limits = Limits {
        gateway_requests: 3,
        queue_timeout: Duration::from_secs(30),
        ..generous()
    };
    let relay = Arc::new(Relaying::start(&gateway.url(), limits));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let relay = Arc::clone(&relay);
            thread::spawn(move || {
                for _ in 0..25 {
                    assert!(relay.exchange(POST).ends_with("world"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(whole_requests(&gateway), 200, "none lost, none sent twice");
    let made = relay.counter("cloister_relay_gateway_connections_total");
    assert!(made <= 3, "{made} connections");
    assert_eq!(gateway.received().len() as u64, made);
    assert_eq!(
        relay.counter("cloister_relay_gateway_reused_total"),
        200 - made
    );
}

#[test]
fn a_client_that_leaves_ends_its_request_at_the_gateway() {
    for request in [POST, CHUNKED] {
        let gateway = RawGateway::start(|_, _| Then::Wait);
        let relay = Relaying::before(&gateway);
        let mut client = relay.connect();
        client.write_all(request.as_bytes()).unwrap();
        wait_until(|| whole_requests(&gateway) == 1 || !gateway.received().concat().is_empty());
        drop(client);
        gateway.wait_for_ends(1);
        wait_until(|| relay.counter("cloister_relay_requests") == 0);
    }
}
