//! ring in the guest: keys from random bytes, and answers that are known.

use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey,
};
use ring::{aead, agreement, digest};

/// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
const SHA256_OF_ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
    0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];

/// Runs all of it.
pub(super) fn run() -> Result<(), Unspecified> {
    let random = SystemRandom::new();
    require(digest::digest(&digest::SHA256, b"abc").as_ref() == SHA256_OF_ABC)?;
    signatures(&random)?;
    agreements(&random)?;
    for algorithm in [&aead::AES_256_GCM, &aead::CHACHA20_POLY1305] {
        seal_and_open(algorithm, &random)?;
    }
    Ok(())
}

fn signatures(random: &SystemRandom) -> Result<(), Unspecified> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(random)?;
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| Unspecified)?;
    let signature = key.sign(b"message");
    let public = UnparsedPublicKey::new(&ED25519, key.public_key());
    public.verify(b"message", signature.as_ref())?;
    require(public.verify(b"massage", signature.as_ref()).is_err())?;

    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, random)?;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), random);
    let key = key.map_err(|_| Unspecified)?;
    let signature = key.sign(random, b"message")?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key());
    public.verify(b"message", signature.as_ref())?;
    require(public.verify(b"massage", signature.as_ref()).is_err())
}

fn agreements(random: &SystemRandom) -> Result<(), Unspecified> {
    for algorithm in [&agreement::X25519, &agreement::ECDH_P256] {
        let ours = agreement::EphemeralPrivateKey::generate(algorithm, random)?;
        let theirs = agreement::EphemeralPrivateKey::generate(algorithm, random)?;
        let our_public = ours.compute_public_key()?;
        let their_public = theirs.compute_public_key()?;
        require(our_public.as_ref() != their_public.as_ref())?;
        let agree = |private, public: agreement::PublicKey| {
            let public = agreement::UnparsedPublicKey::new(algorithm, public);
            agreement::agree_ephemeral(private, &public, digest_of)
        };
        require(agree(ours, their_public)? == agree(theirs, our_public)?)?;
    }
    Ok(())
}

fn digest_of(secret: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, secret);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// Runs through the code for many blocks and through the code for the rest.
const CLEAR_BYTES: usize = 1003;

fn seal_and_open(
    algorithm: &'static aead::Algorithm,
    random: &SystemRandom,
) -> Result<(), Unspecified> {
    let mut key = [0; 32];
    random.fill(&mut key)?;
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, &key)?);
    let nonce = || aead::Nonce::assume_unique_for_key([9; aead::NONCE_LEN]);
    let clear: [u8; CLEAR_BYTES] = core::array::from_fn(|i| i as u8);
    let mut sealed = [0; CLEAR_BYTES + 16];
    let (text, room) = sealed.split_at_mut(CLEAR_BYTES);
    text.copy_from_slice(&clear);
    let tag = key.seal_in_place_separate_tag(nonce(), aead::Aad::from(b"aad"), text)?;
    room.copy_from_slice(tag.as_ref());
    require(sealed[..CLEAR_BYTES] != clear)?;
    let mut altered = sealed;
    altered[500] ^= 1;
    let refused = key.open_in_place(nonce(), aead::Aad::from(b"aad"), &mut altered);
    require(refused.is_err())?;
    let opened = key.open_in_place(nonce(), aead::Aad::from(b"aad"), &mut sealed)?;
    require(*opened == clear)
}

fn require(holds: bool) -> Result<(), Unspecified> {
    holds.then_some(()).ok_or(Unspecified)
}
