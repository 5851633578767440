//! Responses and their bytes on the wire.

use alloc::format;
use alloc::vec::Vec;

use super::head::Version;

/// The status codes that this server uses (RFC 9110, section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 413
    ContentTooLarge,
    /// 415
    UnsupportedMediaType,
    /// 417
    ExpectationFailed,
    /// 422
    UnprocessableContent,
    /// 429
    TooManyRequests,
    /// 431
    HeaderTooLarge,
    /// 500
    InternalError,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

const ALL: [Status; 15] = [
    Status::Ok,
    Status::BadRequest,
    Status::NotFound,
    Status::MethodNotAllowed,
    Status::RequestTimeout,
    Status::ContentTooLarge,
    Status::UnsupportedMediaType,
    Status::ExpectationFailed,
    Status::UnprocessableContent,
    Status::TooManyRequests,
    Status::HeaderTooLarge,
    Status::InternalError,
    Status::NotImplemented,
    Status::ServiceUnavailable,
    Status::VersionNotSupported,
];

impl Status {
    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::UnprocessableContent => 422,
            Self::TooManyRequests => 429,
            Self::HeaderTooLarge => 431,
            Self::InternalError => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::VersionNotSupported => 505,
        }
    }

    /// The status of this number, if it is one that is used here.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        ALL.into_iter().find(|status| status.code() == code)
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::ContentTooLarge => "Content Too Large",
            Self::UnsupportedMediaType => "Unsupported Media Type",
            Self::ExpectationFailed => "Expectation Failed",
            Self::UnprocessableContent => "Unprocessable Content",
            Self::TooManyRequests => "Too Many Requests",
            Self::HeaderTooLarge => "Request Header Fields Too Large",
            Self::InternalError => "Internal Server Error",
            Self::NotImplemented => "Not Implemented",
            Self::ServiceUnavailable => "Service Unavailable",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// The body's media type; also named where the body is left out (HEAD).
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// The methods of the path, for 405.
    pub allow: Option<&'static str>,
    /// Seconds after which to try again, for 429 and 503.
    pub retry_after_s: Option<u32>,
    /// Whether caches may keep the answer; off for everything that depends on the moment or the client.
    pub cacheable: bool,
}

impl Response {
    /// 200 with a body.
    #[must_use]
    pub fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: Status::Ok,
            content_type,
            body,
            allow: None,
            retry_after_s: None,
            cacheable: false,
        }
    }

    /// An error as a problem document of no special type (RFC 9457). `detail` is a fixed sentence of ours without
    /// characters that JSON would have to escape.
    #[must_use]
    pub fn problem(status: Status, detail: &'static str) -> Self {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{detail}\"}}\n",
            status.reason(),
            status.code(),
        );
        Self {
            status,
            ..Self::ok("application/problem+json", body.into_bytes())
        }
    }

    /// The response as bytes; `with_body` is off for HEAD.
    pub(super) fn encode(&self, version: Version, keep_alive: bool, with_body: bool) -> Vec<u8> {
        let length = Length::Known(self.body.len());
        let mut bytes = self.encode_head(version, keep_alive, length);
        if with_body {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// The head as bytes.
    pub(super) fn encode_head(
        &self,
        version: Version,
        keep_alive: bool,
        length: Length,
    ) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\n",
            self.status.code(),
            self.status.reason(),
            self.content_type,
        );
        match (length, version) {
            (Length::Known(bytes), _) => head.push_str(&format!("Content-Length: {bytes}\r\n")),
            (Length::Unknown, Version::Http11) => head.push_str("Transfer-Encoding: chunked\r\n"),
            (Length::Unknown, Version::Http10) => {}
        }
        if !self.cacheable {
            head.push_str("Cache-Control: no-store\r\n");
        }
        if let Some(allow) = self.allow {
            head.push_str(&format!("Allow: {allow}\r\n"));
        }
        if let Some(seconds) = self.retry_after_s {
            head.push_str(&format!("Retry-After: {seconds}\r\n"));
        }
        match (keep_alive, version) {
            (false, _) => head.push_str("Connection: close\r\n"),
            (true, Version::Http10) => head.push_str("Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Whether the length of a body is known before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes.
    Known(usize),
    /// It ends with its chunked coding, or with the connection.
    Unknown,
}
