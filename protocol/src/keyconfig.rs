//! The key config list, media type `application/ohttp-keys` (RFC 9458, section 3).
//!
//! One entry is a key id, a KEM, a public key and the symmetric suites that go with it; each entry stands behind its
//! length. Entries of a KEM that we do not speak are skipped, as HPKE's registry grows; an entry that is encoded
//! wrongly makes the whole list void (section 3.2).
//!
//! A list can also say which epoch its keys belong to, so that a digest of the list binds the epoch too. RFC 9458 has
//! no field for that. The epoch is an entry of its own under KEM 0x0000, which the registry reserves and no key will
//! ever use; clients that know nothing of it skip it as an unknown KEM.

use crate::ohttp::context;
use crate::reader::Reader;
pub use crate::suite::{Aead, Kem, Suite};
use alloc::vec::Vec;
use core::fmt;

/// The most bytes of a list.
pub const MAX_LIST_BYTES: usize = 64 << 10;

/// The most entries of a list, skipped ones included.
pub const MAX_ENTRIES: usize = 32;

/// The KEM identifier of the entry that carries the [`Epoch`]; "reserved" in the HPKE KEM registry.
const EPOCH_KEM_ID: u16 = 0x0000;

/// Marks the epoch entry, so that another use of KEM 0x0000 is not taken for it.
const EPOCH_MARK: &[u8; 8] = b"cl-epoch";

/// Bytes of one (KDF, AEAD) pair.
const SUITE_BYTES: usize = 4;

/// Why a key config or a list of them was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyConfigError {
    /// The list has more bytes or entries than the limits allow.
    TooLarge,
    /// It ended in the middle of an entry.
    Truncated,
    /// An entry is longer than its content.
    TrailingBytes {
        /// The key id of the entry.
        key_id: u8,
    },
    /// The symmetric suites of an entry are none, or not whole pairs.
    Suites {
        /// The key id of the entry.
        key_id: u8,
    },
    /// The public key is not one of its KEM.
    PublicKey {
        /// The key id of the entry.
        key_id: u8,
    },
    /// Two usable entries have the same key id.
    DuplicateKeyId {
        /// The key id of both.
        key_id: u8,
    },
    /// There is more than one epoch entry, or it is malformed.
    Epoch,
    /// There is no entry that we can use.
    NoneUsable,
}

impl fmt::Display for KeyConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => {
                write!(
                    f,
                    "the key config list is over {MAX_LIST_BYTES} bytes or {MAX_ENTRIES} entries"
                )
            }
            Self::Truncated => write!(f, "the key config list ends in the middle of an entry"),
            Self::TrailingBytes { key_id } => {
                write!(f, "key config {key_id} is longer than its content")
            }
            Self::Suites { key_id } => {
                write!(f, "key config {key_id} has no whole symmetric suites")
            }
            Self::PublicKey { key_id } => {
                write!(f, "key config {key_id} has an invalid public key")
            }
            Self::DuplicateKeyId { key_id } => write!(f, "key id {key_id} is in the list twice"),
            Self::Epoch => write!(
                f,
                "the epoch in the key config list is malformed or there twice"
            ),
            Self::NoneUsable => write!(f, "no key config uses algorithms that are known here"),
        }
    }
}

impl core::error::Error for KeyConfigError {}

/// The time that a set of keys is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Counts up by one with each new set of keys.
    pub number: u64,
    /// When the keys come into use, in seconds since 1970-01-01 UTC by the guest's clock.
    pub start_s: u64,
    /// When the keys go out of use, in the same unit.
    pub end_s: u64,
}

/// One public key of a gateway, with the algorithms that go with it. Always usable: the KEM is known, the public key
/// is one of that KEM, and there is at least one suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    key_id: u8,
    kem: Kem,
    public_key: Vec<u8>,
    suites: Vec<Suite>,
}

impl KeyConfig {
    /// Puts a key config together, checking the public key.
    ///
    /// # Errors
    /// [`KeyConfigError::PublicKey`] or [`KeyConfigError::Suites`] (none given).
    pub fn new(
        key_id: u8,
        kem: Kem,
        public_key: Vec<u8>,
        suites: Vec<Suite>,
    ) -> Result<Self, KeyConfigError> {
        if !context::is_public_key(kem, &public_key) {
            return Err(KeyConfigError::PublicKey { key_id });
        }
        if suites.is_empty() || suites.len() > usize::from(u16::MAX) / SUITE_BYTES {
            return Err(KeyConfigError::Suites { key_id });
        }
        Ok(Self {
            key_id,
            kem,
            public_key,
            suites,
        })
    }

    /// The number by which a request names this key.
    pub fn key_id(&self) -> u8 {
        self.key_id
    }

    /// The key encapsulation mechanism.
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The public key, [`Kem::public_key_bytes`] long.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The symmetric suites, in the gateway's order; at least one.
    pub fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// The encoding of RFC 9458, section 3.1.
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(5 + self.public_key.len() + SUITE_BYTES * self.suites.len());
        out.push(self.key_id);
        out.extend_from_slice(&self.kem.id().to_be_bytes());
        out.extend_from_slice(&self.public_key);
        // `new` and `decode` keep the number of suites within 16 bits.
        out.extend_from_slice(&((SUITE_BYTES * self.suites.len()) as u16).to_be_bytes());
        for suite in &self.suites {
            out.extend_from_slice(&Suite::KDF_ID.to_be_bytes());
            out.extend_from_slice(&suite.aead.id().to_be_bytes());
        }
        out
    }

    /// Decodes one key config. `Ok(None)` means: well-formed as far as can be seen, but of a KEM or of suites that we
    /// do not speak.
    ///
    /// # Errors
    /// Any but [`KeyConfigError::NoneUsable`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, KeyConfigError> {
        let mut reader = Reader::new(bytes);
        let key_id = reader.u8().ok_or(KeyConfigError::Truncated)?;
        let kem_id = reader.u16().ok_or(KeyConfigError::Truncated)?;
        // Without the KEM the length of the public key is unknown, and nothing behind it can be checked.
        let Some(kem) = Kem::from_id(kem_id) else {
            return Ok(None);
        };
        let public_key = reader
            .take(kem.public_key_bytes())
            .ok_or(KeyConfigError::Truncated)?;
        let suites_bytes = usize::from(reader.u16().ok_or(KeyConfigError::Truncated)?);
        let pairs = reader.take(suites_bytes).ok_or(KeyConfigError::Truncated)?;
        if !reader.is_empty() {
            return Err(KeyConfigError::TrailingBytes { key_id });
        }
        if pairs.is_empty() || pairs.len() % SUITE_BYTES != 0 {
            return Err(KeyConfigError::Suites { key_id });
        }
        let suites = known_suites(pairs);
        if suites.is_empty() {
            return Ok(None);
        }
        Self::new(key_id, kem, public_key.to_vec(), suites).map(Some)
    }
}

/// The suites that we speak among whole (KDF, AEAD) pairs.
fn known_suites(pairs: &[u8]) -> Vec<Suite> {
    let (pairs, _) = pairs.as_chunks::<SUITE_BYTES>();
    pairs
        .iter()
        .filter_map(|[k0, k1, a0, a1]| {
            Suite::from_ids(
                u16::from_be_bytes([*k0, *k1]),
                u16::from_be_bytes([*a0, *a1]),
            )
        })
        .collect()
}

/// A decoded list: the entries that we can use, in the gateway's order, and the epoch if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfigList {
    configs: Vec<KeyConfig>,
    epoch: Option<Epoch>,
}

impl KeyConfigList {
    /// The usable entries; at least one.
    pub fn configs(&self) -> &[KeyConfig] {
        &self.configs
    }

    /// The epoch that the keys belong to, if the list says so.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The entry to encrypt to: X-Wing before X25519, and the first of its kind.
    pub fn preferred(&self) -> &KeyConfig {
        let preferred = self.configs.iter().min_by_key(|config| config.kem());
        preferred.expect("a decoded list has at least one entry")
    }
}

/// Encodes a list, the epoch entry last.
pub fn encode_list<'a>(
    configs: impl IntoIterator<Item = &'a KeyConfig>,
    epoch: Option<Epoch>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let entries = configs
        .into_iter()
        .map(KeyConfig::encode)
        .chain(epoch.map(encode_epoch));
    for entry in entries {
        // The longest entry, X-Wing with every suite, is far below 64 KiB.
        out.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        out.extend_from_slice(&entry);
    }
    out
}

/// Decodes a list.
///
/// # Errors
/// [`KeyConfigError`]; a single malformed entry makes the list void.
pub fn decode_list(bytes: &[u8]) -> Result<KeyConfigList, KeyConfigError> {
    if bytes.len() > MAX_LIST_BYTES {
        return Err(KeyConfigError::TooLarge);
    }
    let mut reader = Reader::new(bytes);
    let mut list = KeyConfigList {
        configs: Vec::new(),
        epoch: None,
    };
    for _ in 0..MAX_ENTRIES {
        if reader.is_empty() {
            break;
        }
        let length = reader.u16().ok_or(KeyConfigError::Truncated)?;
        let entry = reader
            .take(usize::from(length))
            .ok_or(KeyConfigError::Truncated)?;
        list.add(entry)?;
    }
    if !reader.is_empty() {
        return Err(KeyConfigError::TooLarge);
    }
    if list.configs.is_empty() {
        Err(KeyConfigError::NoneUsable)
    } else {
        Ok(list)
    }
}

impl KeyConfigList {
    fn add(&mut self, entry: &[u8]) -> Result<(), KeyConfigError> {
        if let Some(epoch) = decode_epoch(entry)? {
            return match self.epoch.replace(epoch) {
                None => Ok(()),
                Some(_) => Err(KeyConfigError::Epoch),
            };
        }
        let Some(config) = KeyConfig::decode(entry)? else {
            return Ok(());
        };
        if self
            .configs
            .iter()
            .any(|other| other.key_id == config.key_id)
        {
            return Err(KeyConfigError::DuplicateKeyId {
                key_id: config.key_id,
            });
        }
        self.configs.push(config);
        Ok(())
    }
}

/// Key id 0, KEM 0x0000, the mark, then number, start and end as 64-bit integers.
fn encode_epoch(epoch: Epoch) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + EPOCH_MARK.len() + 24);
    out.push(0);
    out.extend_from_slice(&EPOCH_KEM_ID.to_be_bytes());
    out.extend_from_slice(EPOCH_MARK);
    for value in [epoch.number, epoch.start_s, epoch.end_s] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out
}

/// `Ok(None)` when the entry is not an epoch entry.
fn decode_epoch(entry: &[u8]) -> Result<Option<Epoch>, KeyConfigError> {
    let mut reader = Reader::new(entry);
    let head = (reader.u8(), reader.u16(), reader.array());
    if head != (Some(0), Some(EPOCH_KEM_ID), Some(*EPOCH_MARK)) {
        return Ok(None);
    }
    let (Some(number), Some(start_s), Some(end_s), true) =
        (reader.u64(), reader.u64(), reader.u64(), reader.is_empty())
    else {
        return Err(KeyConfigError::Epoch);
    };
    if start_s > end_s {
        return Err(KeyConfigError::Epoch);
    }
    Ok(Some(Epoch {
        number,
        start_s,
        end_s,
    }))
}

#[cfg(test)]
mod tests;
