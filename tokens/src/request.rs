//! The client's side of issuance (RFC 9578, sections 6.1 and 6.3): a request that hides the token from the issuer, and the
//! token out of the answer.

use core::fmt;
use rand_core::CryptoRng;

use crate::blind::{self, Blinding, SALT_BYTES, Salt};
use crate::challenge::TokenChallenge;
use crate::key::TokenKey;
use crate::token::{self, Token};
use crate::{DIGEST_BYTES, RSA_BYTES, TOKEN_TYPE};

/// Media type of a request.
pub const REQUEST_TYPE: &str = "application/private-token-request";
/// Media type of a response.
pub const RESPONSE_TYPE: &str = "application/private-token-response";

/// Bytes of a request.
pub const REQUEST_BYTES: usize = 2 + 1 + RSA_BYTES;

/// What the issuer gets: `TokenRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The last byte of the key's id.
    pub truncated_token_key_id: u8,
    /// The message, blinded.
    pub blinded_message: [u8; RSA_BYTES],
}

impl TokenRequest {
    /// Reads a request that fills `bytes` exactly; `None` if it has another length or another type.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (token_type, rest) = bytes.split_first_chunk()?;
        let (truncated_token_key_id, rest) = rest.split_first()?;
        (u16::from_be_bytes(*token_type) == TOKEN_TYPE).then_some(Self {
            truncated_token_key_id: *truncated_token_key_id,
            blinded_message: rest.try_into().ok()?,
        })
    }

    /// The request's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..2].copy_from_slice(&TOKEN_TYPE.to_be_bytes());
        bytes[2] = self.truncated_token_key_id;
        bytes[3..].copy_from_slice(&self.blinded_message);
        bytes
    }
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinalizeError {
    /// The answer has another length, or is not below the modulus.
    Response,
    /// The issuer has not signed what it was asked to, or with another key.
    Signature,
}

impl fmt::Display for FinalizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response => write!(
                f,
                "the issuer's answer is not {RSA_BYTES} bytes of a signature"
            ),
            Self::Signature => write!(f, "the issuer's answer is no signature by its token key"),
        }
    }
}

impl core::error::Error for FinalizeError {}

/// A token that still needs the issuer's signature.
pub struct Pending {
    key: TokenKey,
    nonce: [u8; DIGEST_BYTES],
    challenge_digest: [u8; DIGEST_BYTES],
    blinding: Blinding,
}

impl Pending {
    /// Begins a token of this key for a challenge. `None` for a key that is no product of two large primes.
    pub fn new(
        key: &TokenKey,
        challenge: &TokenChallenge,
        rng: &mut impl CryptoRng,
    ) -> Option<(TokenRequest, Self)> {
        let mut nonce = [0; DIGEST_BYTES];
        rng.fill_bytes(&mut nonce);
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        let blinding = Blinding::random(&key.rsa()?, rng);
        Self::with(key, challenge, nonce, &salt, blinding)
    }

    fn with(
        key: &TokenKey,
        challenge: &TokenChallenge,
        nonce: [u8; DIGEST_BYTES],
        salt: &Salt,
        blinding: Blinding,
    ) -> Option<(TokenRequest, Self)> {
        let challenge_digest = challenge.digest();
        let message = token::input(&nonce, &challenge_digest, key.id());
        let request = TokenRequest {
            truncated_token_key_id: key.truncated_id(),
            blinded_message: blind::blind(&key.rsa()?, &message, salt, &blinding)?,
        };
        let pending = Self {
            key: key.clone(),
            nonce,
            challenge_digest,
            blinding,
        };
        Some((request, pending))
    }

    /// The token, out of the issuer's answer.
    ///
    /// # Errors
    /// [`FinalizeError`].
    pub fn finalize(self, response: &[u8]) -> Result<Token, FinalizeError> {
        let response = response.try_into().map_err(|_| FinalizeError::Response)?;
        let key = self.key.rsa();
        let authenticator = key.and_then(|key| blind::unblind(&key, response, &self.blinding));
        let token = Token {
            nonce: self.nonce,
            challenge_digest: self.challenge_digest,
            token_key_id: *self.key.id(),
            authenticator: authenticator.ok_or(FinalizeError::Response)?,
        };
        match self.key.has_signed(&token) {
            true => Ok(token),
            false => Err(FinalizeError::Signature),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
