//! Binary HTTP messages, media type `message/bhttp` (RFC 9292).
//!
//! Decoding takes both framings, known-length and indeterminate-length, and all of a message's parts; encoding writes
//! the known-length form. [`stream`] is for responses that come piece by piece. Everything has limits ([`Limits`]). Field names are in lower case once decoded, and content
//! is wiped when it is dropped.

mod decode;
mod encode;
pub mod stream;

pub use encode::EncodeError;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// What a decoder puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole message, padding included.
    pub message_bytes: usize,
    /// Bytes of method, scheme, authority and path together.
    pub control_bytes: usize,
    /// Field lines in all sections together.
    pub fields: usize,
    /// Bytes of names and values in all sections together.
    pub field_bytes: usize,
    /// Informational responses before the final one.
    pub informational: usize,
    /// Chunks of content in an indeterminate-length message.
    pub content_chunks: usize,
}

impl Limits {
    /// The limits of Cloister's own requests and responses.
    pub const DEFAULT: Self = Self {
        message_bytes: crate::padding::MAX_MESSAGE_BYTES,
        control_bytes: 4 << 10,
        fields: 64,
        field_bytes: 8 << 10,
        informational: 8,
        content_chunks: 4096,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Which limit a message is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::message_bytes`].
    MessageBytes,
    /// [`Limits::control_bytes`].
    ControlBytes,
    /// [`Limits::fields`].
    Fields,
    /// [`Limits::field_bytes`].
    FieldBytes,
    /// [`Limits::informational`].
    Informational,
    /// [`Limits::content_chunks`].
    ContentChunks,
}

/// Why a message was refused (RFC 9292, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BhttpError {
    /// It ended where RFC 9292, section 3.8, does not allow it to.
    Truncated,
    /// The framing indicator is not one of a request, or not one of a response.
    Framing {
        /// The indicator.
        found: u64,
    },
    /// The method is not a token.
    Method,
    /// The scheme is not one of RFC 3986, section 3.1.
    Scheme,
    /// The authority has bytes that none can have.
    Authority,
    /// The path does not begin with `/` (or is not `*`), or has bytes that none can have.
    Path,
    /// The status code is outside 100 to 599.
    Status {
        /// The code.
        found: u64,
    },
    /// A field name is not a token, or a pseudo-field of HTTP/2.
    FieldName,
    /// A field value has a NUL, CR or LF, or begins or ends with white space.
    FieldValue,
    /// The padding has bytes other than zero.
    Padding,
    /// The message is over a limit.
    Over(Limit),
}

impl fmt::Display for BhttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the binary HTTP message is cut short"),
            Self::Framing { found } => write!(
                f,
                "framing indicator {found} is not the expected kind of message"
            ),
            Self::Method => write!(f, "the method is not a token"),
            Self::Scheme => write!(f, "the scheme is invalid"),
            Self::Authority => write!(f, "the authority is invalid"),
            Self::Path => write!(f, "the path is invalid"),
            Self::Status { found } => write!(f, "status code {found} is not one of 100 to 599"),
            Self::FieldName => write!(f, "a field name is invalid"),
            Self::FieldValue => write!(f, "a field value is invalid"),
            Self::Padding => write!(f, "the padding is not zero"),
            Self::Over(limit) => write!(f, "the binary HTTP message is over a limit: {limit:?}"),
        }
    }
}

impl core::error::Error for BhttpError {}

/// A field line of a header or trailer section.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    name: String,
    value: Vec<u8>,
}

impl Field {
    /// A field with this name, which is put in lower case, and value.
    ///
    /// # Errors
    /// [`BhttpError::FieldName`] or [`BhttpError::FieldValue`].
    pub fn new(name: &str, value: impl Into<Vec<u8>>) -> Result<Self, BhttpError> {
        let value = value.into();
        decode::check_field_value(&value)?;
        Ok(Self {
            name: decode::field_name(name.as_bytes())?,
            value,
        })
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Fields are part of what was encrypted, so that only the name is shown.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.name, self.value.len())
    }
}

/// The first field of this name; the name is compared without regard to case.
fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
        .map(Field::value)
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, such as `POST`.
    pub method: String,
    /// The scheme, `https`.
    pub scheme: String,
    /// The authority; empty where the `host` field has it.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The header section.
    pub header: Vec<Field>,
    /// The content.
    pub content: Zeroizing<Vec<u8>>,
    /// The trailer section.
    pub trailer: Vec<Field>,
}

impl Request {
    /// A request of scheme `https` without fields, content or authority.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            scheme: "https".into(),
            authority: String::new(),
            path: path.into(),
            header: Vec::new(),
            content: Zeroizing::default(),
            trailer: Vec::new(),
        }
    }

    /// The same request with a field more in its header section.
    ///
    /// # Errors
    /// [`BhttpError::FieldName`] or [`BhttpError::FieldValue`].
    pub fn with_header(
        mut self,
        name: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<Self, BhttpError> {
        self.header.push(Field::new(name, value)?);
        Ok(self)
    }

    /// The same request with this content and a `content-type` field.
    ///
    /// # Errors
    /// [`BhttpError::FieldValue`] when the media type is not a field value.
    pub fn with_content(mut self, media_type: &str, content: Vec<u8>) -> Result<Self, BhttpError> {
        self.content = Zeroizing::new(content);
        self.with_header("content-type", media_type)
    }

    /// The value of the first header field of this name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.header, name)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            path,
            content,
            ..
        } = self;
        write!(f, "{method} {path}, {} bytes", content.len())
    }
}

/// An informational response (1xx) before the final one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Informational {
    /// The status code, 100 to 199.
    pub status: u16,
    /// The header section.
    pub header: Vec<Field>,
}

/// A response.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Informational responses, in order.
    pub informational: Vec<Informational>,
    /// The status code, 200 to 599.
    pub status: u16,
    /// The header section.
    pub header: Vec<Field>,
    /// The content.
    pub content: Zeroizing<Vec<u8>>,
    /// The trailer section.
    pub trailer: Vec<Field>,
}

impl Response {
    /// A response without fields or content.
    pub fn new(status: u16) -> Self {
        Self {
            informational: Vec::new(),
            status,
            header: Vec::new(),
            content: Zeroizing::default(),
            trailer: Vec::new(),
        }
    }

    /// The same response with a field more in its header section.
    ///
    /// # Errors
    /// [`BhttpError::FieldName`] or [`BhttpError::FieldValue`].
    pub fn with_header(
        mut self,
        name: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<Self, BhttpError> {
        self.header.push(Field::new(name, value)?);
        Ok(self)
    }

    /// The same response with this content and a `content-type` field.
    ///
    /// # Errors
    /// [`BhttpError::FieldValue`] when the media type is not a field value.
    pub fn with_content(mut self, media_type: &str, content: Vec<u8>) -> Result<Self, BhttpError> {
        self.content = Zeroizing::new(content);
        self.with_header("content-type", media_type)
    }

    /// The value of the first header field of this name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.header, name)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.status, self.content.len())
    }
}

#[cfg(test)]
mod tests;
