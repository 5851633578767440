//! Each rule of the server once, then the same traffic cut in every way, then traffic with random damage.

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

const LIMITS: Limits = Limits {
    header_bytes: 512,
    header_ms: 1_000,
    request_ms: 3_000,
    idle_ms: 5_000,
    response_ms: 4_000,
    linger_ms: 200,
};
const BODY_LIMIT: usize = 64;

/// POST to /echo with a body, GET of everything but /none.
struct Rules;

impl Admission for Rules {
    fn admit(&self, head: &Head) -> Result<usize, Response> {
        match (head.method, head.path.as_str()) {
            (_, "/none") => Err(Response::problem(Status::NotFound, "None.")),
            (Method::Post, _) => Ok(BODY_LIMIT),
            (Method::Get | Method::Head, _) => Ok(0),
            (Method::Other, _) => Err(Response::problem(Status::MethodNotAllowed, "Not that.")),
        }
    }
}

/// What a connection did with some traffic.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Request>,
    output: String,
    closed: bool,
}

/// Feeds `pieces` to a fresh connection, answering each request with its own body.
fn converse(pieces: &[&[u8]]) -> Outcome {
    let mut connection = Connection::new(LIMITS, 0);
    let mut outcome = Outcome {
        requests: Vec::new(),
        output: String::new(),
        closed: false,
    };
    let mut waiting = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let taken = connection.receive(&waiting, &Rules, 0);
            waiting.drain(..taken);
            if let Some(request) = connection.take_request() {
                connection.respond(&Response::ok("text/plain", request.body.clone()), 0);
                outcome.requests.push(request);
            }
            let sent = connection.output().len();
            outcome
                .output
                .push_str(&String::from_utf8_lossy(connection.output()));
            connection.sent(sent, 0);
            if taken == 0 && sent == 0 {
                break;
            }
        }
    }
    outcome.closed = connection.wish() != Wish::Open;
    outcome
}

fn status_of(request: &str) -> String {
    let outcome = converse(&[request.as_bytes()]);
    outcome.output.get(9..12).unwrap_or("none").to_string()
}

#[track_caller]
fn assert_refused(request: &str, status: &str) {
    let outcome = converse(&[request.as_bytes()]);
    assert!(outcome.requests.is_empty(), "taken: {request:?}");
    assert_eq!(outcome.output.get(9..12), Some(status), "{request:?}");
    assert!(
        outcome.closed && outcome.output.contains("Connection: close\r\n"),
        "{request:?}"
    );
}

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn get_is_read_and_the_connection_stays_open() {
    let outcome = converse(&[GET.as_bytes()]);
    let head = &outcome.requests[0].head;
    assert_eq!(
        (head.method, head.path.as_str(), head.query.as_deref()),
        (Method::Get, "/a", Some("b=c"))
    );
    assert!(
        outcome
            .output
            .starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n")
    );
    assert!(!outcome.closed && !outcome.output.contains("Connection:"));
}

#[test]
fn absolute_form_is_accepted() {
    let outcome = converse(&[b"GET HTTP://h:80/p?q HTTP/1.1\r\nHost: h\r\n\r\n"]);
    assert_eq!(outcome.requests[0].head.path, "/p");
    assert_refused("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", "400");
}

#[test]
fn body_of_a_named_length() {
    let outcome = converse(&[
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: Text/Plain; a=b\r\nContent-Length: 5\r\n\r\nhello",
    ]);
    assert_eq!(outcome.requests[0].body, b"hello");
    assert_eq!(
        outcome.requests[0].head.content_type.as_deref(),
        Some("text/plain")
    );
    assert!(outcome.output.ends_with("\r\n\r\nhello"));
}

#[test]
fn chunked_body_with_extensions_and_trailers() {
    let outcome = converse(&[b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n\
        3\r\nabc\r\n0a;name=\"v\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"]);
    assert_eq!(outcome.requests[0].body, b"abc0123456789");
    assert_eq!(outcome.requests.len(), 2);
}

#[test]
fn malformed_chunks_are_refused() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_line = std::format!("3;{}", "e".repeat(300));
    let long_trailer = std::format!("0\r\n{}\r\n\r\n", "t".repeat(2000));
    for body in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 3\r\nabc\r\n",
        "3\nabc",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "123456789\r\n",
        "3;\u{1}\r\n",
        "0\r\nA: b\n\r\n",
        &long_line,
        &long_trailer,
    ] {
        assert_refused(&(head.to_string() + body), "400");
    }
    assert_refused(&(head.to_string() + "41\r\n"), "413");
    assert_refused(&(head.to_string() + "1\r\na\r\n40\r\n"), "413");
}

#[test]
fn body_limit_is_exact() {
    let post = |n: usize| {
        std::format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {n}\r\n\r\n{}",
            "b".repeat(n)
        )
    };
    assert_eq!(status_of(&post(BODY_LIMIT)), "200");
    assert_refused(&post(BODY_LIMIT + 1), "413");
    assert_refused(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "413",
    );
    assert_refused(
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n",
        "413",
    );
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Content-Length : 1\r\n",
        "X: y\r\n Content-Length: 1\r\n",
        "X: y\r\n\tfolded\r\n",
        "Content-Length: 1\nX: y\r\n",
        "Content-Length: 1\rX: y\r\n",
        "X: a\u{0}b\r\n",
        "X: a\u{7f}b\r\n",
        "no colon\r\n",
        ": empty name\r\n",
        "Host: second\r\n",
        "Content-Type: a\r\nContent-Type: b\r\n",
    ] {
        assert_refused(
            &std::format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\na"),
            "400",
        );
    }
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "\"chunked\"",
        "chunked;q=1",
    ] {
        let request =
            std::format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_refused(&request, "501");
    }
    assert_refused(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    );
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "AMETHODTHATISTOOLONG / HTTP/1.1",
        "GET http:///p HTTP/1.1",
    ] {
        assert_refused(&std::format!("{line}\r\nHost: x\r\n\r\n"), "400");
    }
    assert_refused("GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505");
    assert_refused("GET / HTTP/1.2\r\nHost: x\r\n\r\n", "505");
    assert_refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    assert_eq!(status_of("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), "200");
}

#[test]
fn host_is_needed_in_http_1_1_only() {
    assert_refused("GET / HTTP/1.1\r\n\r\n", "400");
    assert_refused("GET / HTTP/1.1\r\nHost:\r\n\r\n", "400");
    assert_refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400");
    assert_eq!(status_of("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "200");
    assert_eq!(status_of("GET / HTTP/1.0\r\n\r\n"), "200");
}

#[test]
fn header_limits() {
    assert_refused(
        &std::format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(600)),
        "431",
    );
    assert_refused(
        &std::format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A:b\r\n".repeat(70)),
        "431",
    );
    let padding = LIMITS.header_bytes - "GET / HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n".len();
    let fitting = std::format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "a".repeat(padding)
    );
    assert_eq!(status_of(&fitting), "200");
    assert_refused(&fitting.replace("A: ", "A: a"), "431");
}

#[test]
fn refusals_by_admission() {
    // Without a body the connection can go on; with one it cannot.
    let outcome = converse(&[b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", GET.as_bytes()]);
    assert!(
        outcome.output.starts_with("HTTP/1.1 404 ") && outcome.output.contains("HTTP/1.1 200 ")
    );
    assert_refused(
        "POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "404",
    );
    assert_eq!(status_of("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n"), "405");
    assert_eq!(status_of("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), "405");
    assert_eq!(
        status_of("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        "405"
    );
}

#[test]
fn head_gets_the_length_but_no_body() {
    let outcome = converse(&[b"HEAD /none HTTP/1.1\r\nHost: x\r\n\r\n"]);
    assert!(outcome.output.starts_with("HTTP/1.1 404 ") && outcome.output.ends_with("\r\n\r\n"));
    assert!(!outcome.output.contains("Content-Length: 0\r\n"));
}

#[test]
fn expectations() {
    let post = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let outcome = converse(&[post.as_bytes(), b"ok"]);
    assert!(
        outcome
            .output
            .starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    );
    // Too long, other expectation, HTTP/1.0: no interim response.
    assert_refused(&post.replace(": 2", ": 200"), "413");
    assert_refused(&post.replace("100-Continue", "magic"), "417");
    let old = post.replace("HTTP/1.1", "HTTP/1.0") + "ok";
    assert_eq!(status_of(&old), "200");
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    assert!(converse(&[b"GET / HTTP/1.0\r\n\r\n"]).closed);
    let kept = converse(&[b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"]);
    assert!(!kept.closed && kept.output.contains("Connection: keep-alive\r\n"));
    assert!(converse(&[b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n"]).closed);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    let mut traffic = Vec::new();
    for body in ["one", "three", "five!!"] {
        traffic.extend_from_slice(
            std::format!(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }
    let mut connection = Connection::new(LIMITS, 0);
    let first = connection.receive(&traffic, &Rules, 0);
    assert!(first < traffic.len() / 2);
    assert_eq!(
        connection.receive(&traffic[first..], &Rules, 0),
        0,
        "not before the answer"
    );
    let bodies: Vec<_> = converse(&[&traffic])
        .requests
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert_eq!(
        bodies,
        [b"one".to_vec(), b"three".to_vec(), b"five!!".to_vec()]
    );
}

fn working_connection() -> Connection {
    let mut connection = Connection::new(LIMITS, 0);
    assert_eq!(connection.receive(GET.as_bytes(), &Rules, 0), GET.len());
    assert!(connection.take_request().is_some());
    connection
}

#[test]
fn half_closed_client_is_answered_and_probed() {
    let mut connection = working_connection();
    connection.peer_finished(false, 10);
    connection.tick(1_010);
    assert_eq!(connection.output(), b"HTTP/1.1 102 Processing\r\n\r\n");
    connection.tick(9_000);
    assert_eq!(connection.output().len(), 27, "one at a time");
    connection.sent(27, 9_000);
    connection.tick(9_001);
    assert!(!connection.output().is_empty(), "the next one");
    connection.sent(27, 9_001);
    connection.respond(&Response::ok("text/plain", b"late".to_vec()), 9_100);
    let answer = String::from_utf8_lossy(connection.output()).to_string();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Connection: close"));
    assert_eq!(connection.wish(), Wish::Open);
    connection.sent(answer.len(), 9_100);
    assert_eq!(connection.wish(), Wish::CloseWrite);
    connection.tick(9_100 + LIMITS.linger_ms);
    assert_eq!(
        connection.wish(),
        Wish::CloseWrite,
        "not before the client has it all"
    );
    connection.delivered(10_000);
    connection.tick(10_000 + LIMITS.linger_ms);
    assert_eq!(connection.wish(), Wish::Cut);
}

#[test]
fn stream_that_ends_in_a_request_is_refused() {
    for part in [
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab",
    ] {
        let mut connection = Connection::new(LIMITS, 0);
        connection.receive(part.as_bytes(), &Rules, 0);
        connection.peer_finished(false, 1);
        assert!(connection.output().starts_with(b"HTTP/1.1 400 "));
    }
    let mut idle = Connection::new(LIMITS, 0);
    idle.peer_finished(false, 1);
    assert_eq!((idle.output().len(), idle.wish()), (0, Wish::CloseWrite));
}

#[test]
fn slow_heads_and_bodies_get_408_however_they_drip() {
    let mut connection = Connection::new(LIMITS, 0);
    for (index, byte) in b"GET / HTTP/1.1\r\nHost: x".iter().enumerate() {
        let now_ms = 50 * index as u64;
        connection.receive(&[*byte], &Rules, now_ms);
        connection.tick(now_ms);
    }
    assert!(connection.output().starts_with(b"HTTP/1.1 408 "));

    let mut connection = Connection::new(LIMITS, 0);
    connection.receive(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n",
        &Rules,
        100,
    );
    for now_ms in (100..3_000).step_by(100) {
        connection.receive(b"a", &Rules, now_ms);
        connection.tick(now_ms);
        assert!(connection.output().is_empty(), "at {now_ms}");
    }
    connection.tick(3_100);
    assert!(connection.output().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn idle_connection_is_closed_without_a_word() {
    let mut connection = Connection::new(LIMITS, 0);
    connection.tick(LIMITS.idle_ms - 1);
    assert_eq!(connection.wish(), Wish::Open);
    connection.tick(LIMITS.idle_ms);
    assert_eq!(
        (connection.output().len(), connection.wish()),
        (0, Wish::CloseWrite)
    );
}

#[test]
fn client_that_does_not_take_its_answer_is_cut() {
    let mut connection = working_connection();
    connection.tick(100_000);
    assert_eq!(connection.wish(), Wish::Open, "work has a bound of its own");
    connection.respond(&Response::ok("text/plain", Vec::from([0; 100])), 100_000);
    connection.sent(1, 103_999);
    connection.tick(103_999);
    assert_eq!(connection.wish(), Wish::Open);
    connection.tick(104_000);
    assert_eq!(connection.wish(), Wish::Cut);
}

#[test]
fn statuses_are_found_by_their_number() {
    let known: Vec<u16> = (0..1000)
        .filter(|code| Status::from_code(*code).is_some())
        .collect();
    assert_eq!(
        known,
        [
            200, 400, 404, 405, 408, 413, 415, 417, 422, 429, 431, 500, 501, 503, 505
        ]
    );
    assert!(
        known
            .iter()
            .all(|code| Status::from_code(*code).map(Status::code) == Some(*code))
    );
}

/// xorshift64*: enough for tests, the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

const TRAFFIC: &[&str] = &[
    "\r\nPOST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;e\r\nhello\r\n0\r\nT: v\r\n\r\n\
     GET /none HTTP/1.1\r\nHost: x\r\n\r\nPOST /y HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
     Content-Length: 4\r\n\r\nwxyzHEAD /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\ntrailing garbage",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nwhatever follows",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nX: 1\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\nGET /3 HTTP/1.0\r\n\r\n",
];

fn random_pieces<'a>(bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let longest = 1 + random.below(40);
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.len().min(1 + random.below(longest)));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[test]
fn every_way_of_cutting_the_stream_gives_the_same_outcome() {
    let mut random = Random(7);
    for traffic in TRAFFIC {
        let whole = converse(&[traffic.as_bytes()]);
        for at in 0..traffic.len() {
            let (first, second) = traffic.as_bytes().split_at(at);
            assert_eq!(converse(&[first, second]), whole, "cut at {at}");
        }
        for _ in 0..500 {
            assert_eq!(
                converse(&random_pieces(traffic.as_bytes(), &mut random)),
                whole
            );
        }
    }
}

#[test]
fn damaged_traffic_never_panics_and_still_does_not_depend_on_cuts() {
    let mut random = Random(11);
    for round in 0..20_000 {
        let mut traffic = TRAFFIC[round % TRAFFIC.len()].as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(traffic.len());
            match random.below(3) {
                0 => traffic[at] = random.below(256) as u8,
                1 => drop(traffic.remove(at)),
                _ => traffic.insert(at, b"\r\n :;0\x00\xff"[random.below(8)]),
            }
        }
        let whole = converse(&[&traffic]);
        assert_eq!(
            converse(&random_pieces(&traffic, &mut random)),
            whole,
            "{traffic:?}"
        );
        assert!(
            whole
                .requests
                .iter()
                .all(|request| request.body.len() <= BODY_LIMIT)
        );
    }
}
