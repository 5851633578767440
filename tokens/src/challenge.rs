//! What a token is for: `TokenChallenge` (RFC 9577, section 2.1).

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

use crate::{DIGEST_BYTES, TOKEN_TYPE};

/// The longest issuer name in bytes, which is that of a host name.
pub const MAX_ISSUER_NAME_BYTES: usize = 255;
/// The longest origin info in bytes: a few names.
pub const MAX_ORIGIN_INFO_BYTES: usize = 1024;
/// Bytes of a redemption context that is not empty.
pub const CONTEXT_BYTES: usize = 32;

/// A challenge. A token is bound to its SHA-256, and good for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChallenge {
    issuer_name: String,
    redemption_context: Option<[u8; CONTEXT_BYTES]>,
    origin_info: String,
}

/// Why a challenge is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeError {
    /// It ended too early, or has bytes behind its end.
    Length,
    /// Another token type.
    TokenType(u16),
    /// The issuer's name is empty, too long, or not printable ASCII.
    IssuerName,
    /// The redemption context has neither 0 nor 32 bytes.
    RedemptionContext,
    /// The origin info is too long, or not printable ASCII.
    OriginInfo,
}

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "the challenge is cut short or too long"),
            Self::TokenType(found) => {
                write!(f, "the challenge is for tokens of type {found}, not 2")
            }
            Self::IssuerName => write!(
                f,
                "the issuer's name is not 1 to {MAX_ISSUER_NAME_BYTES} printable ASCII characters"
            ),
            Self::RedemptionContext => {
                write!(
                    f,
                    "the redemption context is not 0 or {CONTEXT_BYTES} bytes"
                )
            }
            Self::OriginInfo => write!(
                f,
                "the origin info is not at most {MAX_ORIGIN_INFO_BYTES} printable ASCII characters"
            ),
        }
    }
}

impl core::error::Error for ChallengeError {}

impl TokenChallenge {
    /// A challenge for tokens of the issuer `issuer_name`, for the origins `origin_info` (names separated by commas, or
    /// nothing: any origin), in one context or in any.
    ///
    /// # Errors
    /// [`ChallengeError::IssuerName`], [`ChallengeError::OriginInfo`].
    pub fn new(
        issuer_name: &str,
        redemption_context: Option<[u8; CONTEXT_BYTES]>,
        origin_info: &str,
    ) -> Result<Self, ChallengeError> {
        if issuer_name.is_empty() || !is_text(issuer_name.as_bytes(), MAX_ISSUER_NAME_BYTES) {
            return Err(ChallengeError::IssuerName);
        }
        if !is_text(origin_info.as_bytes(), MAX_ORIGIN_INFO_BYTES) {
            return Err(ChallengeError::OriginInfo);
        }
        Ok(Self {
            issuer_name: issuer_name.into(),
            redemption_context,
            origin_info: origin_info.into(),
        })
    }

    /// Reads a challenge that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ChallengeError> {
        let (token_type, rest) = bytes.split_first_chunk().ok_or(ChallengeError::Length)?;
        let token_type = u16::from_be_bytes(*token_type);
        if token_type != TOKEN_TYPE {
            return Err(ChallengeError::TokenType(token_type));
        }
        let (issuer_name, rest) = prefixed::<2>(rest)?;
        let (context, rest) = prefixed::<1>(rest)?;
        let (origin_info, rest) = prefixed::<2>(rest)?;
        if !rest.is_empty() {
            return Err(ChallengeError::Length);
        }
        let context = match context {
            [] => None,
            context => Some(
                context
                    .try_into()
                    .map_err(|_| ChallengeError::RedemptionContext)?,
            ),
        };
        let text = |bytes, error| core::str::from_utf8(bytes).map_err(|_| error);
        Self::new(
            text(issuer_name, ChallengeError::IssuerName)?,
            context,
            text(origin_info, ChallengeError::OriginInfo)?,
        )
    }

    /// The challenge's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let context = self.redemption_context.as_ref().map_or(&[][..], |c| &c[..]);
        // The lengths were checked: they fit.
        let length = |text: &String| (text.len() as u16).to_be_bytes();
        [
            &TOKEN_TYPE.to_be_bytes()[..],
            &length(&self.issuer_name),
            self.issuer_name.as_bytes(),
            &[context.len() as u8],
            context,
            &length(&self.origin_info),
            self.origin_info.as_bytes(),
        ]
        .concat()
    }

    /// SHA-256 of the challenge, which its tokens hold.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        Sha256::digest(self.encode()).into()
    }

    /// The issuer's name.
    #[must_use]
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// Names of the origins that take the token, separated by commas; empty: any.
    #[must_use]
    pub fn origin_info(&self) -> &str {
        &self.origin_info
    }

    /// The context that the token is good in; `None`: any.
    #[must_use]
    pub fn redemption_context(&self) -> Option<&[u8; CONTEXT_BYTES]> {
        self.redemption_context.as_ref()
    }
}

fn is_text(bytes: &[u8], most_bytes: usize) -> bool {
    bytes.len() <= most_bytes && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// What stands behind its length of `N` bytes, and what follows.
fn prefixed<const N: usize>(bytes: &[u8]) -> Result<(&[u8], &[u8]), ChallengeError> {
    let (length, rest) = bytes
        .split_first_chunk::<N>()
        .ok_or(ChallengeError::Length)?;
    let length = length
        .iter()
        .fold(0, |all, byte| all << 8 | usize::from(*byte));
    rest.split_at_checked(length).ok_or(ChallengeError::Length)
}

impl fmt::Display for TokenChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin_info.as_str() {
            "" => &"any origin".to_string(),
            _ => &self.origin_info,
        };
        write!(f, "a token of {} for {origin}", self.issuer_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for context in [None, Some([7; CONTEXT_BYTES])] {
            for origin in ["", "a.example", "a.example,b.example"] {
                let challenge = TokenChallenge::new("issuer.example", context, origin).unwrap();
                let bytes = challenge.encode();
                assert_eq!(TokenChallenge::decode(&bytes), Ok(challenge));
                for length in 0..bytes.len() {
                    assert!(
                        TokenChallenge::decode(&bytes[..length]).is_err(),
                        "{length}"
                    );
                }
                let longer = [&bytes[..], &[0]].concat();
                assert_eq!(TokenChallenge::decode(&longer), Err(ChallengeError::Length));
            }
        }
    }

    #[test]
    fn limits_hold_in_both_directions() {
        let new = |issuer: &str, origin: &str| TokenChallenge::new(issuer, None, origin);
        assert_eq!(new("", "o"), Err(ChallengeError::IssuerName));
        assert_eq!(new("i\u{e9}", "o"), Err(ChallengeError::IssuerName));
        assert_eq!(new(&"i".repeat(256), "o"), Err(ChallengeError::IssuerName));
        assert_eq!(new("i", "o\n"), Err(ChallengeError::OriginInfo));
        assert_eq!(new("i", &"o".repeat(1025)), Err(ChallengeError::OriginInfo));
        let bytes = [&[0, 2, 0, 1, b'i', 31][..], &[0; 31], &[0, 0]].concat();
        assert_eq!(
            TokenChallenge::decode(&bytes),
            Err(ChallengeError::RedemptionContext)
        );
        let other_type = [0, 1, 0, 1, b'i', 0, 0, 0];
        assert_eq!(
            TokenChallenge::decode(&other_type),
            Err(ChallengeError::TokenType(1))
        );
        let long = [&[0, 2, 1, 0][..], &[b'i'; 256], &[0, 0, 0]].concat();
        assert_eq!(
            TokenChallenge::decode(&long),
            Err(ChallengeError::IssuerName)
        );
    }
}
