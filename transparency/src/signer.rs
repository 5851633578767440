//! Who signs: a [`SigningKey`], or something that asks one elsewhere.

use crate::cosignature;
use crate::key::{KeyType, SigningKey, VerifierKey};
use crate::note::{self, Signature};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The signer gave none.
    Unavailable {
        /// What it says, or what happened to it.
        reason: String,
    },
    /// The signer's signature does not hold under its key.
    Invalid,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { reason } => write!(f, "no signature: {reason}"),
            Self::Invalid => write!(
                f,
                "the signer's signature does not hold under its verifier key"
            ),
        }
    }
}

impl core::error::Error for SignError {}

/// Who signs.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The key that its signatures are checked with.
    fn verifier(&self) -> &VerifierKey;

    /// 64 bytes of Ed25519 (RFC 8032) over `message`. Whoever uses them checks them first, as [`sign`] does.
    ///
    /// # Errors
    /// [`SignError::Unavailable`].
    fn sign_message(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

impl Signer for SigningKey {
    fn verifier(&self) -> &VerifierKey {
        self.verifier()
    }

    fn sign_message(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.sign_ed25519(message))
    }
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn verifier(&self) -> &VerifierKey {
        (**self).verifier()
    }

    fn sign_message(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        (**self).sign_message(message)
    }
}

/// The signature line of `signer` on a note's text; of a cosigner with the time `now_s`, in seconds since 1970. It is
/// checked: a signature that does not hold would be believed by nobody, and one whose computation was disturbed could give
/// the key away.
///
/// # Errors
/// [`SignError`].
pub fn sign(signer: &dyn Signer, text: &str, now_s: u64) -> Result<Signature, SignError> {
    let key = signer.verifier();
    let bytes: Vec<u8> = match key.key_type() {
        KeyType::Ed25519 => signer.sign_message(text.as_bytes())?.to_vec(),
        KeyType::CosignatureV1 => cosignature::sign(signer, text, now_s)?,
    };
    let line = Signature {
        name: key.name().into(),
        key_id: key.id(),
        bytes,
    };
    match note::check(key, text, &line) {
        Ok(_) => Ok(line),
        Err(_) => Err(SignError::Invalid),
    }
}
