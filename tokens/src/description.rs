//! The file that names an issuer, for those who build images: JSON.

use alloc::string::{String, ToString};
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::challenge::{ChallengeError, TokenChallenge};
use crate::key::{KeyError, TokenKey};
use crate::origin::Issuer;

/// The most bytes of the file.
pub const MAX_BYTES: usize = 8 << 10;

/// Why a file names no issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It has more than [`MAX_BYTES`].
    TooLarge,
    /// It is not JSON of this form: the reason.
    Json(String),
    /// A name in it is none.
    Name(ChallengeError),
    /// The key in it is none.
    Key(KeyError),
}

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "it has more than {MAX_BYTES} bytes"),
            Self::Json(reason) => write!(
                f,
                "it is not JSON with \"issuer\", \"origin\" and \"token_key\": {reason}"
            ),
            Self::Name(error) => write!(f, "{error}"),
            Self::Key(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for DescriptionError {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    issuer: String,
    origin: String,
    token_key: String,
}

impl Issuer {
    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document {
            issuer: self.name.clone(),
            origin: self.origin_info.clone(),
            token_key: self.token_key.to_base64(),
        };
        let text = serde_json::to_string_pretty(&document);
        text.expect("strings always have a JSON form") + "\n"
    }

    /// Reads the file's text. The names are ones that a challenge can have.
    ///
    /// # Errors
    /// [`DescriptionError`].
    pub fn from_json(text: &[u8]) -> Result<Self, DescriptionError> {
        if text.len() > MAX_BYTES {
            return Err(DescriptionError::TooLarge);
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| DescriptionError::Json(error.to_string()))?;
        TokenChallenge::new(&document.issuer, None, &document.origin)
            .map_err(DescriptionError::Name)?;
        Ok(Self {
            token_key: TokenKey::from_base64(&document.token_key).map_err(DescriptionError::Key)?,
            name: document.issuer,
            origin_info: document.origin,
        })
    }
}
