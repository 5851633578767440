//! The HPKE algorithms that Cloister speaks, with the identifiers of the IANA registry and the sizes of RFC 9180,
//! section 7. Base mode only, so there is no type for a mode.

use hpke::aead::{Aead as _, AesGcm128, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::{HkdfSha256, Kdf as _};
use hpke::kem::{Kem as _, X25519HkdfSha256, XWing};

/// Bytes of an AEAD tag (`Nt`): the same for all three.
pub const TAG_BYTES: usize = 16;

/// Bytes of an AEAD nonce (`Nn`): the same for all three.
pub const NONCE_BYTES: usize = 12;

/// Key encapsulation mechanisms, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kem {
    /// X-Wing, ML-KEM-768 with X25519 (draft-ietf-hpke-pq, section 4): 0x647a.
    XWing,
    /// DHKEM(X25519, HKDF-SHA256) (RFC 9180, section 4.1): 0x0020.
    X25519,
}

impl Kem {
    /// Every mechanism, the preferred one first.
    pub const ALL: [Self; 2] = [Self::XWing, Self::X25519];

    /// The identifier in the HPKE KEM registry.
    pub const fn id(self) -> u16 {
        match self {
            Self::XWing => XWing::KEM_ID,
            Self::X25519 => X25519HkdfSha256::KEM_ID,
        }
    }

    /// The mechanism with this identifier, if it is one of ours.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kem| kem.id() == id)
    }

    /// Bytes of a public key (`Npk`).
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::X25519 => 32,
        }
    }

    /// Bytes of an encapsulated key (`Nenc`).
    pub const fn encapsulated_key_bytes(self) -> usize {
        match self {
            Self::XWing => 1120,
            Self::X25519 => 32,
        }
    }
}

/// Authenticated encryption, the AEAD half of a symmetric suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aead {
    /// ChaCha20-Poly1305: 0x0003. Constant time without special instructions, so the first choice.
    ChaCha20Poly1305,
    /// AES-256-GCM: 0x0002.
    Aes256Gcm,
    /// AES-128-GCM: 0x0001. Accepted where a peer's key config asks for it; never offered by [`Suite::OFFERED`].
    Aes128Gcm,
}

impl Aead {
    /// Every algorithm, the preferred one first.
    pub const ALL: [Self; 3] = [Self::ChaCha20Poly1305, Self::Aes256Gcm, Self::Aes128Gcm];

    /// The identifier in the HPKE AEAD registry.
    pub const fn id(self) -> u16 {
        match self {
            Self::ChaCha20Poly1305 => ChaCha20Poly1305::AEAD_ID,
            Self::Aes256Gcm => AesGcm256::AEAD_ID,
            Self::Aes128Gcm => AesGcm128::AEAD_ID,
        }
    }

    /// The algorithm with this identifier, if it is one of ours.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|aead| aead.id() == id)
    }

    /// Bytes of a key (`Nk`).
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 | Self::Aes256Gcm => 32,
            Self::Aes128Gcm => 16,
        }
    }

    /// Bytes of the response nonce and of the exported secret: `max(Nn, Nk)` (RFC 9458, section 4.4).
    pub const fn response_nonce_bytes(self) -> usize {
        if self.key_bytes() > NONCE_BYTES {
            self.key_bytes()
        } else {
            NONCE_BYTES
        }
    }
}

/// A symmetric suite: always HKDF-SHA256, and one AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suite {
    /// The AEAD.
    pub aead: Aead,
}

impl Suite {
    /// HKDF-SHA256, the only KDF: 0x0001.
    pub const KDF_ID: u16 = HkdfSha256::KDF_ID;

    /// What a Cloister gateway offers, the preferred one first.
    pub const OFFERED: [Self; 2] = [
        Self {
            aead: Aead::ChaCha20Poly1305,
        },
        Self {
            aead: Aead::Aes256Gcm,
        },
    ];

    /// The suite with these identifiers, if it is one of ours.
    pub fn from_ids(kdf_id: u16, aead_id: u16) -> Option<Self> {
        let aead = Aead::from_id(aead_id)?;
        (kdf_id == Self::KDF_ID).then_some(Self { aead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::Serializable;

    /// The registry's numbers, written out: they are what goes over the wire.
    #[test]
    fn identifiers_are_those_of_the_registry() {
        assert_eq!(Kem::XWing.id(), 0x647a);
        assert_eq!(Kem::X25519.id(), 0x0020);
        assert_eq!(Suite::KDF_ID, 0x0001);
        assert_eq!(Aead::Aes128Gcm.id(), 0x0001);
        assert_eq!(Aead::Aes256Gcm.id(), 0x0002);
        assert_eq!(Aead::ChaCha20Poly1305.id(), 0x0003);
    }

    #[test]
    fn identifiers_lead_back() {
        assert!(
            Kem::ALL
                .into_iter()
                .all(|kem| Kem::from_id(kem.id()) == Some(kem))
        );
        assert!(
            Aead::ALL
                .into_iter()
                .all(|aead| Aead::from_id(aead.id()) == Some(aead))
        );
        assert_eq!(Kem::from_id(0x0010), None);
        assert_eq!(Aead::from_id(0xffff), None);
        assert_eq!(Suite::from_ids(2, 3), None);
    }

    #[test]
    fn sizes_are_those_of_the_implementation() {
        type XWingPublic = <XWing as hpke::Kem>::PublicKey;
        type XWingEncapped = <XWing as hpke::Kem>::EncappedKey;
        type X25519Public = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
        type X25519Encapped = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;
        assert_eq!(Kem::XWing.public_key_bytes(), XWingPublic::size());
        assert_eq!(Kem::XWing.encapsulated_key_bytes(), XWingEncapped::size());
        assert_eq!(Kem::X25519.public_key_bytes(), X25519Public::size());
        assert_eq!(Kem::X25519.encapsulated_key_bytes(), X25519Encapped::size());
    }
}
