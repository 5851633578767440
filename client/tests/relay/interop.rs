//! Through the relay, with the `ohttp` and `bhttp` crates at one end and our own client or gateway at the other.

use std::io::{self, Cursor, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloister_client::{Client, Policy, Way};
use cloister_protocol::api::summarize::{Message, Request, Response, Style, Usage};
use cloister_protocol::api::{media, paths};
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce};
use cloister_protocol::keyconfig::KeyConfig;
use cloister_protocol::ohttp::Gateway;
use cloister_protocol::{bhttp as ours, ohttp as our_ohttp};
use futures::executor::block_on;
use futures::io::{AllowStdIo, AsyncReadExt, AsyncWriteExt};
use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::raw::{RawGateway, Relaying, Then, read_message};

const PATH: &str = "/.well-known/ohttp-gateway";

fn ok(media_type: &str, body: &[u8]) -> Then {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Then::Answer([head.as_bytes(), body].concat())
}

/// Request line and body of a message.
fn parts(message: &[u8]) -> (String, &[u8]) {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = message.split_at(end.expect("a head") + 4);
    let head = String::from_utf8(head.to_vec()).expect("text");
    (head, body)
}

fn exchange(relay: &Relaying, head: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = relay.connect();
    let length = format!("content-length: {}\r\n\r\n", body.len());
    stream
        .write_all(&[head.as_bytes(), length.as_bytes(), body].concat())
        .unwrap();
    let answer = read_message(&mut stream, |_| ()).unwrap().unwrap();
    let (head, body) = parts(&answer);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_vec()
}

#[test]
fn their_client_our_gateway() {
    let gateway = Gateway::generate(&mut UnwrapErr(SysRng));
    let server = RawGateway::start(move |_, message| {
        let (head, body) = parts(message);
        if head.starts_with("GET ") {
            return ok(media::OHTTP_KEYS, &gateway.key_configs());
        }
        let (opened, sealer) = gateway.decapsulate(body).unwrap();
        let request = ours::Request::decode(&opened, &ours::Limits::DEFAULT).unwrap();
        let content = [request.path.as_bytes(), b" got ", &request.content[..]].concat();
        let response = ours::Response::new(200)
            .with_content("text/plain", content)
            .unwrap();
        let sealed = sealer.seal(&mut UnwrapErr(SysRng), &response.encode_padded().unwrap());
        ok(media::OHTTP_RESPONSE, &sealed)
    });
    let relay = Relaying::before(&server);
    let keys = exchange(&relay, &format!("GET {PATH} HTTP/1.1\r\nhost: r\r\n"), b"");
    for round in 0..3 {
        let mut message = bhttp::Message::request(
            b"POST".into(),
            b"https".into(),
            b"gateway.example".into(),
            b"/v1/echo".into(),
        );
        message.write_content(format!("round {round}"));
        let mut encoded = Vec::new();
        message
            .write_bhttp(bhttp::Mode::KnownLength, &mut encoded)
            .unwrap();
        let client = ohttp::ClientRequest::from_encoded_config_list(&keys).unwrap();
        let (sealed, opener) = client.encapsulate(&encoded).unwrap();
        let head =
            format!("POST {PATH} HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-req\r\n");
        let opened = opener
            .decapsulate(&exchange(&relay, &head, &sealed))
            .unwrap();
        let answer = bhttp::Message::read_bhttp(&mut Cursor::new(&opened[..])).unwrap();
        assert_eq!(
            answer.control().status().map(|status| status.code()),
            Some(200)
        );
        assert_eq!(
            answer.content(),
            format!("/v1/echo got round {round}").as_bytes()
        );
    }
}

fn their_server() -> (ohttp::Server, Vec<u8>) {
    let suite = ohttp::SymmetricSuite::new(
        ohttp::hpke::Kdf::HkdfSha256,
        ohttp::hpke::Aead::ChaCha20Poly1305,
    );
    let config = ohttp::KeyConfig::new(7, ohttp::hpke::Kem::XWing, vec![suite]).unwrap();
    let list = ohttp::KeyConfig::encode_list(&[&config]).unwrap();
    (ohttp::Server::new(config).unwrap(), list)
}

/// What their server answers to a summary that our client asks for.
fn their_summary(server: &ohttp::Server, body: &[u8]) -> Then {
    let (opened, sealer) = server.decapsulate(body).unwrap();
    let message = bhttp::Message::read_bhttp(&mut Cursor::new(&opened[..])).unwrap();
    assert_eq!(message.control().path(), Some(paths::SUMMARIZE.as_bytes()));
    assert!(String::from_utf8_lossy(message.content()).contains("Thursday"));
    let response = Response {
        summary: "It moves.".to_owned(),
        usage: Usage::default(),
        model: "their".to_owned(),
    };
    let mut answer = bhttp::Message::response(bhttp::StatusCode::OK);
    answer.put_header("content-type", media::JSON);
    answer.write_content(&response.to_json()[..]);
    let mut encoded = Vec::new();
    answer
        .write_bhttp(bhttp::Mode::KnownLength, &mut encoded)
        .unwrap();
    ok(
        media::OHTTP_RESPONSE,
        &sealer.encapsulate(&encoded).unwrap(),
    )
}

#[test]
fn our_client_their_server() {
    let (server, key_configs) = their_server();
    let gateway = RawGateway::start(move |_, message| {
        let (head, body) = parts(message);
        let asked = format!("GET {}?{}=", paths::EVIDENCE, paths::NONCE_PARAMETER);
        if let Some(rest) = head.strip_prefix(&asked) {
            let evidence = Evidence {
                tls_public_key: Vec::new(),
                kind: Kind::None,
                key_configs: key_configs.clone(),
                epoch: 1,
                nonce: parse_nonce(&rest[..64]),
                enclosures: Enclosures::default(),
            };
            return ok(media::CMW_CBOR, &evidence.encode());
        }
        their_summary(&server, body)
    });
    let relay = Relaying::before(&gateway);
    let policy = Policy {
        accept_unattested: true,
        ..Policy::default()
    };
    // Nobody listens there: only the relay is asked.
    let way = Way {
        relay: Some(relay.url()),
        ..Way::direct("http://127.0.0.1:1")
    };
    let client = Client::connect_by(&way, Duration::from_secs(30), policy).unwrap();
    let request = Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Headline,
        max_tokens: None,
    };
    for _ in 0..3 {
        assert_eq!(client.summarize(&request).unwrap().summary, "It moves.");
    }
    let connections = relay.counter("cloister_relay_gateway_connections_total");
    assert_eq!(connections, 1, "evidence and requests, over one connection");

    let relay = relay.url();
    let words = [
        "--server",
        "http://127.0.0.1:1",
        "--relay",
        &relay,
        "--json",
    ];
    let run = |command: &str, more: &[&str]| {
        let mut cloister = Command::new(env!("CARGO_BIN_EXE_cloister"));
        let output = cloister
            .arg(command)
            .args(words)
            .args(more)
            .output()
            .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), document)
    };
    let text = std::env::temp_dir().join(format!("cloister-interop-{}.txt", std::process::id()));
    std::fs::write(&text, "The launch moves to Thursday.").unwrap();
    let messages = [
        "--messages",
        text.to_str().unwrap(),
        "--insecure-no-attestation",
    ];
    let (status, document) = run("ask", &messages);
    assert_eq!(
        (status, &document["summary"]),
        (Some(0), &"It moves.".into())
    );
    std::fs::remove_file(&text).unwrap();
    let (status, document) = run("verify", &[]);
    assert_eq!(status, Some(3), "{document}");
    let error = document["error"].as_str().unwrap();
    assert!(error.contains("no attestation evidence"), "{error}");
}

/// What their server writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn our_chunks_their_server() {
    let (server, list) = their_server();
    // One request uses it up.
    let server = Mutex::new(Some(server));
    let gateway = RawGateway::start(move |_, message| {
        let (head, body) = parts(message);
        assert!(head.contains("content-type: message/ohttp-chunked-req\r\n"));
        let server = server.lock().unwrap().take().expect("one request");
        let mut peer = server.decapsulate_stream(body);
        let mut request = Vec::new();
        block_on(peer.read_to_end(&mut request)).unwrap();
        let written = Written::default();
        let mut responder = peer.response(AllowStdIo::new(written.clone())).unwrap();
        block_on(responder.write_all(&[&b"you said "[..], &request].concat())).unwrap();
        block_on(responder.close()).unwrap();
        let sealed = written.0.lock().unwrap().clone();
        ok(media::OHTTP_CHUNKED_RESPONSE, &sealed)
    });
    let relay = Relaying::before(&gateway);
    let keys = cloister_protocol::keyconfig::decode_list(&list).unwrap();
    let config: &KeyConfig = keys.preferred();
    let client = our_ohttp::Client::new(config);
    let (mut stream, mut sealer) = client.start_chunked(&mut UnwrapErr(SysRng)).unwrap();
    stream.extend_from_slice(&sealer.seal(&[b'x'; 16_000]).unwrap());
    let (last, mut opener) = sealer.finish(b" and the end").unwrap();
    stream.extend_from_slice(&last);
    let head =
        format!("POST {PATH} HTTP/1.1\r\nhost: r\r\ncontent-type: message/ohttp-chunked-req\r\n");
    let answer = exchange(&relay, &head, &stream);
    let mut opened = Vec::new();
    for chunk in opener.push(&answer).unwrap() {
        opened.extend_from_slice(&chunk);
    }
    opened.extend_from_slice(&opener.finish().unwrap());
    let said = [&b"you said "[..], &[b'x'; 16_000], b" and the end"].concat();
    assert_eq!(opened, said);
}
