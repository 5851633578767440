//! The token: `Token` (RFC 9577, section 2.2; RFC 9578, section 6).

use alloc::vec::Vec;

use crate::{DIGEST_BYTES, RSA_BYTES, TOKEN_TYPE};

/// Bytes of what the issuer signs.
pub const INPUT_BYTES: usize = 2 + 3 * DIGEST_BYTES;
/// Bytes of a token.
pub const TOKEN_BYTES: usize = INPUT_BYTES + RSA_BYTES;

/// A token. Whoever has it can spend it, once: it shows in no output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Chosen by the client at random; what makes the token this one.
    pub nonce: [u8; DIGEST_BYTES],
    /// SHA-256 of the challenge that it answers.
    pub challenge_digest: [u8; DIGEST_BYTES],
    /// SHA-256 of the key that signed it.
    pub token_key_id: [u8; DIGEST_BYTES],
    /// The signature: RSASSA-PSS over [`Token::input`].
    pub authenticator: [u8; RSA_BYTES],
}

impl Token {
    /// Reads a token that fills `bytes` exactly; `None` if it has another length or another type.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (token_type, rest) = bytes.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (challenge_digest, rest) = rest.split_first_chunk()?;
        let (token_key_id, rest) = rest.split_first_chunk()?;
        let authenticator = rest.try_into().ok()?;
        (u16::from_be_bytes(*token_type) == TOKEN_TYPE).then_some(Self {
            nonce: *nonce,
            challenge_digest: *challenge_digest,
            token_key_id: *token_key_id,
            authenticator,
        })
    }

    /// The token's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.input()[..], &self.authenticator].concat()
    }

    /// What the authenticator signs: all that stands before it.
    #[must_use]
    pub fn input(&self) -> [u8; INPUT_BYTES] {
        input(&self.nonce, &self.challenge_digest, &self.token_key_id)
    }
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token")
    }
}

/// What the issuer signs for a token with these fields.
#[must_use]
pub fn input(
    nonce: &[u8; DIGEST_BYTES],
    challenge_digest: &[u8; DIGEST_BYTES],
    token_key_id: &[u8; DIGEST_BYTES],
) -> [u8; INPUT_BYTES] {
    let mut input = [0; INPUT_BYTES];
    input[..2].copy_from_slice(&TOKEN_TYPE.to_be_bytes());
    for (part, bytes) in [nonce, challenge_digest, token_key_id]
        .into_iter()
        .enumerate()
    {
        input[2 + part * DIGEST_BYTES..][..DIGEST_BYTES].copy_from_slice(bytes);
    }
    input
}
