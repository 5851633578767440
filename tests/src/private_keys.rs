//! Finds a guest's private keys in its memory, knowing only the public ones: whatever looks random is tried.

use std::collections::HashSet;

use cloister_protocol::keyconfig::{Kem, KeyConfigList};
use hpke::Deserializable;
use hpke::Serializable;
use hpke::kem::{Kem as _, XWing};
use x25519_dalek::{PublicKey, StaticSecret};

/// Bytes of a private key: an X25519 scalar, or X-Wing's seed.
const KEY_BYTES: usize = 32;
/// Keys lie at multiples of this.
const ALIGNMENT: usize = 4;
/// Of 32 random bytes 30 differ on average; fewer than 22 once in 10^8.
const DIFFERENT_BYTES: u32 = 22;

/// A private key in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKey {
    /// Which of the guest's keys, or of its parts.
    pub name: &'static str,
    /// Where it lay.
    pub at: usize,
    /// The key.
    pub bytes: [u8; KEY_BYTES],
}

/// All private keys of `keys` in `memory`; see [`candidates`].
pub fn find(memory: &[u8], keys: &KeyConfigList, known: &[u8]) -> Vec<PrivateKey> {
    let publics = Publics::of(keys);
    let of = |(at, bytes)| {
        let (name, bytes) = (publics.name_of(bytes)?, *bytes);
        Some(PrivateKey { name, at, bytes })
    };
    candidates(memory, known).filter_map(of).collect()
}

/// All places of `memory` with 32 bytes that look random. `known` bytes, in pieces of the same alignment, are passed over:
/// weights look random too.
pub fn candidates<'m>(
    memory: &'m [u8],
    known: &'m [u8],
) -> impl Iterator<Item = (usize, &'m [u8; KEY_BYTES])> {
    let known: HashSet<&[u8]> = known.windows(8).step_by(ALIGNMENT).collect();
    let places = (0..memory.len().saturating_sub(KEY_BYTES - 1)).step_by(ALIGNMENT);
    let windows = places.map(|at| (at, memory[at..].first_chunk().expect("long enough")));
    windows.filter(move |(_, bytes)| {
        bytes[..8] != [0; 8] && looks_random(bytes) && !known.contains(&bytes[..8])
    })
}

fn looks_random(bytes: &[u8; KEY_BYTES]) -> bool {
    let mut seen = [0_u64; 4];
    for byte in bytes {
        seen[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
    seen.iter().map(|word| word.count_ones()).sum::<u32>() >= DIFFERENT_BYTES
}

/// The public key of X25519 (RFC 7748) that belongs to a private one.
pub fn x25519_public(private: &[u8; KEY_BYTES]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

/// What private keys lead to.
struct Publics {
    x25519: [u8; 32],
    x_wing: Vec<u8>,
}

impl Publics {
    fn of(keys: &KeyConfigList) -> Self {
        let of = |kem| {
            let config = keys.configs().iter().find(|config| config.kem() == kem);
            config.expect("a key of each kind").public_key()
        };
        Self {
            x25519: of(Kem::X25519).try_into().expect("32 bytes"),
            x_wing: of(Kem::XWing).to_vec(),
        }
    }

    fn name_of(&self, bytes: &[u8; KEY_BYTES]) -> Option<&'static str> {
        let scalar = x25519_public(bytes);
        if scalar == self.x25519 {
            return Some("X25519 private key");
        }
        if self.x_wing.ends_with(&scalar) {
            return Some("X25519 part of the X-Wing private key");
        }
        let seed = <XWing as hpke::Kem>::PrivateKey::from_bytes(bytes).expect("32 bytes");
        let public = XWing::sk_to_pk(&seed).to_bytes();
        (public[..] == self.x_wing[..]).then_some("X-Wing private key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_protocol::keyconfig::{KeyConfig, decode_list, encode_list};
    use cloister_protocol::suite::Suite;

    #[test]
    fn keys_are_found_between_other_random_numbers() {
        let mut memory = vec![0; 4096];
        getrandom::fill(&mut memory[1024..3072]).expect("random numbers");
        let scalar: [u8; 32] = memory[1500..1532].try_into().expect("32 bytes");
        let seed =
            <XWing as hpke::Kem>::PrivateKey::from_bytes(&memory[2000..2032]).expect("32 bytes");
        let x25519 = PublicKey::from(&StaticSecret::from(scalar))
            .to_bytes()
            .to_vec();
        let x_wing = XWing::sk_to_pk(&seed).to_bytes().to_vec();
        let config =
            |id, kem, key| KeyConfig::new(id, kem, key, Suite::OFFERED.to_vec()).expect("valid");
        let configs = [
            config(1, Kem::XWing, x_wing),
            config(2, Kem::X25519, x25519),
        ];
        let keys = decode_list(&encode_list(configs.iter(), None)).expect("keys");
        let found = find(&memory, &keys, b"");
        let names: Vec<_> = found.iter().map(|key| (key.name, key.at)).collect();
        assert_eq!(
            names,
            [("X25519 private key", 1500), ("X-Wing private key", 2000)]
        );
        assert!(find(&memory, &keys, &memory).is_empty());
        memory[1500] ^= 0x10;
        assert_eq!(find(&memory, &keys, b"").len(), 1);
    }
}
