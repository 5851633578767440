//! A server's public key, by its hash.

use std::fmt;
use std::str::FromStr;

use cloister_protocol::evidence::to_hex;
use sha2::{Digest, Sha256};

/// SHA-256 of a public key (SubjectPublicKeyInfo in DER, RFC 5280, section 4.1), written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

/// These are not the digits of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 64 hexadecimal digits: the SHA-256 of the key (SubjectPublicKeyInfo, DER), as `cloister verify` shows it"
)]
pub struct KeyDigestError;

impl KeyDigest {
    /// Of this key, SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn of(public_key: &[u8]) -> Self {
        Self(Sha256::digest(public_key).into())
    }
}

impl FromStr for KeyDigest {
    type Err = KeyDigestError;

    fn from_str(text: &str) -> Result<Self, KeyDigestError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(KeyDigestError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(KeyDigestError);
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        // SHA-256 of nothing (FIPS 180-4).
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = KeyDigest::of(b"");
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for wrong in [
            "",
            "00",
            &text[1..],
            &format!("{text}0"),
            &text.replace('e', "g"),
        ] {
            assert_eq!(wrong.parse::<KeyDigest>(), Err(KeyDigestError), "{wrong}");
        }
    }
}
