//! Bytes to messages, both framings (RFC 9292, sections 3.1 and 3.2).

use super::encode::{KNOWN_REQUEST, KNOWN_RESPONSE};
use super::{BhttpError, Field, Informational, Limit, Limits, Request, Response};
use crate::reader::Reader;
use alloc::string::String;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Framing indicator of an indeterminate-length request.
const INDETERMINATE_REQUEST: u64 = 2;
/// Framing indicator of an indeterminate-length response.
pub(super) const INDETERMINATE_RESPONSE: u64 = 3;

impl Request {
    /// Decodes a request, padding and all.
    ///
    /// # Errors
    /// [`BhttpError`]; the message must not be processed further then.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, BhttpError> {
        let mut decoder = Decoder::new(bytes, limits)?;
        decoder.framing(KNOWN_REQUEST, INDETERMINATE_REQUEST)?;
        let method = decoder.control(check_method)?;
        let scheme = decoder.control(check_scheme)?;
        let authority = decoder.control(check_authority)?;
        let path = decoder.control(check_path)?;
        let header = decoder.fields()?;
        let content = decoder.content()?;
        let trailer = decoder.fields()?;
        decoder.padding()?;
        Ok(Self {
            method,
            scheme,
            authority,
            path,
            header,
            content,
            trailer,
        })
    }
}

impl Response {
    /// Decodes a response, padding and all.
    ///
    /// # Errors
    /// [`BhttpError`]; the message must not be processed further then.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, BhttpError> {
        let mut decoder = Decoder::new(bytes, limits)?;
        let mut response = decoder.response_head()?;
        response.content = decoder.content()?;
        response.trailer = decoder.fields()?;
        decoder.padding()?;
        Ok(response)
    }
}

/// The head of a response whose bytes still arrive.
pub(super) struct Head {
    /// Without content and trailer.
    pub(super) response: Response,
    pub(super) indeterminate: bool,
    /// Bytes of the head.
    pub(super) bytes: usize,
}

impl Head {
    /// Reads the head at the front of `bytes`; [`BhttpError::Truncated`] while it is not complete.
    pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Self, BhttpError> {
        let mut decoder = Decoder::new(bytes, limits)?;
        decoder.may_end = false;
        let response = decoder.response_head()?;
        Ok(Self {
            response,
            indeterminate: decoder.indeterminate,
            bytes: bytes.len() - decoder.reader.rest().len(),
        })
    }

    /// Bytes of the trailer section at the front of `bytes`; [`BhttpError::Truncated`] while it is not complete.
    pub(super) fn skip_trailer(
        bytes: &[u8],
        indeterminate: bool,
        limits: &Limits,
    ) -> Result<usize, BhttpError> {
        let mut decoder = Decoder::new(bytes, limits)?;
        decoder.may_end = false;
        decoder.indeterminate = indeterminate;
        decoder.fields()?;
        Ok(bytes.len() - decoder.reader.rest().len())
    }
}

struct Decoder<'a> {
    reader: Reader<'a>,
    limits: &'a Limits,
    indeterminate: bool,
    /// No more bytes will come, so that what is empty at the end may be left out.
    may_end: bool,
    control_bytes: usize,
    fields: usize,
    field_bytes: usize,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], limits: &'a Limits) -> Result<Self, BhttpError> {
        if bytes.len() > limits.message_bytes {
            return Err(BhttpError::Over(Limit::MessageBytes));
        }
        let reader = Reader::new(bytes);
        Ok(Self {
            reader,
            limits,
            indeterminate: false,
            may_end: true,
            control_bytes: 0,
            fields: 0,
            field_bytes: 0,
        })
    }

    fn framing(&mut self, known: u64, indeterminate: u64) -> Result<(), BhttpError> {
        let found = self.reader.varint().ok_or(BhttpError::Truncated)?;
        self.indeterminate = found == indeterminate;
        if found == known || found == indeterminate {
            Ok(())
        } else {
            Err(BhttpError::Framing { found })
        }
    }

    /// All of a response before its content.
    fn response_head(&mut self) -> Result<Response, BhttpError> {
        self.framing(KNOWN_RESPONSE, INDETERMINATE_RESPONSE)?;
        let mut informational = Vec::new();
        loop {
            let status = self.status()?;
            let header = self.fields()?;
            if status >= 200 {
                return Ok(Response {
                    informational,
                    status,
                    header,
                    content: Zeroizing::default(),
                    trailer: Vec::new(),
                });
            }
            if informational.len() == self.limits.informational {
                return Err(BhttpError::Over(Limit::Informational));
            }
            informational.push(Informational { status, header });
        }
    }

    /// One part of the request's control data (section 3.4).
    fn control(
        &mut self,
        check: fn(&[u8]) -> Result<(), BhttpError>,
    ) -> Result<String, BhttpError> {
        let bytes = self.reader.prefixed().ok_or(BhttpError::Truncated)?;
        self.control_bytes += bytes.len();
        if self.control_bytes > self.limits.control_bytes {
            return Err(BhttpError::Over(Limit::ControlBytes));
        }
        check(bytes)?;
        Ok(ascii(bytes))
    }

    fn status(&mut self) -> Result<u16, BhttpError> {
        let found = self.reader.varint().ok_or(BhttpError::Truncated)?;
        match found {
            100..600 => Ok(found as u16),
            _ => Err(BhttpError::Status { found }),
        }
    }

    /// A header or trailer section (section 3.6); one that was left out at the end of the message is empty (3.8).
    fn fields(&mut self) -> Result<Vec<Field>, BhttpError> {
        if self.reader.is_empty() && self.may_end {
            return Ok(Vec::new());
        }
        if self.indeterminate {
            return self.indeterminate_fields();
        }
        let mut lines = Reader::new(self.reader.prefixed().ok_or(BhttpError::Truncated)?);
        let mut fields = Vec::new();
        while !lines.is_empty() {
            let name = lines.prefixed().ok_or(BhttpError::Truncated)?;
            let value = lines.prefixed().ok_or(BhttpError::Truncated)?;
            fields.push(self.field(name, value)?);
        }
        Ok(fields)
    }

    /// Field lines up to a name of length zero.
    fn indeterminate_fields(&mut self) -> Result<Vec<Field>, BhttpError> {
        let mut fields = Vec::new();
        loop {
            let name = self.reader.prefixed().ok_or(BhttpError::Truncated)?;
            if name.is_empty() {
                return Ok(fields);
            }
            let value = self.reader.prefixed().ok_or(BhttpError::Truncated)?;
            fields.push(self.field(name, value)?);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<Field, BhttpError> {
        self.fields += 1;
        self.field_bytes += name.len() + value.len();
        if self.fields > self.limits.fields {
            return Err(BhttpError::Over(Limit::Fields));
        }
        if self.field_bytes > self.limits.field_bytes {
            return Err(BhttpError::Over(Limit::FieldBytes));
        }
        check_field_value(value)?;
        Ok(Field {
            name: field_name(name)?,
            value: value.to_vec(),
        })
    }

    /// The content (sections 3.1 and 3.2); empty when it was left out at the end of the message.
    fn content(&mut self) -> Result<Zeroizing<Vec<u8>>, BhttpError> {
        if self.reader.is_empty() {
            return Ok(Zeroizing::default());
        }
        if self.indeterminate {
            return self.indeterminate_content();
        }
        let content = self.reader.prefixed().ok_or(BhttpError::Truncated)?;
        Ok(Zeroizing::new(content.to_vec()))
    }

    /// Chunks up to one of length zero. They are counted and measured first, so that one allocation holds them all.
    fn indeterminate_content(&mut self) -> Result<Zeroizing<Vec<u8>>, BhttpError> {
        let mut ahead = self.reader;
        let mut length = 0;
        for count in 0.. {
            let chunk = ahead.prefixed().ok_or(BhttpError::Truncated)?;
            if chunk.is_empty() {
                break;
            }
            if count == self.limits.content_chunks {
                return Err(BhttpError::Over(Limit::ContentChunks));
            }
            length += chunk.len();
        }
        let mut content = Zeroizing::new(Vec::with_capacity(length));
        while content.len() < length {
            content.extend_from_slice(self.reader.prefixed().unwrap_or_default());
        }
        self.reader = ahead;
        Ok(content)
    }

    /// What follows the message is zeros (section 3.8).
    fn padding(&self) -> Result<(), BhttpError> {
        // Without a branch on each byte, though nothing secret depends on it.
        let any = self.reader.rest().iter().fold(0, |any, byte| any | byte);
        if any == 0 {
            Ok(())
        } else {
            Err(BhttpError::Padding)
        }
    }
}

/// A string of bytes that were checked to be ASCII.
fn ascii(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

pub(super) fn check_method(bytes: &[u8]) -> Result<(), BhttpError> {
    if is_token(bytes) {
        Ok(())
    } else {
        Err(BhttpError::Method)
    }
}

/// RFC 3986, section 3.1.
pub(super) fn check_scheme(bytes: &[u8]) -> Result<(), BhttpError> {
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    match bytes {
        [first, rest @ ..] if first.is_ascii_alphabetic() && rest.iter().all(is_rest) => Ok(()),
        _ => Err(BhttpError::Scheme),
    }
}

/// May be empty; visible ASCII without what ends an authority (RFC 3986, section 3.2) and without user information.
pub(super) fn check_authority(bytes: &[u8]) -> Result<(), BhttpError> {
    let is_allowed = |byte: &u8| byte.is_ascii_graphic() && !b"/?#@\\\"<>".contains(byte);
    if bytes.iter().all(is_allowed) {
        Ok(())
    } else {
        Err(BhttpError::Authority)
    }
}

/// Visible ASCII from a `/` on, without fragment; or `*` (RFC 9113, section 8.3.1).
pub(super) fn check_path(bytes: &[u8]) -> Result<(), BhttpError> {
    let is_allowed = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    match bytes {
        b"*" => Ok(()),
        [b'/', ..] if bytes.iter().all(is_allowed) => Ok(()),
        _ => Err(BhttpError::Path),
    }
}

/// A field name in lower case. Pseudo-fields are no tokens, so that they are refused here too (section 3.6 forbids
/// those of HTTP/2; no extension defines others that we know).
pub(super) fn field_name(bytes: &[u8]) -> Result<String, BhttpError> {
    if is_token(bytes) {
        Ok(ascii(&bytes.to_ascii_lowercase()))
    } else {
        Err(BhttpError::FieldName)
    }
}

/// RFC 9113, section 8.2.1.
pub(super) fn check_field_value(bytes: &[u8]) -> Result<(), BhttpError> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let has_forbidden = bytes.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    if has_forbidden || is_space(bytes.first()) || is_space(bytes.last()) {
        return Err(BhttpError::FieldValue);
    }
    Ok(())
}
