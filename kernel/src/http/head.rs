//! The head of a request: request line and fields (RFC 9112, sections 3 and 5), with strict framing (section 6).

use alloc::string::String;
use alloc::vec::Vec;

use super::response::Status;

/// Most fields in one request; more is 431.
const MAX_FIELDS: usize = 64;
/// Longest method name that is looked at.
const MAX_METHOD_BYTES: usize = 16;
/// Empty lines that are skipped before a request line (RFC 9112, section 2.2 asks for at least one).
const MAX_LEADING_EMPTY_LINES: usize = 2;
/// Digits of the largest body length that is read as a number; longer ones are over every limit anyway.
const MAX_LENGTH_DIGITS: usize = 15;

/// A request method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: as GET, answered without a body.
    Head,
    /// POST.
    Post,
    /// Any other valid method token.
    Other,
}

/// A protocol version that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no keep-alive unless asked for, no interim responses, no chunked coding.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Exactly so many bytes; 0 where the request named no length.
    Length(u64),
    /// Chunked transfer coding (RFC 9112, section 7.1).
    Chunked,
}

/// A parsed request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// Path in origin form, without the query; begins with `/`.
    pub path: String,
    /// What follows the first `?`, if there was one.
    pub query: Option<String>,
    /// The protocol version.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// The media type of the body, lower case, without parameters.
    pub content_type: Option<String>,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
}

impl Head {
    /// Whether the request has, or may have, a body.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }
}

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// A line feed without a carriage return, or a carriage return without a line feed.
    BareLineEnd,
    /// The head is longer than the limit, or has more than 64 fields.
    TooLarge,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The target is neither a path nor an `http` address with one.
    Target,
    /// An HTTP version other than 1.0 and 1.1.
    Version,
    /// A field line is not `name ":" value`, or holds a control character.
    Field,
    /// A field line begins with white space (obsolete folding).
    Folded,
    /// `Host` is missing, repeated or not a host name.
    Host,
    /// `Content-Length` is repeated or not a plain number, or stands beside `Transfer-Encoding`.
    Length,
    /// A transfer coding other than exactly one `chunked`.
    TransferCoding,
    /// An expectation other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// The status that answers it.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::HeaderTooLarge,
            Self::Version => Status::VersionNotSupported,
            Self::TransferCoding => Status::NotImplemented,
            Self::Expectation => Status::ExpectationFailed,
            _ => Status::BadRequest,
        }
    }

    /// What was wrong, for the answer; never quotes the request.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::BareLineEnd => "Lines of the request head must end in CR LF.",
            Self::TooLarge => "The request head is too large.",
            Self::RequestLine => "The request line is malformed.",
            Self::Target => "The request target must be a path.",
            Self::Version => "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            Self::Field => "A header field is malformed.",
            Self::Folded => "Folded header fields are not accepted.",
            Self::Host => "The request needs exactly one valid Host field.",
            Self::Length => "The length of the request body is ambiguous or malformed.",
            Self::TransferCoding => "The only transfer coding spoken here is chunked.",
            Self::Expectation => "The only expectation met here is 100-continue.",
        }
    }
}

/// Collects the bytes of a head and finds its end; every byte is judged as it comes, so that the outcome does not
/// depend on how the network cut the stream.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    bytes: Vec<u8>,
    line_start: usize,
    leading_empty_lines: usize,
}

impl HeadReader {
    /// Whether nothing of a request has arrived yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.leading_empty_lines == 0
    }

    /// Takes one byte; returns the head when this was its last one.
    pub(super) fn push(&mut self, byte: u8, limit: usize) -> Result<Option<Head>, HeadError> {
        if self.bytes.len() >= limit {
            return Err(HeadError::TooLarge);
        }
        let after_cr = self.bytes.last() == Some(&b'\r');
        if after_cr != (byte == b'\n') {
            return Err(HeadError::BareLineEnd);
        }
        self.bytes.push(byte);
        if byte != b'\n' {
            return Ok(None);
        }
        self.end_of_line()
    }

    fn end_of_line(&mut self) -> Result<Option<Head>, HeadError> {
        let line_bytes = self.bytes.len() - self.line_start;
        if line_bytes > 2 {
            self.line_start = self.bytes.len();
            return Ok(None);
        }
        if self.line_start > 0 {
            return parse(&self.bytes[..self.bytes.len() - 2]).map(Some);
        }
        self.bytes.clear();
        self.leading_empty_lines += 1;
        if self.leading_empty_lines > MAX_LEADING_EMPTY_LINES {
            return Err(HeadError::RequestLine);
        }
        Ok(None)
    }
}

/// Parses a head whose lines all end in CR LF, the empty line left off.
fn parse(bytes: &[u8]) -> Result<Head, HeadError> {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty());
    let request_line = lines.next().ok_or(HeadError::RequestLine)?;
    let (method, target, version) = parse_request_line(request_line)?;
    let mut fields = Fields::default();
    for (index, line) in lines.enumerate() {
        if index >= MAX_FIELDS {
            return Err(HeadError::TooLarge);
        }
        fields.take_line(line)?;
    }
    fields.into_head(method, target, version)
}

fn parse_request_line(line: &[u8]) -> Result<(Method, &str, Version), HeadError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    if method.is_empty() || method.len() > MAX_METHOD_BYTES || !method.iter().all(|b| is_token(*b))
    {
        return Err(HeadError::RequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::RequestLine),
    };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        _ => Method::Other,
    };
    Ok((
        method,
        visible_text(target).ok_or(HeadError::Target)?,
        version,
    ))
}

/// Path and query of an origin-form or absolute-form target (RFC 9112, section 3.2).
fn split_target(target: &str) -> Result<(String, Option<String>), HeadError> {
    let origin = if target.starts_with('/') {
        target
    } else {
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| strip_prefix_ignoring_case(target, scheme))
            .ok_or(HeadError::Target)?;
        match rest.find('/') {
            Some(0) | None => return Err(HeadError::Target),
            Some(slash) => &rest[slash..],
        }
    };
    if origin.contains('#') {
        return Err(HeadError::Target);
    }
    Ok(match origin.split_once('?') {
        Some((path, query)) => (path.into(), Some(query.into())),
        None => (origin.into(), None),
    })
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// The fields that matter, collected line by line.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    content_type: Option<String>,
}

impl<'a> Fields<'a> {
    fn take_line(&mut self, line: &'a [u8]) -> Result<(), HeadError> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(HeadError::Folded);
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(HeadError::Field)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(HeadError::Field);
        }
        if value
            .iter()
            .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
        {
            return Err(HeadError::Field);
        }
        self.take(name, value)
    }

    fn take(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), HeadError> {
        if name.eq_ignore_ascii_case(b"host") {
            let host = visible_text(value)
                .filter(|host| is_host(host))
                .ok_or(HeadError::Host)?;
            if self.host.replace(host).is_some() {
                return Err(HeadError::Host);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(parse_length(value)?).is_some() {
                return Err(HeadError::Length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferCoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|byte| *byte == b',').map(trim) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError::Expectation);
            }
            self.expects_continue = true;
        } else if name.eq_ignore_ascii_case(b"content-type") {
            let media_type = value.split(|byte| *byte == b';').next().map_or(value, trim);
            let text = core::str::from_utf8(media_type).map_err(|_| HeadError::Field)?;
            if self
                .content_type
                .replace(text.to_ascii_lowercase())
                .is_some()
            {
                return Err(HeadError::Field);
            }
        }
        Ok(())
    }

    fn into_head(self, method: Method, target: &str, version: Version) -> Result<Head, HeadError> {
        let http11 = version == Version::Http11;
        if http11 && self.host.is_none() {
            return Err(HeadError::Host);
        }
        let framing = match (self.chunked, self.length) {
            (false, length) => Framing::Length(length.unwrap_or(0)),
            (true, None) if http11 => Framing::Chunked,
            (true, _) => return Err(HeadError::Length),
        };
        let (path, query) = match (method, target) {
            // Authority form and asterisk form belong to methods that no path here has.
            (Method::Other, target) if !target.contains('/') => ("/".into(), None),
            _ => split_target(target)?,
        };
        Ok(Head {
            method,
            path,
            query,
            version,
            framing,
            content_type: self.content_type,
            expects_continue: self.expects_continue && http11,
            keep_alive: !self.close && (http11 || self.keep_alive),
        })
    }
}

fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Length);
    }
    let digits = value.iter().skip_while(|digit| **digit == b'0');
    if digits.clone().count() > MAX_LENGTH_DIGITS {
        return Ok(u64::MAX);
    }
    Ok(digits.fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A name, an address or a bracketed address, with or without a port (RFC 9110, section 7.2).
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&b))
}

fn visible_text(bytes: &[u8]) -> Option<&str> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    core::str::from_utf8(bytes).ok()
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
