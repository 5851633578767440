//! Encapsulated requests put together by hand, so that each part can be wrong.

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, paths};
use cloister_protocol::bhttp;
use cloister_protocol::keyconfig::{self, KeyConfigList};
use cloister_protocol::ohttp::{Client, ResponseOpener};
use cloister_protocol::padding::BUCKETS_BYTES;
use getrandom::SysRng;
use rand_core::UnwrapErr;

use crate::raw::{self, Answer};

/// The guest's keys, as it offers them to everyone.
pub fn keys(port: u16) -> KeyConfigList {
    let answer = raw::get(port, paths::OHTTP_GATEWAY);
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains(&format!("content-type: {}", media::OHTTP_KEYS)),
        "{}",
        answer.head
    );
    keyconfig::decode_list(&answer.body).expect("the guest's keys can be decoded")
}

/// Seals an inner request.
pub fn seal(keys: &KeyConfigList, message: &[u8]) -> (Vec<u8>, ResponseOpener) {
    let client = Client::new(keys.preferred());
    client
        .encapsulate(&mut UnwrapErr(SysRng), message)
        .expect("the guest's key is valid")
}

/// The binary HTTP of a request for a summary with this content.
pub fn summarize_message(json: &[u8]) -> Vec<u8> {
    let request = bhttp::Request::new("POST", paths::SUMMARIZE);
    let request = request
        .with_content(media::JSON, json.to_vec())
        .expect("a valid media type");
    request.encode_padded().expect("it fits").to_vec()
}

/// Sends sealed bytes.
pub fn post(port: u16, sealed: &[u8]) -> Answer {
    raw::post(port, paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, sealed)
}

/// Sends an inner message and opens the answer to it.
pub fn ask(port: u16, message: &[u8]) -> bhttp::Response {
    let (sealed, opener) = seal(&keys(port), message);
    let answer = post(port, &sealed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer
            .head
            .contains(&format!("content-type: {}", media::OHTTP_RESPONSE)),
        "{}",
        answer.head
    );
    let opened = opener.open(&answer.body).expect("the answer opens");
    assert!(
        BUCKETS_BYTES.contains(&opened.len()),
        "the answer is padded to a bucket, not {} bytes",
        opened.len()
    );
    bhttp::Response::decode(&opened, &bhttp::Limits::DEFAULT).expect("the answer is binary HTTP")
}

/// Asks for a summary with this content, which is wrong, and returns the problem that the guest answers with.
pub fn problem_of(port: u16, json: &[u8]) -> Problem {
    let response = ask(port, &summarize_message(json));
    assert_eq!(
        response.field("content-type"),
        Some(media::PROBLEM_JSON.as_bytes()),
        "status {}",
        response.status
    );
    let problem = Problem::from_json(&response.content).expect("a problem document");
    assert_eq!(problem.status, response.status);
    problem
}
