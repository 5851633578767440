//! What goes wrong, in the shape of OpenAI's errors, which existing clients show to their users.

use cloister_protocol::api::media;
use cloister_protocol::api::problem::Problem;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::client::ClientError;
use crate::policy::Refusal;
use crate::policy_arguments::PolicyError;
use crate::serving::reply::{BodyError, Reply, try_again, whole};
use crate::tokens::PurseError;
use crate::upstream::UpstreamError;

/// OpenAI's own clients try 502 and others again, unless they are told not to by this field.
const SHOULD_RETRY: &str = "x-should-retry";
/// Seconds after which another try makes sense where there is too much to do.
const RETRY_AFTER_S: u32 = 2;

/// Whose fault it is, in OpenAI's words and one of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InvalidRequest,
    Authentication,
    RateLimit,
    Server,
    /// Nothing of the request was sent, as the server's evidence is not acceptable.
    Attestation,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::RateLimit => "rate_limit_error",
            Self::Server => "server_error",
            Self::Attestation => "attestation_error",
        }
    }
}

/// A request that has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: u16,
    kind: Kind,
    code: String,
    message: String,
    param: Option<String>,
}

impl Failure {
    /// The request is not one that is taken here.
    pub(super) fn request(status: u16, code: &str, message: impl Into<String>) -> Self {
        let kind = match status {
            401 => Kind::Authentication,
            429 => Kind::RateLimit,
            ..500 => Kind::InvalidRequest,
            _ => Kind::Server,
        };
        Self {
            status,
            kind,
            code: code.to_owned(),
            message: message.into(),
            param: None,
        }
    }

    /// The server, or what is on the way to it, gave no answer.
    pub(super) fn server(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Server,
            ..Self::request(status, code, message)
        }
    }

    /// What a server said in its own problem document.
    pub(super) fn problem(problem: &Problem) -> Self {
        let status = match problem.status {
            status @ 400..=599 => status,
            _ => 502,
        };
        let detail = problem.detail.as_deref().unwrap_or(&problem.title);
        let message = match detail {
            "" => format!("the server answered {status}"),
            detail => detail.to_owned(),
        };
        // The last part of a URN or URL says it in a word.
        let code = problem.kind.rsplit([':', '/', '#']).next().unwrap_or("");
        let code = match code {
            "" | "blank" => "server_problem",
            code => code,
        };
        Self {
            param: problem.field.clone(),
            ..Self::request(status, code, message)
        }
    }

    /// The same in the clear: it may be the relay that says so, and most of it is no fault of the request.
    pub(super) fn on_the_way(problem: &Problem) -> Self {
        let status = match problem.status {
            status @ (408 | 413 | 429 | 503 | 504) => status,
            _ => 502,
        };
        let detail = problem.detail.as_deref().unwrap_or(&problem.title);
        let message = format!(
            "the server (or whoever is on the way to it) answered {}: {detail}",
            problem.status
        );
        Self::request(status, "on_the_way", message)
    }

    /// There is no token to send the request with.
    pub(super) fn tokens(message: impl Into<String>) -> Self {
        Self::server(502, "tokens", message)
    }

    /// Whether the server's evidence, or the log, was refused.
    pub(super) fn is_refusal(&self) -> bool {
        self.kind == Kind::Attestation
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The JSON.
    pub(super) fn document(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind.name(),
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The answer that says so.
    pub(super) fn reply(&self) -> Reply {
        let mut reply = whole(self.status, media::JSON, self.document().to_string());
        match self.kind {
            Kind::RateLimit => try_again(reply, RETRY_AFTER_S),
            Kind::Attestation => {
                let no = HeaderValue::from_static("false");
                reply.headers_mut().insert(SHOULD_RETRY, no);
                reply
            }
            _ => reply,
        }
    }

    fn attestation(code: &str, message: String) -> Self {
        Self {
            status: 502,
            kind: Kind::Attestation,
            code: code.to_owned(),
            message,
            param: None,
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::Unattested => "unattested".to_owned(),
            Refusal::Stale => "nonce".to_owned(),
            Refusal::TlsKey => "tls_key".to_owned(),
            Refusal::Epoch { .. } => "epoch".to_owned(),
            Refusal::Evidence(appraisal) => {
                let mut checks = appraisal.checks().iter();
                let first = checks.find(|check| !check.outcome.is_acceptable());
                first.map_or_else(String::new, |check| check.name.name().replace(' ', "_"))
            }
            Refusal::Certificates(_) => "certificates".to_owned(),
            Refusal::UnknownKind(_) => "evidence_kind".to_owned(),
        };
        Self::attestation(&code, refusal.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Transport(_) => Self::server(502, "unreachable", error.to_string()),
            // What cannot be read is not acceptable either, but it may be a fault on the way.
            _ => Self::server(502, "evidence", error.to_string()),
        }
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        match error.is_refusal() {
            true => Self::attestation("log", error.to_string()),
            false => Self::server(502, "policy", error.to_string()),
        }
    }
}

impl From<PurseError> for Failure {
    fn from(error: PurseError) -> Self {
        Self::tokens(format!("there is no token for this request: {error}"))
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        if error.other_key().is_some() {
            return (&Refusal::TlsKey).into();
        }
        let message = format!("the server (or the relay) gave no answer: {error}");
        match error {
            UpstreamError::Busy(_) => Self::request(429, "busy", message),
            UpstreamError::ConnectTimeout(_) | UpstreamError::AnswerTimeout(_) => {
                Self::server(504, "timeout", message)
            }
            UpstreamError::Dial(_) | UpstreamError::Broken(_) => {
                Self::server(502, "unreachable", message)
            }
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(most) => Self::request(
                413,
                "too_large",
                format!("a request has at most {most} bytes"),
            ),
            BodyError::Broken => Self::request(400, "body", "the request's body is broken"),
            BodyError::TooSlow(_) => Self::request(408, "body", "the request's body took too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_the_server_keeps_status_field_and_words() {
        let problem = Problem {
            kind: "urn:cloister:problem:v1:invalid-field".to_owned(),
            field: Some("messages[0].role".to_owned()),
            ..Problem::from_status(422).with_detail("no such role")
        };
        let document = Failure::problem(&problem).document();
        assert_eq!(
            document,
            json!({ "error": {
                "message": "no such role",
                "type": "invalid_request_error",
                "param": "messages[0].role",
                "code": "invalid-field",
            }})
        );
        let failure = Failure::problem(&Problem::from_status(503));
        assert_eq!((failure.status, failure.kind), (503, Kind::Server));
        assert_eq!(failure.message(), "Service Unavailable");
        assert_eq!(failure.code, "server_problem");
        let odd = Failure::problem(&Problem::from_status(200));
        assert_eq!(odd.status, 502);
    }

    #[test]
    fn a_refusal_says_why_and_is_not_to_be_tried_again() {
        let failure = Failure::from(&Refusal::Unattested);
        assert!(failure.is_refusal() && failure.message().contains("no attestation evidence"));
        let reply = failure.reply();
        assert_eq!(reply.status(), 502);
        assert_eq!(reply.headers()["x-should-retry"], "false");
        assert_eq!(failure.document()["error"]["code"], "unattested");
    }

    #[test]
    fn too_much_to_do_says_when_to_come_back() {
        let reply = Failure::request(429, "busy", "busy").reply();
        assert_eq!(reply.headers()["retry-after"], "2");
    }
}
