//! Problem documents (RFC 9457): what an answer that is an error says, inside the encapsulation or outside it.
//!
//! | where | status | when |
//! |---|---|---|
//! | outside | 400, type [`OHTTP_KEY`] | unknown key id, or algorithms that the key was not offered with (RFC 9458, section 5.3) |
//! | outside | 422, type [`OHTTP_KEY`] | the request cannot be opened: altered, or for another key of the same id |
//! | outside | 400 | it is cut short, or has an invalid encapsulated key |
//! | outside | 413 | a chunk is too large |
//! | inside | 400 | not binary HTTP, not JSON |
//! | inside | 401, types [`TOKEN_REQUIRED`], [`TOKEN_INVALID`], [`TOKEN_SPENT`] | no token that is taken; the field `www-authenticate` has a challenge |
//! | inside | 413, 422 | a field of the request is too long, or wrong |
//!
//! All errors before the encapsulation is removed are answered in the clear, all later ones inside (section 5.2).

use super::json::{self, JsonError};
use crate::bhttp::BhttpError;
use crate::ohttp::OhttpError;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The type of a problem that its status says all about (RFC 9457, section 4.2.1).
pub const BLANK: &str = "about:blank";

/// The request used an outdated or wrong key config (RFC 9458, section 5.3): fetch the list again, try once more.
pub const OHTTP_KEY: &str = "https://iana.org/assignments/http-problem-types#ohttp-key";

/// What the types of our own begin with.
const OWN_TYPES: &str = "urn:cloister:problem:v1:";

/// The prompt has more tokens than the model's context, or the limits, have room for.
pub const CONTEXT_LENGTH: &str = "urn:cloister:problem:v1:context_length_exceeded";

/// The content of an inner request is not JSON.
pub const INVALID_JSON: &str = "urn:cloister:problem:v1:invalid-json";

/// A field of an inner request is missing or wrong; `field` says which.
pub const INVALID_FIELD: &str = "urn:cloister:problem:v1:invalid-field";

/// An inner request needs an anonymous token (RFC 9577) and has none.
pub const TOKEN_REQUIRED: &str = "urn:cloister:problem:v1:token-required";

/// The token of an inner request is not one that is taken.
pub const TOKEN_INVALID: &str = "urn:cloister:problem:v1:token-invalid";

/// The token of an inner request was spent before.
pub const TOKEN_SPENT: &str = "urn:cloister:problem:v1:token-spent";

/// An inner request is not binary HTTP.
pub const INVALID_MESSAGE: &str = "urn:cloister:problem:v1:invalid-message";

/// What clients of the widespread chat interfaces read of an error: the member `error` of a problem, and of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    #[serde(default)]
    pub message: String,
    /// The kind of error: `invalid_request_error` or `server_error`, ...
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The field of the request that is wrong.
    #[serde(default)]
    pub param: Option<String>,
    /// A word for programs.
    #[serde(default)]
    pub code: Option<String>,
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the type.
    #[serde(rename = "type", default = "blank")]
    pub kind: String,
    /// What the type means.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What is wrong in this case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The field of the request that is wrong (an extension member).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The same for clients of the widespread chat interfaces (an extension member), see [`Problem::with_error`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<ErrorBody>>,
}

impl Problem {
    /// A problem of this type.
    pub fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            title: title(status, kind).into(),
            status,
            detail: Some(detail.into()),
            field: None,
            error: None,
        }
    }

    /// A problem that its status says all about.
    pub fn from_status(status: u16) -> Self {
        Self {
            kind: blank(),
            title: title(status, BLANK).into(),
            status,
            detail: None,
            field: None,
            error: None,
        }
    }

    /// The same problem with words on this case.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The error as clients of the widespread chat interfaces know it.
    pub fn error_body(&self) -> ErrorBody {
        let kind = match self.status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let message = self.detail.as_ref().unwrap_or(&self.title);
        ErrorBody {
            message: message.clone(),
            kind: kind.into(),
            param: self.field.clone(),
            code: self.kind.strip_prefix(OWN_TYPES).map(ToString::to_string),
        }
    }

    /// The same problem with the member `error`, which clients of the widespread chat interfaces show.
    pub fn with_error(mut self) -> Self {
        self.error = Some(Box::new(self.error_body()));
        self
    }

    /// Whether a client should fetch the key config list again and try once more.
    pub fn is_key_problem(&self) -> bool {
        self.kind == OHTTP_KEY
    }

    /// The JSON text, [`super::media::PROBLEM_JSON`].
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always have a JSON form")
    }

    /// Reads the JSON text; unknown members are passed over.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        json::read(text)
    }
}

impl From<OhttpError> for Problem {
    fn from(error: OhttpError) -> Self {
        let (status, kind) = match error {
            OhttpError::UnknownKey { .. } | OhttpError::UnsupportedSuite { .. } => (400, OHTTP_KEY),
            OhttpError::Unopenable => (422, OHTTP_KEY),
            OhttpError::ChunkTooLarge | OhttpError::TooManyChunks => (413, BLANK),
            OhttpError::Truncated | OhttpError::InvalidKey | OhttpError::EmptyChunk => (400, BLANK),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<BhttpError> for Problem {
    fn from(error: BhttpError) -> Self {
        let status = if matches!(error, BhttpError::Over(_)) {
            413
        } else {
            400
        };
        Self::new(status, INVALID_MESSAGE, error.to_string())
    }
}

fn blank() -> String {
    BLANK.into()
}

fn title(status: u16, kind: &str) -> &'static str {
    match (kind, status) {
        (OHTTP_KEY, _) => "The key config of this request is outdated or wrong",
        (INVALID_JSON, _) => "The content is not JSON that is taken here",
        (INVALID_FIELD, _) => "A field of the request is missing or wrong",
        (CONTEXT_LENGTH, _) => "The prompt is too long",
        (INVALID_MESSAGE, _) => "The encapsulated message is not a binary HTTP request",
        (TOKEN_REQUIRED, _) => "A token is needed",
        (TOKEN_INVALID, _) => "The token is not taken here",
        (TOKEN_SPENT, _) => "The token was spent before",
        (_, 400) => "Bad Request",
        (_, 401) => "Unauthorized",
        (_, 404) => "Not Found",
        (_, 405) => "Method Not Allowed",
        (_, 408) => "Request Timeout",
        (_, 413) => "Content Too Large",
        (_, 415) => "Unsupported Media Type",
        (_, 422) => "Unprocessable Content",
        (_, 429) => "Too Many Requests",
        (_, 431) => "Request Header Fields Too Large",
        (_, 500) => "Internal Server Error",
        (_, 503) => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests;
