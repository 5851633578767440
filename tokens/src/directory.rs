//! An issuer's directory (RFC 9578, section 4): which keys it signs with, and where it is asked.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::TOKEN_TYPE;
use crate::key::TokenKey;

/// The directory's path at an issuer.
pub const PATH: &str = "/.well-known/private-token-issuer-directory";
/// Media type of a directory.
pub const MEDIA_TYPE: &str = "application/private-token-issuer-directory";

/// The most bytes of a directory.
pub const MAX_BYTES: usize = 64 << 10;
/// The most keys in one.
pub const MAX_KEYS: usize = 64;

/// An issuer's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where requests go: a URL, or a path at the issuer.
    pub request_uri: String,
    /// The keys of type 2, the preferred one first.
    pub token_keys: Vec<TokenKey>,
}

/// Why a directory is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It has more than [`MAX_BYTES`] or [`MAX_KEYS`].
    TooLarge,
    /// It is not JSON of this form: the reason.
    Json(String),
    /// A key of type 2 is none.
    Key,
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(
                f,
                "the directory has more than {MAX_BYTES} bytes or {MAX_KEYS} keys"
            ),
            Self::Json(reason) => write!(f, "the directory is not JSON of RFC 9578: {reason}"),
            Self::Key => write!(f, "a key of type 2 in the directory is none"),
        }
    }
}

impl core::error::Error for DirectoryError {}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "issuer-request-uri")]
    request_uri: String,
    #[serde(rename = "token-keys")]
    token_keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    #[serde(rename = "token-type")]
    token_type: u16,
    #[serde(rename = "token-key")]
    token_key: String,
}

impl Directory {
    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let key = |key: &TokenKey| Key {
            token_type: TOKEN_TYPE,
            token_key: key.to_base64(),
        };
        let document = Document {
            request_uri: self.request_uri.clone(),
            token_keys: self.token_keys.iter().map(key).collect(),
        };
        serde_json::to_vec(&document).expect("strings and numbers always have a JSON form")
    }

    /// Reads the JSON text. Keys of other types and unknown members are passed over.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn from_json(text: &[u8]) -> Result<Self, DirectoryError> {
        if text.len() > MAX_BYTES {
            return Err(DirectoryError::TooLarge);
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| DirectoryError::Json(error.to_string()))?;
        if document.token_keys.len() > MAX_KEYS {
            return Err(DirectoryError::TooLarge);
        }
        let ours = document
            .token_keys
            .iter()
            .filter(|key| key.token_type == TOKEN_TYPE);
        let keys = ours.map(|key| TokenKey::from_base64(&key.token_key));
        Ok(Self {
            request_uri: document.request_uri,
            token_keys: keys
                .collect::<Result<_, _>>()
                .map_err(|_| DirectoryError::Key)?,
        })
    }
}
