//! What of a gateway's answer goes back to the client.

use cloister_protocol::api::media;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::route::Kind;

/// The most bytes of a media type or of `retry-after`.
const MAX_VALUE_BYTES: usize = 128;

/// A gateway's answer that is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("its answer is not {0}")]
    Type(&'static str),
    #[error("it answered {0}, which no gateway does")]
    Status(u16),
    #[error("its answer has over {0} bytes")]
    TooLarge(usize),
    #[error("its answer was cut short")]
    Cut,
    #[error("its answer took over {0} s")]
    TooSlow(u64),
}

/// The head of an answer as the client gets it: status, media type, `retry-after`.
#[derive(Debug)]
pub(super) struct Head {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    retry_after: Option<HeaderValue>,
}

impl Head {
    /// Judges the head of an answer.
    pub(super) fn of(response: &Response<Incoming>, kind: Kind) -> Result<Self, Unfit> {
        Self::judge(response.status(), response.headers(), kind)
    }

    fn judge(status: StatusCode, headers: &HeaderMap, kind: Kind) -> Result<Self, Unfit> {
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = match status.as_u16() {
            200 => {
                let wanted = kind.answer_type();
                let found = content_type.map_or(&b""[..], HeaderValue::as_bytes);
                if !media::is(found, wanted) {
                    return Err(Unfit::Type(wanted));
                }
                // As it is registered, whatever parameters came with it.
                Some(HeaderValue::from_static(wanted))
            }
            400..=599 => content_type.filter(|value| is_short(value)).cloned(),
            other => return Err(Unfit::Status(other)),
        };
        let retry_after = headers.get(RETRY_AFTER).filter(|value| is_delay(value));
        Ok(Self {
            status,
            content_type,
            retry_after: retry_after.cloned(),
        })
    }

    pub(super) fn is_error(&self) -> bool {
        self.status != StatusCode::OK
    }

    /// The answer with this content.
    pub(super) fn with<B>(self, content: B) -> Response<B> {
        let mut reply = Response::new(content);
        *reply.status_mut() = self.status;
        let fields = [
            (CONTENT_TYPE, self.content_type),
            (RETRY_AFTER, self.retry_after),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                reply.headers_mut().insert(name, value);
            }
        }
        reply
    }
}

fn is_short(value: &HeaderValue) -> bool {
    value.len() <= MAX_VALUE_BYTES && value.to_str().is_ok()
}

/// Seconds, or a date as HTTP writes them (RFC 9110, section 10.2.3).
fn is_delay(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default();
    let is_seconds =
        (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_date = text.len() == 29 && text.ends_with(" GMT") && text.as_bytes()[3] == b',';
    is_seconds || is_date
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, fields: &[(&'static str, &str)], kind: Kind) -> Result<Head, Unfit> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        Head::judge(StatusCode::from_u16(status).unwrap(), &headers, kind)
    }

    #[test]
    fn each_kind_has_its_answer() {
        for (kind, right) in [
            (Kind::Whole, "message/ohttp-res"),
            (Kind::Chunked, "message/ohttp-chunked-res"),
            (Kind::Keys, "application/ohttp-keys"),
            (Kind::Evidence, "application/cmw+cbor"),
        ] {
            let head = judge(200, &[("content-type", right)], kind).unwrap();
            assert_eq!(head.content_type.unwrap(), right);
            let wrong = [("content-type", "text/html")];
            assert_eq!(judge(200, &wrong, kind).unwrap_err(), Unfit::Type(right));
            assert_eq!(judge(200, &[], kind).unwrap_err(), Unfit::Type(right));
        }
        let swapped = [("content-type", "message/ohttp-res")];
        assert!(judge(200, &swapped, Kind::Chunked).is_err());
    }

    #[test]
    fn neither_redirects_nor_upgrades_nor_empty_answers() {
        for status in [101, 201, 204, 206, 301, 302, 304, 307] {
            let outcome = judge(status, &[], Kind::Whole);
            assert_eq!(outcome.unwrap_err(), Unfit::Status(status));
        }
    }

    #[test]
    fn errors_keep_their_type_and_their_delay() {
        for (value, kept) in [
            ("5", true),
            ("Fri, 27 Nov 2026 10:00:00 GMT", true),
            ("soon", false),
            ("1234567890", false),
            ("-1", false),
            ("", false),
        ] {
            let fields = [
                ("content-type", "application/problem+json"),
                ("retry-after", value),
                ("server", "x"),
                ("set-cookie", "id=1"),
            ];
            let reply = judge(503, &fields, Kind::Whole).unwrap().with(());
            assert_eq!(reply.headers()["content-type"], "application/problem+json");
            assert_eq!(reply.headers().contains_key("retry-after"), kept, "{value}");
            assert_eq!(reply.headers().len(), 1 + usize::from(kept));
        }
        let long = "x/".to_owned() + &"y".repeat(200);
        let head = judge(400, &[("content-type", &long)], Kind::Whole).unwrap();
        assert_eq!(head.content_type, None);
    }
}
