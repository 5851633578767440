//! The issuer's public key (RFC 9578, section 6.5), and the check of a token.

use alloc::vec::Vec;
use core::fmt;
use ring::signature::{RSA_PSS_2048_8192_SHA384, RsaPublicKeyComponents};
#[cfg(feature = "host")]
use rsa::{BoxedUint, RsaPublicKey};
use sha2::{Digest, Sha256};

use crate::token::Token;
use crate::{DIGEST_BYTES, RSA_BYTES};

/// Bytes of a key's encoding.
pub const SPKI_BYTES: usize = PREFIX.len() + RSA_BYTES + SUFFIX.len();

/// SubjectPublicKeyInfo up to the modulus: id-RSASSA-PSS with SHA-384, MGF1 with SHA-384, a salt of 48 bytes, and a
/// modulus of 2048 bits behind the zero byte that DER needs.
const PREFIX: [u8; 81] = [
    0x30, 0x82, 0x01, 0x52, // SubjectPublicKeyInfo
    0x30, 0x3d, // AlgorithmIdentifier
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, // id-RSASSA-PSS
    0x30, 0x30, // RSASSA-PSS-params
    0xa0, 0x0d, 0x30, 0x0b, // hashAlgorithm
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, // id-sha384
    0xa1, 0x1a, 0x30, 0x18, // maskGenAlgorithm
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, // id-mgf1
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, // id-sha384
    0xa2, 0x03, 0x02, 0x01, 0x30, // saltLength
    0x03, 0x82, 0x01, 0x0f, 0x00, // subjectPublicKey
    0x30, 0x82, 0x01, 0x0a, // RSAPublicKey
    0x02, 0x82, 0x01, 0x01, 0x00, // modulus
];
/// The public exponent, 65537.
const SUFFIX: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// The one public exponent that is taken: 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// A token key: RSASSA-PSS, 2048 bits, exponent 65537.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    spki: [u8; SPKI_BYTES],
    id: [u8; DIGEST_BYTES],
}

/// Why a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It is not the SubjectPublicKeyInfo of RFC 9578, section 6.5, with 2048 bits and exponent 65537.
    Encoding,
    /// The modulus is even, or below 2^2047.
    Modulus,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => write!(
                f,
                "it is not a token key: the SubjectPublicKeyInfo of RFC 9578, section 6.5, for RSASSA-PSS with SHA-384, 2048 bits and exponent 65537"
            ),
            Self::Modulus => write!(
                f,
                "the token key's modulus is not an odd number of 2048 bits"
            ),
        }
    }
}

impl core::error::Error for KeyError {}

impl TokenKey {
    /// Reads a key: exactly the encoding of RFC 9578, section 6.5, so that one key has one id.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let modulus = spki
            .strip_prefix(&PREFIX)
            .and_then(|rest| rest.strip_suffix(&SUFFIX))
            .ok_or(KeyError::Encoding)?;
        Self::from_modulus(modulus.try_into().map_err(|_| KeyError::Encoding)?)
    }

    /// The key with this modulus, big-endian.
    ///
    /// # Errors
    /// [`KeyError::Modulus`].
    pub fn from_modulus(modulus: &[u8; RSA_BYTES]) -> Result<Self, KeyError> {
        if modulus[0] < 0x80 || modulus[RSA_BYTES - 1].is_multiple_of(2) {
            return Err(KeyError::Modulus);
        }
        let mut spki = [0; SPKI_BYTES];
        spki[..PREFIX.len()].copy_from_slice(&PREFIX);
        spki[PREFIX.len()..][..RSA_BYTES].copy_from_slice(modulus);
        spki[PREFIX.len() + RSA_BYTES..].copy_from_slice(&SUFFIX);
        Ok(Self {
            id: Sha256::digest(spki).into(),
            spki,
        })
    }

    /// The key's encoding.
    #[must_use]
    pub fn spki(&self) -> &[u8; SPKI_BYTES] {
        &self.spki
    }

    /// The key's id: SHA-256 of its encoding.
    #[must_use]
    pub fn id(&self) -> &[u8; DIGEST_BYTES] {
        &self.id
    }

    /// The last byte of the id, which requests name a key by.
    #[must_use]
    pub fn truncated_id(&self) -> u8 {
        self.id[DIGEST_BYTES - 1]
    }

    /// Whether the key signed the token: RSASSA-PSS with SHA-384 and a salt of 48 bytes (RFC 9578, section 6.4). Which
    /// key the token names is not looked at.
    #[must_use]
    pub fn has_signed(&self, token: &Token) -> bool {
        // The salt is as long as the digest: 48 bytes.
        let key = RsaPublicKeyComponents {
            n: self.modulus(),
            e: &EXPONENT,
        };
        let (input, signature) = (token.input(), &token.authenticator);
        key.verify(&RSA_PSS_2048_8192_SHA384, &input, signature)
            .is_ok()
    }

    fn modulus(&self) -> &[u8] {
        &self.spki[PREFIX.len()..][..RSA_BYTES]
    }

    /// The numbers of the key; `None` if they are no key's.
    #[cfg(feature = "host")]
    #[must_use]
    pub fn rsa(&self) -> Option<RsaPublicKey> {
        let modulus = BoxedUint::from_be_slice(self.modulus(), 8 * RSA_BYTES as u32).ok()?;
        let exponent = BoxedUint::from(u32::from_be_bytes([
            0,
            EXPONENT[0],
            EXPONENT[1],
            EXPONENT[2],
        ]));
        RsaPublicKey::new(modulus, exponent).ok()
    }

    /// The key's encoding as text: base64url with padding, as in `token-key`.
    #[must_use]
    pub fn to_base64(&self) -> alloc::string::String {
        use base64ct::{Base64Url, Encoding};
        Base64Url::encode_string(&self.spki)
    }

    /// Reads that text.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        use base64ct::{Base64Url, Encoding};
        let spki: Vec<u8> = Base64Url::decode_vec(text).map_err(|_| KeyError::Encoding)?;
        Self::from_spki(&spki)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey ")?;
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
