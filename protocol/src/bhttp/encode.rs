//! Messages to bytes, in the known-length form (RFC 9292, section 3.1).

use super::decode::{check_authority, check_method, check_path, check_scheme};
use super::{BhttpError, Field, Request, Response};
use crate::padding::{self, PaddingError};
use crate::reader::{put_prefixed, put_varint};
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// Framing indicator of a known-length request.
pub(super) const KNOWN_REQUEST: u64 = 0;
/// Framing indicator of a known-length response.
pub(super) const KNOWN_RESPONSE: u64 = 1;

/// Room for what is not content: control data, field sections, lengths.
const HEAD_BYTES: usize = 512;

/// Why a message could not be encoded and padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// Its parts are not those of an HTTP message.
    Invalid(BhttpError),
    /// It is larger than the largest bucket.
    Padding(PaddingError),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Padding(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncodeError {}

impl Request {
    /// The encoded request, without padding.
    ///
    /// # Errors
    /// [`BhttpError`] when method, scheme, authority or path are not ones.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BhttpError> {
        check_method(self.method.as_bytes())?;
        check_scheme(self.scheme.as_bytes())?;
        check_authority(self.authority.as_bytes())?;
        check_path(self.path.as_bytes())?;
        let mut out = buffer(&self.content);
        put_varint(&mut out, KNOWN_REQUEST);
        for part in [&self.method, &self.scheme, &self.authority, &self.path] {
            put_prefixed(&mut out, part.as_bytes());
        }
        put_body(&mut out, &self.header, &self.content, &self.trailer);
        Ok(out)
    }

    /// The encoded request, padded to its bucket.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode_padded(&self) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        padding::pad(self.encode().map_err(EncodeError::Invalid)?).map_err(EncodeError::Padding)
    }
}

impl Response {
    /// The encoded response, without padding.
    ///
    /// # Errors
    /// [`BhttpError::Status`] when a status code is not one.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BhttpError> {
        let mut out = buffer(&self.content);
        put_varint(&mut out, KNOWN_RESPONSE);
        for response in &self.informational {
            put_status(&mut out, response.status, 100..200)?;
            put_fields(&mut out, &response.header);
        }
        put_status(&mut out, self.status, 200..600)?;
        put_body(&mut out, &self.header, &self.content, &self.trailer);
        Ok(out)
    }

    /// The encoded response, padded to its bucket.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode_padded(&self) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        padding::pad(self.encode().map_err(EncodeError::Invalid)?).map_err(EncodeError::Padding)
    }
}

/// A buffer with room for a usual message, so that growing it leaves no copies of the content behind.
fn buffer(content: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(content.len() + HEAD_BYTES))
}

pub(super) fn put_status(
    out: &mut Vec<u8>,
    status: u16,
    allowed: core::ops::Range<u16>,
) -> Result<(), BhttpError> {
    if !allowed.contains(&status) {
        return Err(BhttpError::Status {
            found: status.into(),
        });
    }
    put_varint(out, status.into());
    Ok(())
}

fn put_body(out: &mut Vec<u8>, header: &[Field], content: &[u8], trailer: &[Field]) {
    put_fields(out, header);
    put_prefixed(out, content);
    put_fields(out, trailer);
}

fn put_fields(out: &mut Vec<u8>, fields: &[Field]) {
    let mut section = Vec::new();
    for field in fields {
        put_prefixed(&mut section, field.name.as_bytes());
        put_prefixed(&mut section, &field.value);
    }
    put_prefixed(out, &section);
}
