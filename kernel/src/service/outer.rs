//! Paths outside the encapsulation: what the host and every relay may see.

use alloc::vec::Vec;
use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{media, paths};
use cloister_protocol::evidence;
use cloister_protocol::ohttp::{MAX_CHUNKED_REQUEST_OVERHEAD_BYTES, MAX_REQUEST_OVERHEAD_BYTES};

use super::keys::Keys;
use crate::http::{Admission, Head, Method, Response, Status};

/// Seconds after which fresh evidence may be asked for again.
const EVIDENCE_RETRY_AFTER_S: u32 = 1;

const GET: &str = "GET, HEAD";
const GET_AND_POST: &str = "GET, HEAD, POST";

/// The rules for request heads.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Largest message inside the encapsulation.
    pub request_bytes: usize,
}

impl Admission for Rules {
    fn admit(&self, head: &Head) -> Result<usize, Response> {
        let allow = match head.path.as_str() {
            paths::OHTTP_GATEWAY => GET_AND_POST,
            paths::EVIDENCE | paths::HEALTH | paths::METRICS => GET,
            _ => {
                return Err(Response::problem(
                    Status::NotFound,
                    "There is nothing at this path.",
                ));
            }
        };
        match head.method {
            Method::Get | Method::Head => Ok(0),
            Method::Post if allow == GET_AND_POST => self.admit_encapsulated(head),
            Method::Post | Method::Other => Err(Response {
                allow: Some(allow),
                ..Response::problem(Status::MethodNotAllowed, "This path has other methods.")
            }),
        }
    }
}

impl Rules {
    fn admit_encapsulated(&self, head: &Head) -> Result<usize, Response> {
        let overhead_bytes = match head.content_type.as_deref() {
            Some(media::OHTTP_REQUEST) => Some(MAX_REQUEST_OVERHEAD_BYTES),
            Some(media::OHTTP_CHUNKED_REQUEST) => Some(MAX_CHUNKED_REQUEST_OVERHEAD_BYTES),
            _ => None,
        };
        if let Some(overhead_bytes) = overhead_bytes {
            return Ok(self.request_bytes + overhead_bytes);
        }
        let detail = "The content must be of type message/ohttp-req or message/ohttp-chunked-req.";
        Err(Response::problem(Status::UnsupportedMediaType, detail))
    }
}

/// The answer to a request of a path that only reads. `None`: the path has more than that.
#[must_use]
pub fn read(
    head: &Head,
    keys: &Keys,
    now_ms: u64,
    metrics: impl FnOnce() -> Vec<u8>,
) -> Option<Response> {
    if head.method == Method::Post {
        return None;
    }
    Some(match head.path.as_str() {
        paths::OHTTP_GATEWAY => Response::ok(media::OHTTP_KEYS, keys.key_configs().to_vec()),
        paths::EVIDENCE => read_evidence(head.query.as_deref(), keys, now_ms),
        paths::HEALTH => Response::ok(media::TEXT, b"ready\n".to_vec()),
        paths::METRICS => Response::ok(media::TEXT, metrics()),
        _ => return None,
    })
}

fn read_evidence(query: Option<&str>, keys: &Keys, now_ms: u64) -> Response {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Response::ok(media::CMW_CBOR, keys.evidence().to_vec());
    };
    let nonce = match query.split_once('=') {
        Some((paths::NONCE_PARAMETER, hex)) => evidence::parse_nonce(hex),
        _ => None,
    };
    let Some(nonce) = nonce else {
        let detail = "The only parameter is nonce, 64 hexadecimal digits.";
        return Response::problem(Status::BadRequest, detail);
    };
    match keys.fresh_evidence(nonce, now_ms) {
        Some(evidence) => Response::ok(media::CMW_CBOR, evidence),
        None => {
            let detail =
                "Too much fresh evidence was asked for; that without a nonce is always there.";
            Response {
                retry_after_s: Some(EVIDENCE_RETRY_AFTER_S),
                ..Response::problem(Status::TooManyRequests, detail)
            }
        }
    }
}

/// A problem as an answer outside the encapsulation.
#[must_use]
pub fn answer_problem(problem: &Problem) -> Response {
    let status = Status::from_code(problem.status).unwrap_or(Status::InternalError);
    Response {
        status,
        ..Response::ok(media::PROBLEM_JSON, problem.to_json())
    }
}
