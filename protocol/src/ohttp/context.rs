//! HPKE contexts behind one type each, whatever the algorithms: the only place that names the `hpke` crate's generics.

use super::OhttpError;
use crate::suite::{Aead, Kem};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm128, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem as HpkeKem, X25519HkdfSha256, XWing};
use hpke::{Deserializable, HpkeError, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// A sender's context: seals in order, exports secrets (RFC 9180, sections 5.2 and 5.3).
pub(super) trait Sender: Send {
    fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, OhttpError>;
    fn export(&self, label: &[u8], out: &mut [u8]);
}

/// A receiver's context: opens in order, exports secrets.
pub(super) trait Receiver: Send {
    fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, OhttpError>;
    fn export(&self, label: &[u8], out: &mut [u8]);
}

impl<A: hpke::aead::Aead + Send, M: HpkeKem + Send> Sender for AeadCtxS<A, HkdfSha256, M> {
    fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, OhttpError> {
        AeadCtxS::seal(self, plaintext, aad).map_err(from_hpke)
    }

    fn export(&self, label: &[u8], out: &mut [u8]) {
        AeadCtxS::export(self, label, out).expect("at most 32 bytes are exported");
    }
}

impl<A: hpke::aead::Aead + Send, M: HpkeKem + Send> Receiver for AeadCtxR<A, HkdfSha256, M> {
    fn open(&mut self, aad: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, OhttpError> {
        AeadCtxR::open(self, ciphertext, aad)
            .map(Zeroizing::new)
            .map_err(from_hpke)
    }

    fn export(&self, label: &[u8], out: &mut [u8]) {
        AeadCtxR::export(self, label, out).expect("at most 32 bytes are exported");
    }
}

fn from_hpke(error: HpkeError) -> OhttpError {
    match error {
        HpkeError::MessageLimitReached => OhttpError::TooManyChunks,
        HpkeError::ValidationError | HpkeError::EncapError | HpkeError::DecapError => {
            OhttpError::InvalidKey
        }
        _ => OhttpError::Unopenable,
    }
}

/// A private key of one of our KEMs. The `hpke` crate's key types wipe themselves when they are dropped.
pub(super) enum PrivateKey {
    XWing(Box<<XWing as HpkeKem>::PrivateKey>),
    X25519(Box<<X25519HkdfSha256 as HpkeKem>::PrivateKey>),
}

impl PrivateKey {
    /// A fresh key pair; the public key is encoded.
    pub(super) fn generate(kem: Kem, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        match kem {
            Kem::XWing => {
                let (private, public) = XWing::gen_keypair_with_rng(rng);
                (Self::XWing(Box::new(private)), public.to_bytes().to_vec())
            }
            Kem::X25519 => {
                let (private, public) = X25519HkdfSha256::gen_keypair_with_rng(rng);
                (Self::X25519(Box::new(private)), public.to_bytes().to_vec())
            }
        }
    }

    /// The key with this encoding, for known-answer tests.
    #[cfg(test)]
    pub(super) fn from_bytes(kem: Kem, bytes: &[u8]) -> (Self, Vec<u8>) {
        match kem {
            Kem::XWing => {
                let private = <XWing as HpkeKem>::PrivateKey::from_bytes(bytes).unwrap();
                let public = XWing::sk_to_pk(&private).to_bytes().to_vec();
                (Self::XWing(Box::new(private)), public)
            }
            Kem::X25519 => {
                let private = <X25519HkdfSha256 as HpkeKem>::PrivateKey::from_bytes(bytes).unwrap();
                let public = X25519HkdfSha256::sk_to_pk(&private).to_bytes().to_vec();
                (Self::X25519(Box::new(private)), public)
            }
        }
    }

    pub(super) fn kem(&self) -> Kem {
        match self {
            Self::XWing(_) => Kem::XWing,
            Self::X25519(_) => Kem::X25519,
        }
    }

    /// `SetupBaseR` (RFC 9180, section 5.1.1).
    pub(super) fn receiver(
        &self,
        aead: Aead,
        encapped: &[u8],
        info: &[u8],
    ) -> Result<Box<dyn Receiver>, OhttpError> {
        match self {
            Self::XWing(key) => receiver_for::<XWing>(key, aead, encapped, info),
            Self::X25519(key) => receiver_for::<X25519HkdfSha256>(key, aead, encapped, info),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.kem())
    }
}

/// Whether these bytes are a public key of this KEM.
pub(crate) fn is_public_key(kem: Kem, bytes: &[u8]) -> bool {
    match kem {
        Kem::XWing => <XWing as HpkeKem>::PublicKey::from_bytes(bytes).is_ok(),
        Kem::X25519 => <X25519HkdfSha256 as HpkeKem>::PublicKey::from_bytes(bytes).is_ok(),
    }
}

/// `SetupBaseS` (RFC 9180, section 5.1.1): the encapsulated key and the context.
pub(super) fn sender(
    kem: Kem,
    aead: Aead,
    public_key: &[u8],
    info: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Box<dyn Sender>), OhttpError> {
    match kem {
        Kem::XWing => sender_for::<XWing>(aead, public_key, info, rng),
        Kem::X25519 => sender_for::<X25519HkdfSha256>(aead, public_key, info, rng),
    }
}

fn sender_for<M: HpkeKem + Send + 'static>(
    aead: Aead,
    public_key: &[u8],
    info: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Box<dyn Sender>), OhttpError> {
    let key = M::PublicKey::from_bytes(public_key).map_err(|_| OhttpError::InvalidKey)?;
    match aead {
        Aead::ChaCha20Poly1305 => sender_with::<ChaCha20Poly1305, M>(&key, info, rng),
        Aead::Aes256Gcm => sender_with::<AesGcm256, M>(&key, info, rng),
        Aead::Aes128Gcm => sender_with::<AesGcm128, M>(&key, info, rng),
    }
}

fn sender_with<A: hpke::aead::Aead + Send + 'static, M: HpkeKem + Send + 'static>(
    key: &M::PublicKey,
    info: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Box<dyn Sender>), OhttpError> {
    let (encapped, context) =
        hpke::setup_sender_with_rng::<A, HkdfSha256, M>(&OpModeS::Base, key, info, rng)
            .map_err(from_hpke)?;
    Ok((encapped.to_bytes().to_vec(), Box::new(context)))
}

fn receiver_for<M: HpkeKem + Send + 'static>(
    key: &M::PrivateKey,
    aead: Aead,
    encapped: &[u8],
    info: &[u8],
) -> Result<Box<dyn Receiver>, OhttpError> {
    let encapped = M::EncappedKey::from_bytes(encapped).map_err(|_| OhttpError::InvalidKey)?;
    match aead {
        Aead::ChaCha20Poly1305 => receiver_with::<ChaCha20Poly1305, M>(key, &encapped, info),
        Aead::Aes256Gcm => receiver_with::<AesGcm256, M>(key, &encapped, info),
        Aead::Aes128Gcm => receiver_with::<AesGcm128, M>(key, &encapped, info),
    }
}

fn receiver_with<A: hpke::aead::Aead + Send + 'static, M: HpkeKem + Send + 'static>(
    key: &M::PrivateKey,
    encapped: &M::EncappedKey,
    info: &[u8],
) -> Result<Box<dyn Receiver>, OhttpError> {
    let context = hpke::setup_receiver::<A, HkdfSha256, M>(&OpModeR::Base, key, encapped, info)
        .map_err(from_hpke)?;
    Ok(Box::new(context))
}
