//! What is not passed on, and what the client is told.

use super::raw::{ANSWER, RawGateway, Relaying, refusal};

#[test]
fn requests_that_are_not_for_a_relay() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::before(&gateway);
    let whole = "content-type: message/ohttp-req\r\n";
    let length = "content-length: 5\r\n";
    let path = "/.well-known/ohttp-gateway";
    let nonce = "/.well-known/cloister/evidence";
    for (line, fields, status, word) in [
        (
            "GET / ".to_owned(),
            String::new(),
            404,
            "/.well-known/ohttp-gateway",
        ),
        (
            "POST /v1/summarize ".to_owned(),
            format!("{whole}{length}"),
            404,
            "nothing else",
        ),
        (
            "GET /metrics ".to_owned(),
            String::new(),
            404,
            "nothing else",
        ),
        (format!("GET {path}/ "), String::new(), 404, "nothing else"),
        (
            format!("PUT {path} "),
            format!("{whole}{length}"),
            405,
            "GET, POST",
        ),
        (format!("DELETE {path} "), String::new(), 405, "GET, POST"),
        (
            format!("POST {nonce} "),
            format!("{whole}{length}"),
            405,
            "GET",
        ),
        (
            format!("POST {path}?user=ana "),
            format!("{whole}{length}"),
            400,
            "no query",
        ),
        (format!("GET {path}?a "), String::new(), 400, "no query"),
        (
            format!("GET {nonce}?nonce=12 "),
            String::new(),
            400,
            "64 hexadecimal",
        ),
        (
            format!("GET {nonce}?nonce={0}&user=ana ", "0".repeat(64)),
            String::new(),
            400,
            "the only query",
        ),
        (
            format!("POST {path} "),
            length.to_owned(),
            415,
            "message/ohttp-req",
        ),
        (
            format!("POST {path} "),
            format!("content-type: application/json\r\n{length}"),
            415,
            "message/ohttp-chunked-req",
        ),
        (
            format!("POST {path} "),
            format!("{whole}content-type: text/plain\r\n{length}"),
            415,
            "message/ohttp-req",
        ),
        (
            format!("POST {path} "),
            format!("{whole}content-encoding: gzip\r\n{length}"),
            415,
            "encoded",
        ),
        (
            format!("POST {path} "),
            format!("{whole}content-length: 100000000\r\n"),
            413,
            "at most",
        ),
        (
            format!("POST {path} "),
            "content-type: message/ohttp-chunked-req\r\ncontent-length: 100000000\r\n".to_owned(),
            413,
            "at most",
        ),
    ] {
        let body = if fields.contains(length) { "hello" } else { "" };
        let request = format!("{line}HTTP/1.1\r\nhost: r\r\n{fields}\r\n{body}");
        let (found, detail) = refusal(&relay.exchange(&request));
        assert_eq!(found, status, "{request}");
        assert!(detail.contains(word), "{request}: {detail}");
    }
    assert!(gateway.received().is_empty(), "nothing of them went on");
    assert_eq!(relay.counter("cloister_relay_refusals_total"), 17);
    assert_eq!(relay.counter("cloister_relay_answers_total"), 0);
}

#[test]
fn methods_that_are_taken_are_named() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::before(&gateway);
    let answer = relay.exchange("PUT /.well-known/ohttp-gateway HTTP/1.1\r\nhost: r\r\n\r\n");
    assert!(answer.contains("\r\nallow: GET, POST\r\n"), "{answer}");
}

#[test]
fn what_is_not_http_is_not_passed_on() {
    let gateway = RawGateway::answering(ANSWER);
    let relay = Relaying::before(&gateway);
    let path = "/.well-known/ohttp-gateway";
    let head = format!("POST {path} HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-req\r\n");
    let many: String = (0..100)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    for (request, statuses) in [
        (format!("HELO {path}\r\n\r\n"), ["400"]),
        (
            format!("{head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
            ["400"],
        ),
        (format!("{head}content-length: -1\r\n\r\n"), ["400"]),
        (format!("{head}transfer-encoding: gzip\r\n\r\n"), ["400"]),
        (
            format!("{head}{many}content-length: 5\r\n\r\nhello"),
            ["431"],
        ),
        (
            format!("{head}x-long: {}\r\n\r\n", "a".repeat(20_000)),
            ["431"],
        ),
        (
            format!("{head}transfer-encoding: chunked\r\n\r\nnot a length\r\nhello\r\n0\r\n\r\n"),
            ["400"],
        ),
    ] {
        let answer = relay.exchange(&request);
        assert!(statuses.contains(&&answer[9..12]), "{request}: {answer}");
    }
    assert!(gateway.received().is_empty());
}
