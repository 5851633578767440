//! Blind RSA: RSABSSA-SHA384-PSS-Deterministic (RFC 9474, section 5). The numbers are the `rsa` crate's; here is what
//! stands between them and the specification.

use alloc::vec;
use alloc::vec::Vec;
use rand_core::CryptoRng;
use rsa::hazmat::{rsa_decrypt_and_check, rsa_encrypt};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha384};
use zeroize::Zeroizing;

use crate::RSA_BYTES;

/// Bits of a number below the modulus.
const BITS: u32 = 8 * RSA_BYTES as u32;
/// Bytes of SHA-384, and of the salt.
pub(crate) const SALT_BYTES: usize = 48;

pub(crate) type Salt = [u8; SALT_BYTES];

/// A number that hides a message from the issuer, and what takes it away again.
pub(crate) struct Blinding {
    number: BoxedUint,
    inverse: BoxedUint,
}

impl Blinding {
    /// A random one.
    pub(crate) fn random(key: &RsaPublicKey, rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut bytes = Zeroizing::new([0; RSA_BYTES]);
            rng.fill_bytes(&mut *bytes);
            // Above the modulus it is thrown away: what is left is uniform. Without an inverse it would be a factor.
            if let Some(blinding) = Self::new(key, &bytes) {
                return blinding;
            }
        }
    }

    /// The one with this number; `None` unless it is one that the key can have.
    pub(crate) fn new(key: &RsaPublicKey, number: &[u8; RSA_BYTES]) -> Option<Self> {
        let number = to_number(number).filter(|number| number < key.n().as_ref())?;
        let inverse: Option<BoxedUint> = number.invert_mod(key.n()).into();
        Some(Self {
            inverse: inverse?,
            number,
        })
    }
}

/// `Blind` (RFC 9474, section 4.2): what the issuer is asked to sign. `None` if the encoded message has a factor in common
/// with the modulus, which for a key of two large primes never happens.
pub(crate) fn blind(
    key: &RsaPublicKey,
    message: &[u8],
    salt: &Salt,
    blinding: &Blinding,
) -> Option<[u8; RSA_BYTES]> {
    let encoded = to_number(&encode(message, salt))?;
    let inverse: Option<BoxedUint> = encoded.invert_mod(key.n()).into();
    inverse?;
    let factor = rsa_encrypt(key, &blinding.number).ok()?;
    Some(to_bytes(&encoded.mul_mod(&factor, key.n())))
}

/// `BlindSign` (section 4.3); `None` if the message is not below the modulus, or the key's numbers do not fit together. The
/// private exponent meets no number that the client chose: `rsa` blinds each once more.
pub(crate) fn sign(
    key: &RsaPrivateKey,
    blinded: &[u8; RSA_BYTES],
    rng: &mut impl CryptoRng,
) -> Option<[u8; RSA_BYTES]> {
    let number = to_number(blinded)?;
    rsa_decrypt_and_check(key, Some(rng), &number)
        .ok()
        .map(|signature| to_bytes(&signature))
}

/// The unblinding of `Finalize` (section 4.4); the caller checks the signature.
pub(crate) fn unblind(
    key: &RsaPublicKey,
    signature: &[u8; RSA_BYTES],
    blinding: &Blinding,
) -> Option<[u8; RSA_BYTES]> {
    let number = to_number(signature).filter(|number| number < key.n().as_ref())?;
    Some(to_bytes(&number.mul_mod(&blinding.inverse, key.n())))
}

/// EMSA-PSS-ENCODE (RFC 8017, section 9.1.1) into 2047 bits.
fn encode(message: &[u8], salt: &Salt) -> [u8; RSA_BYTES] {
    let digest = Sha384::new()
        .chain_update([0; 8])
        .chain_update(Sha384::digest(message))
        .chain_update(salt)
        .finalize();
    let mut encoded = [0; RSA_BYTES];
    let (block, tail) = encoded.split_at_mut(RSA_BYTES - SALT_BYTES - 1);
    let at = block.len() - SALT_BYTES;
    block[at - 1] = 1;
    block[at..].copy_from_slice(salt);
    for (byte, mask) in block.iter_mut().zip(mask(&digest)) {
        *byte ^= mask;
    }
    block[0] &= 0x7f;
    tail[..SALT_BYTES].copy_from_slice(&digest);
    tail[SALT_BYTES] = 0xbc;
    encoded
}

/// MGF1 (RFC 8017, appendix B.2.1), at least as long as an encoded message.
fn mask(seed: &[u8]) -> Vec<u8> {
    let mut mask = vec![];
    for counter in 0..RSA_BYTES.div_ceil(SALT_BYTES) as u32 {
        let digest = Sha384::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes());
        mask.extend_from_slice(&digest.finalize());
    }
    mask
}

fn to_number(bytes: &[u8; RSA_BYTES]) -> Option<BoxedUint> {
    BoxedUint::from_be_slice(bytes, BITS).ok()
}

fn to_bytes(number: &BoxedUint) -> [u8; RSA_BYTES] {
    let mut bytes = [0; RSA_BYTES];
    bytes.copy_from_slice(&number.to_be_bytes());
    bytes
}
