//! The issuer's side (RFC 9578, section 6.2): it signs what it cannot see.

use alloc::vec::Vec;
use core::fmt;
use rand_core::CryptoRng;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::traits::PublicKeyParts;
use zeroize::Zeroizing;

use crate::RSA_BYTES;
use crate::blind;
use crate::key::{KeyError, TokenKey};
use crate::request::TokenRequest;

/// An issuer's private key.
pub struct IssuerKey {
    private: RsaPrivateKey,
    public: TokenKey,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssuerKeyError {
    /// It is not an RSA key in PKCS #8, or its numbers do not fit together.
    Encoding,
    /// It is not one of 2048 bits and exponent 65537.
    Kind,
    /// No key could be made.
    Generate,
}

impl fmt::Display for IssuerKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "it is not a sound RSA key in PKCS #8",
            Self::Kind => "it is not an RSA key of 2048 bits with exponent 65537",
            Self::Generate => "no RSA key could be made",
        })
    }
}

impl core::error::Error for IssuerKeyError {}

impl From<KeyError> for IssuerKeyError {
    fn from(_: KeyError) -> Self {
        Self::Kind
    }
}

/// Why a request is not answered with a signature; RFC 9578 has 422 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IssueError {
    /// It names another key.
    OtherKey,
    /// The blinded message is not a number below the key's modulus.
    Message,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherKey => "the request is for a key that is not here; see the directory",
            Self::Message => "the blinded message is not below the key's modulus",
        })
    }
}

impl core::error::Error for IssueError {}

impl IssuerKey {
    /// A fresh key. It takes a while.
    ///
    /// # Errors
    /// [`IssuerKeyError::Generate`].
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, IssuerKeyError> {
        let key = RsaPrivateKey::new(rng, 8 * RSA_BYTES);
        Self::new(key.map_err(|_| IssuerKeyError::Generate)?)
    }

    /// The key in this PKCS #8 (RFC 5958), in DER.
    ///
    /// # Errors
    /// [`IssuerKeyError`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IssuerKeyError> {
        let key = RsaPrivateKey::from_pkcs8_der(der).map_err(|_| IssuerKeyError::Encoding)?;
        key.validate().map_err(|_| IssuerKeyError::Encoding)?;
        Self::new(key)
    }

    fn new(mut private: RsaPrivateKey) -> Result<Self, IssuerKeyError> {
        private.precompute().map_err(|_| IssuerKeyError::Encoding)?;
        let modulus = private.n_bytes();
        let modulus = (*modulus).try_into().map_err(|_| IssuerKeyError::Kind)?;
        let public = TokenKey::from_modulus(modulus)?;
        if public.rsa().as_ref() != Some(private.as_public_key()) {
            return Err(IssuerKeyError::Kind);
        }
        Ok(Self { private, public })
    }

    /// The key as PKCS #8, in DER.
    ///
    /// # Errors
    /// [`IssuerKeyError::Encoding`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, IssuerKeyError> {
        let document = self.private.to_pkcs8_der();
        let document = document.map_err(|_| IssuerKeyError::Encoding)?;
        Ok(document.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &TokenKey {
        &self.public
    }

    /// Signs what a client asks for, unseen: the answer's bytes.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        request: &TokenRequest,
        rng: &mut impl CryptoRng,
    ) -> Result<[u8; RSA_BYTES], IssueError> {
        if request.truncated_token_key_id != self.public.truncated_id() {
            return Err(IssueError::OtherKey);
        }
        blind::sign(&self.private, &request.blinded_message, rng).ok_or(IssueError::Message)
    }
}
