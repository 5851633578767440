//! What clients, relays and hosts send: key config lists, encapsulated and binary HTTP, evidence, JSON.

use cloister_protocol::api::chat;
use cloister_protocol::api::models::Models;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::rewrite;
use cloister_protocol::api::summarize::{Limits, Message, Request, Response, Style, Usage};
use cloister_protocol::evidence::{self, Enclosures, Evidence, Kind};
use cloister_protocol::keyconfig::{self, Epoch, Kem, KeyConfig};
use cloister_protocol::ohttp::{Client, Gateway, ResponseOpener, chunked};
use cloister_protocol::test_rng::TestRng;
use cloister_protocol::{bhttp as binary, padding, records as record};
use std::sync::LazyLock;

/// The same keys in each run, so that a seed stays valid.
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| Gateway::generate(&mut TestRng(1)));

fn config(kem: Kem) -> KeyConfig {
    let list = keyconfig::decode_list(&GATEWAY.key_configs()).expect("our own list");
    list.configs()
        .iter()
        .find(|config| config.kem() == kem)
        .expect("both KEMs")
        .clone()
}

/// The same client request in each run, and what opens the response to it.
fn client_request(kem: Kem) -> (Vec<u8>, ResponseOpener) {
    let message = binary::Request::new("GET", "/v1/models")
        .encode()
        .expect("valid");
    Client::new(&config(kem))
        .encapsulate(&mut TestRng(2), &message)
        .expect("a valid key")
}

/// Key config lists: what is accepted encodes to a list that is accepted.
pub fn keyconfig(data: &[u8]) -> bool {
    let Ok(list) = keyconfig::decode_list(data) else {
        return false;
    };
    let again = keyconfig::encode_list(list.configs(), list.epoch());
    assert_eq!(keyconfig::decode_list(&again), Ok(list));
    true
}

/// Lists with and without an epoch.
pub fn keyconfig_seeds() -> Vec<Vec<u8>> {
    let epoch = Epoch {
        number: 7,
        start_s: 25_200,
        end_s: 28_800,
    };
    vec![
        GATEWAY.key_configs(),
        Gateway::generate_for_epoch(&mut TestRng(3), epoch).key_configs(),
    ]
}

/// Encapsulated requests, and the binary HTTP in those that open.
pub fn ohttp_request(data: &[u8]) -> bool {
    let Ok((message, sealer)) = GATEWAY.decapsulate(data) else {
        return false;
    };
    assert!(sealer.seal(&mut TestRng(4), b"response").len() > 8);
    bhttp(&message)
}

/// A request for each KEM.
pub fn ohttp_request_seeds() -> Vec<Vec<u8>> {
    Kem::ALL.map(|kem| client_request(kem).0).to_vec()
}

/// Encapsulated responses to a request of ours.
pub fn ohttp_response(data: &[u8]) -> bool {
    let (_, opener) = client_request(Kem::X25519);
    opener.open(data).is_ok_and(|message| bhttp(&message))
}

/// The response of our own gateway.
pub fn ohttp_response_seeds() -> Vec<Vec<u8>> {
    let (request, _) = client_request(Kem::X25519);
    let (_, sealer) = GATEWAY.decapsulate(&request).expect("our own request");
    vec![sealer.seal(
        &mut TestRng(5),
        &binary::Response::new(200).encode().expect("valid"),
    )]
}

/// A chunked request: the first byte says in what parts the stream arrives, the rest is the stream behind its header.
/// What opens is what was sealed, however the lengths are written.
pub fn ohttp_chunked(data: &[u8]) -> bool {
    let Some((step, stream)) = data.split_first() else {
        return false;
    };
    let (header, _) = &*CHUNKED_REQUEST;
    let (mut opener, used) = GATEWAY.start_chunked(header).expect("our own header");
    assert_eq!(used, header.len());
    let mut content = Vec::new();
    for part in stream.chunks(usize::from(*step).max(1)) {
        let Ok(chunks) = opener.push(part) else {
            assert!(opener.finish().is_err(), "an error stays");
            return false;
        };
        chunks
            .iter()
            .for_each(|chunk| content.extend_from_slice(chunk));
    }
    let Ok((last, _)) = opener.finish() else {
        return false;
    };
    content.extend_from_slice(&last);
    assert_eq!(content, CHUNKS.concat());
    true
}

const CHUNKS: [&[u8]; 3] = [b"one", b"two", b"three"];

/// Header, and the chunks behind it: the same in each run.
static CHUNKED_REQUEST: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(chunked_request);

fn chunked_request() -> (Vec<u8>, Vec<u8>) {
    let client = Client::new(&config(Kem::X25519));
    let (header, mut sealer): (_, chunked::RequestSealer) =
        client.start_chunked(&mut TestRng(6)).expect("a valid key");
    let mut stream = Vec::new();
    for content in &CHUNKS[..2] {
        stream.extend_from_slice(&sealer.seal(content).expect("not empty"));
    }
    stream.extend_from_slice(&sealer.finish(CHUNKS[2]).expect("small").0);
    (header, stream)
}

/// The stream byte by byte, and at once.
pub fn ohttp_chunked_seeds() -> Vec<Vec<u8>> {
    [1, 255]
        .map(|step| [&[step][..], &CHUNKED_REQUEST.1].concat())
        .to_vec()
}

/// Binary HTTP, as request and as response: what is accepted encodes to what decodes to the same message.
pub fn bhttp(data: &[u8]) -> bool {
    let limits = binary::Limits::DEFAULT;
    let mut accepted = false;
    if let Ok(request) = binary::Request::decode(data, &limits) {
        let encoded = request.encode().expect("a decoded request is valid");
        assert_eq!(binary::Request::decode(&encoded, &limits), Ok(request));
        accepted = true;
    }
    if let Ok(response) = binary::Response::decode(data, &limits) {
        let encoded = response.encode().expect("a decoded response is valid");
        assert_eq!(binary::Response::decode(&encoded, &limits), Ok(response));
        accepted = true;
    }
    accepted
}

/// Both kinds of message in both framings, and a padded one.
pub fn bhttp_seeds() -> Vec<Vec<u8>> {
    let request = binary::Request::new("POST", "/v1/summarize")
        .with_content("application/json", b"{}".to_vec());
    let request = request.expect("valid");
    let mut response = binary::Response::new(200)
        .with_content("text/plain", b"hello".to_vec())
        .expect("valid");
    response.informational.push(binary::Informational {
        status: 103,
        header: response.header.clone(),
    });
    response.trailer = response.header.clone();
    let indeterminate_request =
        b"\x02\x03GET\x05https\x00\x01/\x01a\x01b\x00\x02xy\x01z\x00\x01c\x01d\x00\x00\x00";
    let indeterminate_response =
        b"\x03\x40\x66\x01a\x01b\x00\x40\xc8\x01a\x01b\x00\x02xy\x01z\x00\x00";
    vec![
        request.encode().expect("valid").to_vec(),
        request.encode_padded().expect("small").to_vec(),
        response.encode().expect("valid").to_vec(),
        indeterminate_request.to_vec(),
        indeterminate_response.to_vec(),
    ]
}

/// A streamed response: the first byte says how large its records are, less three. What they carry is read as it arrives,
/// and is what the decoder of whole messages reads.
pub fn records(data: &[u8]) -> bool {
    let Some((size, stream)) = data.split_first() else {
        return false;
    };
    let mut decoder = record::Decoder::default();
    let mut reader = binary::stream::ResponseReader::new(binary::Limits::DEFAULT);
    let (mut message, mut content) = (Vec::new(), Vec::new());
    for piece in stream.chunks(usize::from(*size) + 3) {
        let Ok(bytes) = decoder.read(piece) else {
            return false;
        };
        assert!(bytes.len() + 2 <= piece.len());
        message.extend_from_slice(bytes);
        if reader.push(bytes).is_err() {
            return false;
        }
        content.extend_from_slice(&reader.take_content());
    }
    if reader.finish().is_err() {
        return false;
    }
    let head = reader.head().expect("a finished message has a head");
    let whole = binary::Response::decode(&message, &binary::Limits::DEFAULT);
    let whole = whole.expect("what can be read in pieces can be read as a whole");
    assert_eq!((head.status, &head.header), (whole.status, &whole.header));
    assert_eq!(content[..], whole.content[..]);
    true
}

/// Both framings in records of the usual size, and one in small ones.
pub fn records_seeds() -> Vec<Vec<u8>> {
    let response = binary::Response::new(200)
        .with_content("text/plain", b"hello".to_vec())
        .expect("valid");
    let mut streamed = Vec::new();
    binary::stream::put_head(&mut streamed, &response).expect("a final status");
    for piece in [&b"one "[..], &b"two ".repeat(100)] {
        binary::stream::put_content(&mut streamed, piece);
    }
    binary::stream::put_end(&mut streamed);
    let known = response.encode().expect("valid");
    let usual = |message: &[u8]| {
        let mut seed = vec![(record::RECORD_BYTES - 3) as u8];
        let mut rest = message;
        while !rest.is_empty() {
            let (record, taken) = record::encode(rest);
            seed.extend_from_slice(&record[..]);
            rest = &rest[taken..];
        }
        seed
    };
    let mut small = vec![0];
    known
        .iter()
        .for_each(|byte| small.extend_from_slice(&[0, 1, *byte]));
    vec![usual(&streamed), usual(&known), small]
}

/// Evidence: what is accepted encodes to what decodes to the same, within the limits.
pub fn evidence(data: &[u8]) -> bool {
    if let Some(nonce) = std::str::from_utf8(data)
        .ok()
        .and_then(evidence::parse_nonce)
    {
        assert!(
            evidence::to_hex(&nonce)
                .as_bytes()
                .eq_ignore_ascii_case(data)
        );
        return true;
    }
    let Ok(evidence) = Evidence::decode(data) else {
        return false;
    };
    assert!(evidence.key_configs.len() <= keyconfig::MAX_LIST_BYTES);
    keyconfig(&evidence.key_configs);
    assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
    true
}

/// Evidence with and without a nonce, and a nonce.
pub fn evidence_seeds() -> Vec<Vec<u8>> {
    let fresh = Evidence {
        kind: Kind::None,
        key_configs: b"keys".to_vec(),
        epoch: 7,
        nonce: Some([9; 32]),
        tls_public_key: b"TLS key".to_vec(),
        enclosures: Enclosures {
            certificates: b"certificates".to_vec(),
            release_note: b"note".to_vec(),
            release_proof: b"proof".to_vec(),
        },
    };
    let cached = Evidence {
        nonce: None,
        tls_public_key: Vec::new(),
        key_configs: GATEWAY.key_configs(),
        ..fresh.clone()
    };
    vec![
        fresh.encode(),
        cached.encode(),
        evidence::to_hex(&[9; 32]).into_bytes(),
    ]
}

/// Requests for a summary: what is accepted is within the limits and goes there and back; what is not has an error
/// with words and a status.
pub fn summarize_json(data: &[u8]) -> bool {
    match Request::from_json(data, &Limits::DEFAULT) {
        Ok(request) => {
            assert_eq!(request.check(&Limits::DEFAULT), Ok(()));
            let again = Request::from_json(&request.to_json(), &Limits::DEFAULT);
            assert_eq!(again, Ok(request));
            true
        }
        Err(error) => {
            let problem = error.problem();
            assert!(matches!(problem.status, 400 | 413 | 422));
            assert!(problem.to_json().len() < padding::BUCKETS_BYTES[2]);
            false
        }
    }
}

/// A request with everything, and the least one.
pub fn summarize_json_seeds() -> Vec<Vec<u8>> {
    let messages = vec![
        Message::new("Ana", "Lunch at one?"),
        Message::new("Bo", "é \"ok\"\n\u{0}"),
    ];
    let request = Request {
        messages,
        style: Style::Headline,
        max_tokens: Some(100),
    };
    vec![
        request.to_json().to_vec(),
        br#"{"messages":[{"text":"\ud83d\ude00"}]}"#.to_vec(),
    ]
}

/// Requests of existing clients: what is accepted is within the limits; what is not has an error with words and a status.
pub fn chat_json(data: &[u8]) -> bool {
    let limits = chat::Limits::DEFAULT;
    match chat::Request::from_json(data, &limits) {
        Ok(request) => {
            assert!((1..=limits.output_tokens).contains(&request.max_tokens));
            assert!((0.0..=2.0).contains(&request.temperature));
            assert!((0.0..=1.0).contains(&request.top_p));
            assert!(!request.messages.is_empty() && request.messages.len() <= limits.messages);
            assert!(request.stop.len() <= chat::MAX_STOPS);
            assert!(request.stream || !request.include_usage);
            true
        }
        Err(error) => {
            let problem = error.problem().with_error();
            assert!(matches!(problem.status, 400 | 413 | 422));
            assert!(problem.to_json().len() < padding::BUCKETS_BYTES[3]);
            false
        }
    }
}

/// A request with everything, and the least one.
pub fn chat_json_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":
            [{"type":"text","text":"b"}]}],"max_tokens":5,"temperature":0.5,"top_p":1,"seed":-4,"stop":["x","y"],
            "stream":true,"stream_options":{"include_usage":true},"n":1,"tools":[],"response_format":{"type":"text"}}"#
            .to_vec(),
        br#"{"messages":[{"role":"user","content":"\ud83d\ude00"}]}"#.to_vec(),
    ]
}

/// Requests for other wordings: what is accepted is within the limits and goes there and back.
pub fn rewrite_json(data: &[u8]) -> bool {
    const LIMIT_BYTES: usize = 1 << 10;
    match rewrite::Request::from_json(data, LIMIT_BYTES) {
        Ok(request) => {
            assert_eq!(request.check(LIMIT_BYTES), Ok(()));
            let again = rewrite::Request::from_json(&request.to_json(), LIMIT_BYTES);
            assert_eq!(again, Ok(request));
            true
        }
        Err(error) => {
            assert!(matches!(error.problem().status, 400 | 413 | 422));
            false
        }
    }
}

/// With and without a count.
pub fn rewrite_json_seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"text":"send it","tone":"friendly"}"#.to_vec(),
        br#"{"text":"\u00e9","tone":"fix","count":3}"#.to_vec(),
    ]
}

/// What a server answers: problem documents, summaries, models.
pub fn problem_json(data: &[u8]) -> bool {
    let problem = Problem::from_json(data);
    if let Ok(problem) = &problem {
        assert_eq!(Problem::from_json(&problem.to_json()).as_ref(), Ok(problem));
    }
    let response = Response::from_json(data);
    if let Ok(response) = &response {
        assert_eq!(
            Response::from_json(&response.to_json()).as_ref(),
            Ok(response)
        );
    }
    let models = Models::from_json(data);
    if let Ok(models) = &models {
        assert_eq!(Models::from_json(&models.to_json()).as_ref(), Ok(models));
    }
    problem.is_ok() || response.is_ok() || models.is_ok()
}

/// One of each.
pub fn problem_json_seeds() -> Vec<Vec<u8>> {
    let summary = Response {
        summary: "- one".into(),
        usage: Usage::default(),
        model: "tiny".into(),
    };
    let problem = Problem::from_status(503).with_detail("no model");
    vec![
        problem.to_json(),
        summary.to_json(),
        Models::new([("tiny", &[1; 32], 2048)]).to_json(),
    ]
}
