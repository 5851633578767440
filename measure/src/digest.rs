//! The launch digest as a value: 48 bytes, written as 96 lower-case hexadecimal digits.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha384};
use std::fmt;
use std::str::FromStr;

/// Bytes of SHA-384, the digest of SEV-SNP launches and of TDX's MRTD.
pub const SHA384_BYTES: usize = 48;

/// A launch digest: `MEASUREMENT` of an SNP report, or MRTD of a TD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaunchDigest(pub [u8; SHA384_BYTES]);

impl LaunchDigest {
    /// What an SNP launch starts with: all zeros.
    pub const ZERO: Self = Self([0; SHA384_BYTES]);
}

/// A text that is not a launch digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// Another number of characters.
    #[error("a launch digest has 96 hexadecimal digits, this text has {0} characters")]
    Length(usize),
    /// A character that is no hexadecimal digit.
    #[error("character {0} of the launch digest is not a hexadecimal digit")]
    Digit(usize),
}

impl FromStr for LaunchDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let characters = text.chars().count();
        if characters != 2 * SHA384_BYTES {
            return Err(ParseDigestError::Length(characters));
        }
        let mut digest = [0; SHA384_BYTES];
        for (at, character) in text.chars().enumerate() {
            let digit = character
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or(ParseDigestError::Digit(at + 1))?;
            digest[at / 2] = digest[at / 2] << 4 | digit;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LaunchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaunchDigest({self})")
    }
}

impl Serialize for LaunchDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LaunchDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// SHA-384 of `bytes`.
pub(crate) fn sha384(bytes: &[u8]) -> [u8; SHA384_BYTES] {
    Sha384::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_goes_both_ways() {
        let digest = LaunchDigest(std::array::from_fn(|i| (i * 5) as u8));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(
            "ab".parse::<LaunchDigest>(),
            Err(ParseDigestError::Length(2))
        );
        let mut text = "0".repeat(95);
        text.push('g');
        assert_eq!(
            text.parse::<LaunchDigest>(),
            Err(ParseDigestError::Digit(96))
        );
        let text = "é".repeat(96);
        assert_eq!(
            text.parse::<LaunchDigest>(),
            Err(ParseDigestError::Digit(1))
        );
    }
}
