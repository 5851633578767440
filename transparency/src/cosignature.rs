//! Cosignatures of kind cosignature/v1 (C2SP tlog-cosignature): Ed25519 over a time and a checkpoint.

use crate::decimal::MAX_NUMBER;
use crate::key::{SigningKey, VerifierKey};
use crate::signer::{SignError, Signer};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a cosignature: a big-endian time in seconds since 1970, and 64 bytes of Ed25519.
pub const COSIGNATURE_BYTES: usize = 8 + 64;

/// The message: two lines in front of the checkpoint's text.
fn message(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// The timestamped signature of `signer` on a checkpoint's text.
pub(crate) fn sign(signer: &dyn Signer, text: &str, time_s: u64) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign_message(message(text, time_s).as_bytes())?;
    Ok(with_time(time_s, &signature))
}

/// The same by a key in memory.
pub(crate) fn sign_with_key(key: &SigningKey, text: &str, time_s: u64) -> Vec<u8> {
    with_time(time_s, &key.sign_ed25519(message(text, time_s).as_bytes()))
}

fn with_time(time_s: u64, signature: &[u8; 64]) -> Vec<u8> {
    [&time_s.to_be_bytes()[..], signature].concat()
}

/// The time of a cosignature that holds. A time of 0 says nothing about when, and one above 2^63 - 1 is not allowed.
pub(crate) fn check(key: &VerifierKey, text: &str, bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; COSIGNATURE_BYTES] = bytes.try_into().ok()?;
    let (time, signature) = bytes.split_first_chunk::<8>()?;
    let time_s = u64::from_be_bytes(*time);
    let valid = (1..=MAX_NUMBER).contains(&time_s)
        && key.verify_ed25519(message(text, time_s).as_bytes(), signature.try_into().ok()?);
    valid.then_some(time_s)
}
