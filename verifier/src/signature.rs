//! The two signature schemes of AMD's chain. Public keys only: nothing here handles a secret.

use der::asn1::ObjectIdentifier;
use p384::ecdsa::{Signature, VerifyingKey};
use rsa::pss;
use rsa::signature::Verifier;
use rsa::signature::hazmat::PrehashVerifier;
use rsa::{BoxedUint, RsaPublicKey};
use sha2::{Digest, Sha384};

/// Bytes of r, of s, and of a coordinate on P-384.
pub(crate) const SCALAR_BYTES: usize = 48;

/// Bytes of an RSA modulus and of a signature: 4096 bits, in all of AMD's chains.
pub(crate) const RSA_BYTES: usize = 512;

/// The one public exponent that is accepted.
const RSA_EXPONENT: u64 = 65537;

/// id-ecPublicKey.
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp384r1.
pub(crate) const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// rsaEncryption.
pub(crate) const RSA_ENCRYPTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt of 48 bytes (RFC 4055, section 3.1), whole.
pub(crate) const PSS_SHA384: [u8; 67] = [
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30,
    0x34, //
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, //
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, //
    0xa2, 0x03, 0x02, 0x01, 0x30,
];

/// What AMD writes behind the salt's length in many certificates: the trailer field, which DER would leave out as it
/// has its default value. The bytes are accepted as they are; nothing else may stand there.
const EXPLICIT_TRAILER: [u8; 5] = [0xa3, 0x03, 0x02, 0x01, 0x01];

/// Whether an AlgorithmIdentifier is [`PSS_SHA384`], with or without the trailer field.
pub(crate) fn is_pss_sha384(algorithm: &[u8]) -> bool {
    if algorithm == PSS_SHA384 {
        return true;
    }
    let mut with_trailer = [0; PSS_SHA384.len() + EXPLICIT_TRAILER.len()];
    with_trailer[..PSS_SHA384.len()].copy_from_slice(&PSS_SHA384);
    with_trailer[PSS_SHA384.len()..].copy_from_slice(&EXPLICIT_TRAILER);
    with_trailer[1] += EXPLICIT_TRAILER.len() as u8;
    with_trailer[14] += EXPLICIT_TRAILER.len() as u8;
    algorithm == with_trailer
}

/// An ECDSA signature's numbers, big-endian, of any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalars {
    pub(crate) r: [u8; SCALAR_BYTES],
    pub(crate) s: [u8; SCALAR_BYTES],
}

/// Whether (r, s) is the key's ECDSA signature over the SHA-384 of the message. Zero and numbers that are not below the
/// curve's order are not.
pub(crate) fn is_ecdsa(key: &VerifyingKey, message: &[u8], scalars: &Scalars) -> bool {
    Signature::from_scalars(scalars.r, scalars.s).is_ok_and(|signature| {
        key.verify_prehash(&Sha384::digest(message), &signature)
            .is_ok()
    })
}

/// A P-384 key from an uncompressed point.
pub(crate) fn ec_key(point: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_sec1_bytes(point)
        .ok()
        .filter(|_| point.len() == 1 + 2 * SCALAR_BYTES)
}

/// An RSA key of 4096 bits with exponent 65537, from big-endian numbers without leading zeros.
pub(crate) fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<RsaPublicKey> {
    if modulus.len() != RSA_BYTES || exponent != &RSA_EXPONENT.to_be_bytes()[5..] {
        return None;
    }
    let modulus = BoxedUint::from_be_slice(modulus, RSA_BYTES as u32 * 8).ok()?;
    RsaPublicKey::new(modulus, BoxedUint::from(RSA_EXPONENT)).ok()
}

/// Whether `signature` is the key's RSASSA-PSS signature of the message, with the parameters of [`PSS_SHA384`].
pub(crate) fn is_pss(key: &RsaPublicKey, message: &[u8], signature: &[u8]) -> bool {
    // The salt is as long as the digest: 48 bytes.
    let key = pss::VerifyingKey::<Sha384>::new(key.clone());
    signature.len() == RSA_BYTES
        && pss::Signature::try_from(signature)
            .is_ok_and(|signature| key.verify(message, &signature).is_ok())
}
