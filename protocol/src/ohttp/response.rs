//! The key schedule and the AEAD of a response (RFC 9458, section 4.4): outside HPKE, derived from its exporter.

use super::OhttpError;
use crate::suite::{Aead, NONCE_BYTES, TAG_BYTES};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use alloc::boxed::Box;
use alloc::vec::Vec;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The most bytes of a secret or a nonce: `max(Nn, Nk)` over all AEADs.
const MAX_SECRET_BYTES: usize = 32;

/// What both sides hold between request and response: the exported secret and the encapsulated key. The secret never
/// moves: whoever holds this for a while may move it, and a move leaves a copy behind.
pub(super) struct ResponseSecret {
    aead: Aead,
    secret: Box<Zeroizing<[u8; MAX_SECRET_BYTES]>>,
    encapped: Vec<u8>,
}

impl ResponseSecret {
    /// Takes the secret out of an HPKE context through `export`, which fills what it is given.
    pub(super) fn new(aead: Aead, encapped: &[u8], export: impl FnOnce(&mut [u8])) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; MAX_SECRET_BYTES]));
        export(&mut secret[..aead.response_nonce_bytes()]);
        Self {
            aead,
            secret,
            encapped: encapped.to_vec(),
        }
    }

    /// Bytes of the response nonce.
    pub(super) fn nonce_bytes(&self) -> usize {
        self.aead.response_nonce_bytes()
    }

    /// Key and nonce of the response with this response nonce.
    pub(super) fn cipher(&self, response_nonce: &[u8]) -> ResponseCipher {
        let secret = &self.secret[..self.nonce_bytes()];
        let salt = [&self.encapped, response_nonce].concat();
        let prk = Hkdf::<Sha256>::new(Some(&salt), secret);
        let mut key = Zeroizing::new([0; MAX_SECRET_BYTES]);
        let key = &mut key[..self.aead.key_bytes()];
        let mut base_nonce = Box::new(Zeroizing::new([0; NONCE_BYTES]));
        prk.expand(b"key", key)
            .expect("a key is shorter than HKDF's limit");
        prk.expand(b"nonce", &mut base_nonce[..])
            .expect("a nonce is shorter than HKDF's limit");
        ResponseCipher {
            key: Key::new(self.aead, key),
            base_nonce,
            counter: 0,
            exhausted: false,
        }
    }
}

/// Seals or opens the parts of one response in order. A response that is not chunked has one part.
pub(super) struct ResponseCipher {
    key: Key,
    base_nonce: Box<Zeroizing<[u8; NONCE_BYTES]>>,
    counter: u64,
    exhausted: bool,
}

impl ResponseCipher {
    /// Ciphertext and tag of the next part.
    pub(super) fn seal(&mut self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, OhttpError> {
        let nonce = self.next_nonce()?;
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_BYTES);
        sealed.extend_from_slice(plaintext);
        let tag = self.key.encrypt(&nonce, aad, &mut sealed);
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// The plaintext of the next part.
    pub(super) fn open(
        &mut self,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OhttpError> {
        let nonce = self.next_nonce()?;
        let (ciphertext, tag) = sealed
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(OhttpError::Truncated)?;
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        if self.key.decrypt(&nonce, aad, &mut plaintext, tag) {
            Ok(plaintext)
        } else {
            Err(OhttpError::Unopenable)
        }
    }

    /// The base nonce XOR a counter (draft-ietf-ohai-chunked-ohttp, section 6.2). The first part has counter 0, so the
    /// base nonce itself, as RFC 9458 has it.
    fn next_nonce(&mut self) -> Result<[u8; NONCE_BYTES], OhttpError> {
        if self.exhausted {
            return Err(OhttpError::TooManyChunks);
        }
        let mut nonce = **self.base_nonce;
        let counter = self.counter.to_be_bytes();
        for (byte, count) in nonce[NONCE_BYTES - counter.len()..].iter_mut().zip(counter) {
            *byte ^= count;
        }
        match self.counter.checked_add(1) {
            Some(next) => self.counter = next,
            None => self.exhausted = true,
        }
        Ok(nonce)
    }
}

/// An AEAD key of either algorithm; each wipes itself when it is dropped.
enum Key {
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
    Aes256Gcm(Box<Aes256Gcm>),
    Aes128Gcm(Box<Aes128Gcm>),
}

impl Key {
    fn new(aead: Aead, key: &[u8]) -> Self {
        const LENGTH: &str = "the key has the length of its algorithm";
        match aead {
            Aead::ChaCha20Poly1305 => Self::ChaCha20Poly1305(Box::new(
                ChaCha20Poly1305::new_from_slice(key).expect(LENGTH),
            )),
            Aead::Aes256Gcm => {
                Self::Aes256Gcm(Box::new(Aes256Gcm::new_from_slice(key).expect(LENGTH)))
            }
            Aead::Aes128Gcm => {
                Self::Aes128Gcm(Box::new(Aes128Gcm::new_from_slice(key).expect(LENGTH)))
            }
        }
    }

    /// Encrypts in place and returns the tag.
    fn encrypt(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        let (nonce, buffer) = (nonce.into(), buffer.into());
        let tag = match self {
            Self::ChaCha20Poly1305(key) => key.encrypt_inout_detached(nonce, aad, buffer),
            Self::Aes256Gcm(key) => key.encrypt_inout_detached(nonce, aad, buffer),
            Self::Aes128Gcm(key) => key.encrypt_inout_detached(nonce, aad, buffer),
        };
        tag.expect("a response is far below the AEAD's limit of 64 GiB")
            .into()
    }

    /// Decrypts in place; whether the tag was right.
    fn decrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        let (nonce, buffer, tag) = (nonce.into(), buffer.into(), tag.into());
        let opened = match self {
            Self::ChaCha20Poly1305(key) => key.decrypt_inout_detached(nonce, aad, buffer, tag),
            Self::Aes256Gcm(key) => key.decrypt_inout_detached(nonce, aad, buffer, tag),
            Self::Aes128Gcm(key) => key.decrypt_inout_detached(nonce, aad, buffer, tag),
        };
        opened.is_ok()
    }
}
