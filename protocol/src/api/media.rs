//! Media types.

/// Key config list (RFC 9458, section 9.1).
pub const OHTTP_KEYS: &str = "application/ohttp-keys";

/// Encapsulated request (RFC 9458, section 9.2).
pub const OHTTP_REQUEST: &str = "message/ohttp-req";

/// Encapsulated response (RFC 9458, section 9.3).
pub const OHTTP_RESPONSE: &str = "message/ohttp-res";

/// Encapsulated request in chunks (draft-ietf-ohai-chunked-ohttp, section 8.1).
pub const OHTTP_CHUNKED_REQUEST: &str = "message/ohttp-chunked-req";

/// Encapsulated response in chunks (draft-ietf-ohai-chunked-ohttp, section 8.2).
pub const OHTTP_CHUNKED_RESPONSE: &str = "message/ohttp-chunked-res";

/// A CMW collection (RFC 9999): evidence.
pub const CMW_CBOR: &str = "application/cmw+cbor";

/// JSON.
pub const JSON: &str = "application/json";

/// Server-sent events (WHATWG HTML, section 9.2).
pub const EVENT_STREAM: &str = "text/event-stream";

/// A problem document (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the value of a `content-type` field names this media type, whatever its parameters and case
/// (RFC 9110, section 8.3.1).
pub fn is(content_type: &[u8], media_type: &str) -> bool {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(media_type.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_case_and_space_do_not_matter() {
        assert!(is(b"application/json", JSON));
        assert!(is(b"Application/JSON; charset=utf-8", JSON));
        assert!(is(b" application/json ;x", JSON));
        assert!(!is(b"application/jsonp", JSON));
        assert!(!is(b"", JSON));
    }
}
