//! ID block and ID auth: with them the processor itself refuses to finish a launch whose digest is
//! another one (AMD publication 56860, `SNP_LAUNCH_FINISH`).
//!
//! Numbers of keys and signatures are little-endian, in 72 bytes each. QEMU takes both blocks as
//! base64: `id-block=` and `id-auth=` of `sev-snp-guest`.

use crate::digest::{LaunchDigest, SHA384_BYTES, sha384};
use base64ct::{Base64, Encoding as _};
use p384::SecretKey;
use p384::ecdsa::signature::{Signer as _, Verifier as _};
use p384::ecdsa::{Signature, SigningKey, VerifyingKey};
use p384::pkcs8::DecodePrivateKey as _;
use std::fmt;

/// Length of an ID block.
pub const ID_BLOCK_BYTES: usize = 96;
/// Length of an ID auth.
pub const ID_AUTH_BYTES: usize = 4096;
/// Length of a public key.
pub const PUBLIC_KEY_BYTES: usize = 1028;
/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 512;

/// QEMU's default for the guest policy: SMT allowed, no debugging, no migration.
pub const DEFAULT_POLICY: u64 = 0x3_0000;

/// ECDSA over P-384 with SHA-384.
const ALGORITHM_ECDSA_P384: u32 = 1;
const CURVE_P384: u32 = 2;
/// Bytes of a number of P-384.
const NUMBER_BYTES: usize = 48;
/// Bytes that a number has in AMD's structures.
const FIELD_BYTES: usize = 72;

/// Offsets in an ID auth.
mod auth {
    pub(super) const ID_KEY_ALGORITHM: usize = 0x000;
    pub(super) const AUTHOR_KEY_ALGORITHM: usize = 0x004;
    pub(super) const ID_BLOCK_SIGNATURE: usize = 0x040;
    pub(super) const ID_KEY: usize = 0x240;
    pub(super) const ID_KEY_SIGNATURE: usize = 0x680;
    pub(super) const AUTHOR_KEY: usize = 0x880;
    /// Behind the author key and 892 reserved bytes.
    pub(super) const END: usize = AUTHOR_KEY + super::PUBLIC_KEY_BYTES + 892;
}

const _: () = assert!(auth::END == ID_AUTH_BYTES);
const _: () = assert!(auth::ID_BLOCK_SIGNATURE + SIGNATURE_BYTES == auth::ID_KEY);
const _: () = assert!(auth::ID_KEY + PUBLIC_KEY_BYTES + 60 == auth::ID_KEY_SIGNATURE);
const _: () = assert!(auth::ID_KEY_SIGNATURE + SIGNATURE_BYTES == auth::AUTHOR_KEY);

/// What a guest must be, and what its report says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// The launch digest that the guest must have.
    pub launch_digest: LaunchDigest,
    /// `FAMILY_ID` of the report.
    pub family_id: [u8; 16],
    /// `IMAGE_ID` of the report.
    pub image_id: [u8; 16],
    /// Security version of the guest.
    pub guest_svn: u32,
    /// The policy that the guest must be launched with.
    pub policy: u64,
}

impl IdBlock {
    /// An ID block for this digest: no IDs, version 0, [`DEFAULT_POLICY`].
    pub fn new(launch_digest: LaunchDigest) -> Self {
        let (family_id, image_id) = ([0; 16], [0; 16]);
        Self {
            launch_digest,
            family_id,
            image_id,
            guest_svn: 0,
            policy: DEFAULT_POLICY,
        }
    }

    /// The block as the processor reads it.
    pub fn to_bytes(&self) -> [u8; ID_BLOCK_BYTES] {
        /// Of the structure.
        const VERSION: u32 = 1;
        let mut bytes = [0; ID_BLOCK_BYTES];
        bytes[0x00..0x30].copy_from_slice(&self.launch_digest.0);
        bytes[0x30..0x40].copy_from_slice(&self.family_id);
        bytes[0x40..0x50].copy_from_slice(&self.image_id);
        bytes[0x50..0x54].copy_from_slice(&VERSION.to_le_bytes());
        bytes[0x54..0x58].copy_from_slice(&self.guest_svn.to_le_bytes());
        bytes[0x58..0x60].copy_from_slice(&self.policy.to_le_bytes());
        bytes
    }

    /// The block as QEMU takes it.
    pub fn to_base64(&self) -> String {
        Base64::encode_string(&self.to_bytes())
    }
}

/// A private key of P-384 that signs ID blocks, or other such keys.
pub struct IdKey(SigningKey);

/// A file that holds no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a private key of P-384 in PEM (\"PRIVATE KEY\" or \"EC PRIVATE KEY\", not encrypted); \
     `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384` makes one"
)]
pub struct IdKeyError;

impl IdKey {
    /// Reads a PEM file, PKCS #8 or SEC 1.
    pub fn from_pem(pem: &str) -> Result<Self, IdKeyError> {
        let key = SecretKey::from_pkcs8_pem(pem).or_else(|_| SecretKey::from_sec1_pem(pem));
        key.map(|key| Self(SigningKey::from(key)))
            .map_err(|_| IdKeyError)
    }

    /// The public key as the processor reads it.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let point = self.0.verifying_key().to_sec1_point(false);
        // 4, then both coordinates, big-endian.
        let numbers = point
            .as_bytes()
            .get(1..)
            .expect("a public key is not the point at infinity");
        let mut key = [0; PUBLIC_KEY_BYTES];
        key[..4].copy_from_slice(&CURVE_P384.to_le_bytes());
        put_numbers(&mut key[4..], numbers);
        key
    }

    /// `ID_KEY_DIGEST` or `AUTHOR_KEY_DIGEST` of the report.
    pub fn digest(&self) -> [u8; SHA384_BYTES] {
        sha384(&self.public_key())
    }

    /// A signature as the processor reads it; its nonce is that of RFC 6979, so that the same
    /// inputs give the same bytes.
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature: Signature = self.0.sign(message);
        let mut bytes = [0; SIGNATURE_BYTES];
        put_numbers(&mut bytes, &signature.to_bytes());
        bytes
    }
}

/// Without the private number.
impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdKey({})", LaunchDigest(self.digest()))
    }
}

/// Turns two big-endian numbers of 48 bytes into two little-endian fields of 72.
fn put_numbers(fields: &mut [u8], numbers: &[u8]) {
    for (field, number) in fields
        .chunks_mut(FIELD_BYTES)
        .zip(numbers.chunks(NUMBER_BYTES))
    {
        for (byte, source) in field.iter_mut().zip(number.iter().rev()) {
            *byte = *source;
        }
    }
}

/// The inverse of [`put_numbers`]; `None` if a number is too large.
fn take_numbers(fields: &[u8]) -> Option<[u8; 2 * NUMBER_BYTES]> {
    let mut numbers = [0; 2 * NUMBER_BYTES];
    for (field, number) in fields
        .chunks(FIELD_BYTES)
        .zip(numbers.chunks_mut(NUMBER_BYTES))
    {
        let (value, padding) = field.split_at_checked(NUMBER_BYTES)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        for (byte, source) in number.iter_mut().zip(value.iter().rev()) {
            *byte = *source;
        }
    }
    Some(numbers)
}

/// The keys and signatures for an ID block.
#[derive(Clone, PartialEq, Eq)]
pub struct IdAuth(Box<[u8; ID_AUTH_BYTES]>);

/// Keys or signatures that the processor refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdAuthError {
    /// Another length.
    #[error("an ID auth has 4096 bytes, not {0}")]
    Length(usize),
    /// Another algorithm than ECDSA over P-384.
    #[error("the ID auth's algorithm is {0}; only 1, ECDSA over P-384 with SHA-384, is known")]
    Algorithm(u32),
    /// A key that is no point of P-384.
    #[error("the ID auth has no key of P-384 at offset {0:#x}")]
    Key(usize),
    /// A signature that does not belong to what it signs.
    #[error("the ID auth's signature at offset {0:#x} is wrong")]
    Signature(usize),
}

impl IdAuth {
    /// Signs an ID block with the ID key, and the ID key with the author's, if there is one.
    pub fn new(block: &IdBlock, id_key: &IdKey, author_key: Option<&IdKey>) -> Self {
        let mut bytes = Box::new([0; ID_AUTH_BYTES]);
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(auth::ID_KEY_ALGORITHM, &ALGORITHM_ECDSA_P384.to_le_bytes());
        put(auth::ID_BLOCK_SIGNATURE, &id_key.sign(&block.to_bytes()));
        put(auth::ID_KEY, &id_key.public_key());
        if let Some(author_key) = author_key {
            put(
                auth::AUTHOR_KEY_ALGORITHM,
                &ALGORITHM_ECDSA_P384.to_le_bytes(),
            );
            put(
                auth::ID_KEY_SIGNATURE,
                &author_key.sign(&id_key.public_key()),
            );
            put(auth::AUTHOR_KEY, &author_key.public_key());
        }
        Self(bytes)
    }

    /// An ID auth made elsewhere.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdAuthError> {
        let copied = <[u8; ID_AUTH_BYTES]>::try_from(bytes);
        copied
            .map(|copied| Self(Box::new(copied)))
            .map_err(|_| IdAuthError::Length(bytes.len()))
    }

    /// The block as the processor reads it.
    pub fn as_bytes(&self) -> &[u8; ID_AUTH_BYTES] {
        &self.0
    }

    /// The block as QEMU takes it.
    pub fn to_base64(&self) -> String {
        Base64::encode_string(self.as_bytes())
    }

    /// Checks what the processor checks: that the ID key signed the block and, if an author key is
    /// there, that it signed the ID key.
    pub fn verify(&self, block: &IdBlock) -> Result<(), IdAuthError> {
        self.check_algorithm(auth::ID_KEY_ALGORITHM)?;
        self.check_signature(auth::ID_KEY, auth::ID_BLOCK_SIGNATURE, &block.to_bytes())?;
        if self
            .field(auth::AUTHOR_KEY, PUBLIC_KEY_BYTES)
            .iter()
            .all(|byte| *byte == 0)
        {
            return Ok(());
        }
        self.check_algorithm(auth::AUTHOR_KEY_ALGORITHM)?;
        let id_key = self.field(auth::ID_KEY, PUBLIC_KEY_BYTES);
        self.check_signature(auth::AUTHOR_KEY, auth::ID_KEY_SIGNATURE, id_key)
    }

    fn field(&self, at: usize, bytes: usize) -> &[u8] {
        &self.0[at..at + bytes]
    }

    fn number(&self, at: usize) -> u32 {
        let field = self
            .field(at, 4)
            .try_into()
            .expect("four bytes were asked for");
        u32::from_le_bytes(field)
    }

    fn check_algorithm(&self, at: usize) -> Result<(), IdAuthError> {
        match self.number(at) {
            ALGORITHM_ECDSA_P384 => Ok(()),
            other => Err(IdAuthError::Algorithm(other)),
        }
    }

    fn check_signature(
        &self,
        key: usize,
        signature: usize,
        message: &[u8],
    ) -> Result<(), IdAuthError> {
        let key = self.key(key).ok_or(IdAuthError::Key(key))?;
        let numbers = take_numbers(self.field(signature, 2 * FIELD_BYTES));
        numbers
            .and_then(|numbers| Signature::from_slice(&numbers).ok())
            .filter(|signature| key.verify(message, signature).is_ok())
            .map(|_| ())
            .ok_or(IdAuthError::Signature(signature))
    }

    fn key(&self, at: usize) -> Option<VerifyingKey> {
        if self.number(at) != CURVE_P384 {
            return None;
        }
        let numbers = take_numbers(self.field(at + 4, 2 * FIELD_BYTES))?;
        let mut point = [4; 1 + 2 * NUMBER_BYTES];
        point[1..].copy_from_slice(&numbers);
        VerifyingKey::from_sec1_bytes(&point).ok()
    }
}

impl fmt::Debug for IdAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id_key = sha384(self.field(auth::ID_KEY, PUBLIC_KEY_BYTES));
        write!(f, "IdAuth(ID key {})", LaunchDigest(id_key))
    }
}
