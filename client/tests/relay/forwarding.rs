//! The forwarding table: exactly these bytes go on, exactly these come back.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use super::raw::{
    ANSWER, POST, RawGateway, Relaying, Then, answer, generous, read_message, undated,
};

/// Whatever a client or something before the relay may add to a request.
const REVEALING: &str = "user-agent: Someone/1.0\r\ncookie: id=1\r\nauthorization: Bearer secret\r\n\
    accept: */*\r\naccept-language: de-AT\r\naccept-encoding: gzip\r\nreferer: http://elsewhere/\r\norigin: http://e\r\n\
    x-forwarded-for: 203.0.113.9\r\nforwarded: for=203.0.113.9\r\nvia: 1.1 office\r\nx-real-ip: 203.0.113.9\r\n\
    x-request-id: 7\r\ntraceparent: 00-1-2-01\r\nfrom: ana@example\r\ndate: Fri, 27 Nov 2026 10:00:00 GMT\r\n\
    cache-control: no-cache\r\npragma: no-cache\r\nif-none-match: \"x\"\r\nrange: bytes=0-1\r\npriority: u=1\r\n\
    incremental: ?1\r\nte: trailers\r\nkeep-alive: timeout=5\r\nx-custom: 1\r\nsec-fetch-mode: cors\r\ndnt: 1\r\n";

const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Each request, and what the gateway gets of it.
fn table(host: &str) -> Vec<(&'static str, String, String)> {
    let gateway = "/.well-known/ohttp-gateway";
    let evidence = "/.well-known/cloister/evidence";
    let post = |media_type: &str, more: &str, body: &str| {
        format!(
            "POST {gateway} HTTP/1.1\r\nhost: relay\r\ncontent-type: {media_type}\r\n{more}\r\n{body}"
        )
    };
    let posted = |media_type: &str, framing: &str, body: &str| {
        format!(
            "POST {gateway} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media_type}\r\n{framing}\r\n\r\n{body}"
        )
    };
    let get =
        |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nhost: relay\r\n{more}\r\n");
    let got = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let (whole, chunked) = ("message/ohttp-req", "message/ohttp-chunked-req");
    let length = "content-length: 5\r\n";
    let pieces = "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    vec![
        (
            "a whole request",
            post(whole, length, "hello"),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "whatever reveals who sent it",
            post(whole, &format!("{length}{REVEALING}"), "hello"),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "a media type that is written in a way of its own",
            post("Message/OHTTP-req; client=ana", length, "hello"),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "a whole request whose length comes last",
            post(whole, "transfer-encoding: chunked\r\n", pieces),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "chunk extensions and trailers",
            post(
                whole,
                "transfer-encoding: chunked\r\n",
                "5;id=ana\r\nhello\r\n0\r\nx-id: ana\r\n\r\n",
            ),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "chunks of known length",
            post(chunked, &format!("{length}{REVEALING}"), "hello"),
            posted(chunked, "content-length: 5", "hello"),
        ),
        (
            "an absolute target",
            format!(
                "POST http://ana.example{gateway} HTTP/1.1\r\nhost: ana.example\r\ncontent-type: {whole}\r\n{length}\r\nhello"
            ),
            posted(whole, "content-length: 5", "hello"),
        ),
        (
            "the key configurations",
            get(gateway, REVEALING),
            got(gateway),
        ),
        ("evidence", get(evidence, REVEALING), got(evidence)),
        (
            "evidence with a nonce, in capitals",
            get(
                &format!("{evidence}?nonce={}", NONCE.to_ascii_uppercase()),
                "",
            ),
            got(&format!("{evidence}?nonce={NONCE}")),
        ),
        (
            "HTTP/1.0",
            format!("POST {gateway} HTTP/1.0\r\ncontent-type: {whole}\r\n{length}\r\nhello"),
            posted(whole, "content-length: 5", "hello"),
        ),
    ]
}

/// An answer of the type that the request asks for.
fn fitting(request: &[u8]) -> Then {
    let request = String::from_utf8_lossy(request);
    let media_type = match &request {
        r if r.contains("/evidence") => "application/cmw+cbor",
        r if r.starts_with("GET") => "application/ohttp-keys",
        r if r.contains("chunked-req") => "message/ohttp-chunked-res",
        _ => "message/ohttp-res",
    };
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: 2\r\n\r\n");
    Then::Answer(format!("{head}ok").into_bytes())
}

#[test]
fn what_goes_to_the_gateway() {
    let gateway = RawGateway::start(|_, request| fitting(request));
    let relay = Relaying::before(&gateway);
    let table = table(&gateway.address.to_string());
    for (what, sent, _) in &table {
        let answer = relay.exchange(sent);
        assert!(
            answer.contains(" 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
            "{what}: {answer}"
        );
    }
    // All over one connection, so that nothing tells one client's request from another's.
    let expected: String = table.iter().map(|(_, _, passed)| passed.as_str()).collect();
    assert_eq!(gateway.received(), [expected]);
}

#[test]
fn chunks_keep_their_borders_and_lose_what_is_beside_them() {
    let gateway = RawGateway::start(|_, request| fitting(request));
    let relay = Relaying::before(&gateway);
    let answer = relay.exchange(format!(
        "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-chunked-req\r\n\
         transfer-encoding: chunked\r\n{REVEALING}\r\n5;id=ana\r\nhello\r\n0\r\nx-id: ana\r\n\r\n"
    ));
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    let expected = format!(
        "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: {}\r\ncontent-type: message/ohttp-chunked-req\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        gateway.address
    );
    assert_eq!(gateway.received(), [expected]);
}

#[test]
fn a_gateway_may_have_a_path_of_its_own() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::start(&format!("{}/gateway", gateway.url()), generous());
    relay.exchange(POST);
    assert!(gateway.received()[0].starts_with("POST /gateway HTTP/1.1\r\n"));
}

/// Each answer of a gateway, and what the client gets of it.
#[test]
fn what_comes_back() {
    let revealing = "server: gw/2\r\nset-cookie: id=1\r\nvia: 1.1 x\r\netag: \"a\"\r\nlocation: /x\r\n\
        date: Mon, 01 Jan 2001 00:00:00 GMT\r\ncache-control: max-age=9\r\nx-model: secret\r\nalt-svc: h3\r\n\
        access-control-allow-origin: *\r\nserver-timing: gpu;dur=3\r\nstrict-transport-security: max-age=1\r\n";
    let plain = "content-type: message/ohttp-res\r\ncontent-length: 5\r\n";
    let passed = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ncontent-length: 5\r\ndate: D\r\n\r\nworld";
    let problem = "content-type: application/problem+json\r\ncontent-length: 2\r\n";
    let table = [
        ("an answer", format!("HTTP/1.1 200 OK\r\n{plain}\r\nworld"), passed.to_owned()),
        (
            "whatever else comes with it",
            format!("HTTP/1.1 200 Fine by me\r\n{plain}{revealing}\r\nworld"),
            passed.to_owned(),
        ),
        (
            "a parameter of the media type",
            "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res; user=7\r\ncontent-length: 5\r\n\r\nworld".to_owned(),
            passed.to_owned(),
        ),
        (
            "an answer whose length comes last",
            "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-res\r\ntransfer-encoding: chunked\r\n\r\n\
             5;x=1\r\nworld\r\n0\r\nx-t: 1\r\n\r\n"
                .to_owned(),
            passed.to_owned(),
        ),
        (
            "that it is at work",
            format!("HTTP/1.1 102 Processing\r\nx-id: 7\r\n\r\nHTTP/1.1 200 OK\r\n{plain}\r\nworld"),
            passed.to_owned(),
        ),
        (
            "an error",
            format!("HTTP/1.1 422 Hm\r\n{problem}{revealing}\r\n{{}}"),
            "HTTP/1.1 422 Unprocessable Entity\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\ndate: D\r\n\r\n{}"
                .to_owned(),
        ),
        (
            "an error with a delay",
            format!("HTTP/1.1 503 Busy\r\n{problem}retry-after: 7\r\n{revealing}\r\n{{}}"),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 7\r\n\
             content-length: 2\r\ndate: D\r\n\r\n{}"
                .to_owned(),
        ),
    ];
    let answers: Vec<_> = table
        .iter()
        .map(|(_, sent, _)| sent.clone().into_bytes())
        .collect();
    let gateway = RawGateway::start(move |index, _| Then::Answer(answers[index].clone()));
    let relay = Relaying::before(&gateway);
    for (what, _, expected) in &table {
        assert_eq!(&relay.exchange(POST), expected, "{what}");
    }
    assert_eq!(gateway.received().len(), 1);
    assert_eq!(
        relay.counter("cloister_relay_answers_total"),
        table.len() as u64
    );
}

/// Neither side waits for the whole: the client's first chunk is at the gateway before its second one is sent, and the
/// gateway's first is at the client before its second.
#[test]
fn chunks_pass_as_they_come() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, see) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let gateway = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = String::new();
        let mut read_until = |end: &str, stream: &mut std::net::TcpStream| {
            while !received.ends_with(end) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                received.push(char::from(byte[0]));
            }
            seen.send(received.clone()).unwrap();
        };
        read_until("\r\n3\r\none\r\n", &mut stream);
        read_until("3\r\ntwo\r\n0\r\n\r\n", &mut stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ntransfer-encoding: chunked\r\n\r\n";
        write!(stream, "{head}5\r\nthree\r\n").unwrap();
        wait.lock().unwrap().recv().unwrap();
        write!(stream, "4\r\nfour\r\n0\r\n\r\n").unwrap();
        // Until the relay has it all.
        let _ = stream.read(&mut [0]);
    });
    let relay = Relaying::start(&url, generous());
    let mut client = relay.connect();
    let head = "POST /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-chunked-req\r\n\
        transfer-encoding: chunked\r\n\r\n";
    write!(client, "{head}3\r\none\r\n").unwrap();
    let first = see
        .recv_timeout(Duration::from_secs(30))
        .expect("the first chunk came alone");
    assert!(!first.contains("two"));
    write!(client, "3\r\ntwo\r\n0\r\n\r\n").unwrap();
    see.recv_timeout(Duration::from_secs(30))
        .expect("and then the second");
    let mut received = Vec::new();
    while !received.ends_with(b"5\r\nthree\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        received.push(byte[0]);
    }
    assert!(
        undated(&received)
            .starts_with("HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\n"),
        "{received:?}"
    );
    go.send(()).unwrap();
    let mut rest = vec![0; b"4\r\nfour\r\n0\r\n\r\n".len()];
    client.read_exact(&mut rest).unwrap();
    assert_eq!(rest, b"4\r\nfour\r\n0\r\n\r\n");
    relay.end();
    gateway.join().unwrap();
}

#[test]
fn a_connection_of_a_client_is_used_again_too() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::before(&gateway);
    let mut client = relay.connect();
    for _ in 0..3 {
        client.write_all(POST.as_bytes()).unwrap();
        assert!(answer(&mut client).ends_with("world"));
    }
    // Two at once on one connection are answered in order.
    client.write_all([POST, POST].concat().as_bytes()).unwrap();
    let both = [answer(&mut client), answer(&mut client)];
    assert!(both.iter().all(|text| text.ends_with("world")));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_message(&mut client, |_| ()).unwrap().is_none());
}
