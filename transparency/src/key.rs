//! Keys of signed notes: verifier keys and signing keys, and their texts (C2SP signed-note, "Verifier keys").

use crate::base64;
use crate::note::Signature;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use ed25519_dalek::{Signer as _, SigningKey as Ed25519Key, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The most bytes of a key name; cosignatures of the other kind cannot hold more (C2SP tlog-cosignature).
pub const MAX_NAME_BYTES: usize = 255;

/// The most bytes of the text of a key, signing or verifying.
pub const MAX_KEY_TEXT_BYTES: usize = MAX_NAME_BYTES + 128;

/// Bytes of an Ed25519 seed, which is the private key.
pub const SEED_BYTES: usize = 32;

/// What the text of a signing key begins with. The form is that of Go's `golang.org/x/mod/sumdb/note`, which takes it.
const SIGNING_KEY_PREFIX: &str = "PRIVATE+KEY+";

/// The kinds of signature that are checked and made here. Others are carried along unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// Ed25519 over the text: type 0x01.
    Ed25519,
    /// Ed25519 over the text and a time, cosignature/v1: type 0x04.
    CosignatureV1,
}

impl KeyType {
    /// The signature type identifier byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, KeyError> {
        match byte {
            0x01 => Ok(Self::Ed25519),
            0x04 => Ok(Self::CosignatureV1),
            other => Err(KeyError::UnsupportedType { byte: other }),
        }
    }
}

/// The first four bytes of SHA-256(name || 0x0A || type || public key): tells keys of one name apart, and is no
/// cryptographic commitment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    fn of(name: &str, key_type: KeyType, public: &[u8; 32]) -> Self {
        let named = Sha256::new().chain_update(name).chain_update(b"\n");
        let digest = named
            .chain_update([key_type.byte()])
            .chain_update(public)
            .finalize();
        Self(core::array::from_fn(|at| digest[at]))
    }

    fn parse(text: &str) -> Option<Self> {
        let lower = text.len() == 8
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = lower
            .then(|| u32::from_str_radix(text, 16).ok())
            .flatten()?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text has more bytes than a key's.
    TooLong {
        /// Bytes of the text.
        bytes: usize,
    },
    /// It is not of the form name, key id, key.
    Format,
    /// The name is empty, too long, or has a space, a plus or a control character.
    Name,
    /// The key id is not eight digits in lower case.
    IdFormat,
    /// The key id is not that of the name and the key.
    IdMismatch {
        /// That of the name and the key.
        computed: KeyId,
    },
    /// The key is not canonical base 64 of a type and 32 bytes.
    Material,
    /// The type is one that is not checked here.
    UnsupportedType {
        /// The signature type identifier byte.
        byte: u8,
    },
    /// The public key is not a point of the curve, or one of small order, under which signatures prove nothing.
    WeakKey,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "{bytes} bytes are over the {MAX_KEY_TEXT_BYTES} of a key's text"
                )
            }
            Self::Format => write!(f, "not of the form NAME+ID+KEY"),
            Self::Name => write!(
                f,
                "a key's name is 1 to {MAX_NAME_BYTES} bytes without spaces, plus and control characters"
            ),
            Self::IdFormat => write!(f, "the key id is not 8 hexadecimal digits in lower case"),
            Self::IdMismatch { computed } => {
                write!(f, "the key id is not that of this name and key, {computed}")
            }
            Self::Material => write!(f, "the key is not base 64 of a type and 32 bytes"),
            Self::UnsupportedType { byte } => {
                write!(f, "keys of type {byte:#04x} are not supported")
            }
            Self::WeakKey => write!(
                f,
                "the public key is not one that signatures can be trusted under"
            ),
        }
    }
}

impl core::error::Error for KeyError {}

/// Checks a key name: not empty, no Unicode space, no plus, no control character.
pub(crate) fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c == '+' || c < ' ';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(forbidden)
}

/// A public key with its name and kind: who is trusted to sign.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: KeyId,
    key_type: KeyType,
    public: VerifyingKey,
}

impl VerifierKey {
    /// A key out of its parts: `public` is 32 bytes as RFC 8032 says.
    ///
    /// # Errors
    /// [`KeyError::Name`] and [`KeyError::WeakKey`].
    pub fn new(name: &str, key_type: KeyType, public: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(public).map_err(|_| KeyError::WeakKey)?;
        if key.is_weak() {
            return Err(KeyError::WeakKey);
        }
        let id = KeyId::of(name, key_type, public);
        Ok(Self {
            name: name.into(),
            id,
            key_type,
            public: key,
        })
    }

    /// Reads a vkey: `NAME+ID+KEY`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id, material) = split_text(text)?;
        let (key_type, public) = split_material(material)?;
        let key = Self::new(name, key_type, &public)?;
        key.check_id(id)?;
        Ok(key)
    }

    fn check_id(&self, id: KeyId) -> Result<(), KeyError> {
        if self.id == id {
            Ok(())
        } else {
            Err(KeyError::IdMismatch { computed: self.id })
        }
    }

    /// The key's name; of a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What the key signs.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The key itself, as RFC 8032 says.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether a signature says that it is of this key: its name and its id.
    pub fn is_named_by(&self, signature: &Signature) -> bool {
        self.id == signature.key_id && self.name == signature.name
    }

    /// Checks 64 bytes of Ed25519, refusing points of small order and encodings that are not canonical.
    pub(crate) fn verify_ed25519(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.public.verify_strict(message, &signature).is_ok()
    }
}

/// The vkey.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = Vec::with_capacity(33);
        material.push(self.key_type.byte());
        material.extend_from_slice(self.public());
        write!(f, "{}+{}+{}", self.name, self.id, base64::encode(&material))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A private key with its name and kind; wiped when dropped.
pub struct SigningKey {
    verifier: VerifierKey,
    private: Ed25519Key,
}

impl SigningKey {
    /// A key out of 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(
        name: &str,
        key_type: KeyType,
        seed: &Zeroizing<[u8; SEED_BYTES]>,
    ) -> Result<Self, KeyError> {
        let private = Ed25519Key::from_bytes(seed);
        let verifier = VerifierKey::new(name, key_type, private.verifying_key().as_bytes())?;
        Ok(Self { verifier, private })
    }

    /// Reads a signing key: `PRIVATE+KEY+NAME+ID+KEY`, the key being base 64 of the type and the seed.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text
            .strip_prefix(SIGNING_KEY_PREFIX)
            .ok_or(KeyError::Format)?;
        let (name, id, material) = split_text(rest)?;
        let (key_type, seed) = split_material(material)?;
        let key = Self::from_seed(name, key_type, &seed)?;
        key.verifier.check_id(id)?;
        Ok(key)
    }

    /// The text that [`Self::parse`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut material = Zeroizing::new([0; SEED_BYTES + 1]);
        material[0] = self.verifier.key_type.byte();
        material[1..].copy_from_slice(self.private.as_bytes());
        let key = Zeroizing::new(base64::encode(&*material));
        let VerifierKey { name, id, .. } = &self.verifier;
        // One allocation of the full length: a string that grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(
            MAX_KEY_TEXT_BYTES + SIGNING_KEY_PREFIX.len(),
        ));
        for part in [SIGNING_KEY_PREFIX, name, "+", &format!("{id}"), "+", &key] {
            text.push_str(part);
        }
        text
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(crate) fn sign_ed25519(&self, message: &[u8]) -> [u8; 64] {
        self.private.sign(message).to_bytes()
    }
}

/// Shows the public half only.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

/// Splits `NAME+ID+KEY`. The last part may have pluses of its own.
fn split_text(text: &str) -> Result<(&str, KeyId, &str), KeyError> {
    if text.len() > MAX_KEY_TEXT_BYTES {
        return Err(KeyError::TooLong { bytes: text.len() });
    }
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Format);
    };
    if !is_name(name) {
        return Err(KeyError::Name);
    }
    Ok((name, KeyId::parse(id).ok_or(KeyError::IdFormat)?, material))
}

/// Splits a key into its type and 32 bytes, which are a seed or a public key.
fn split_material(text: &str) -> Result<(KeyType, Zeroizing<[u8; 32]>), KeyError> {
    let material = Zeroizing::new(base64::decode(text).ok_or(KeyError::Material)?);
    let (byte, rest) = material.split_first().ok_or(KeyError::Material)?;
    // The type first: keys of other types have other lengths.
    let key_type = KeyType::from_byte(*byte)?;
    let mut key = Zeroizing::new([0; 32]);
    if rest.len() != key.len() {
        return Err(KeyError::Material);
    }
    key.copy_from_slice(rest);
    Ok((key_type, key))
}
