//! A log with four witnesses in memory, and proof bundles out of it.

use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::merkle::{self, NodeReader, ProofError};
use cloister_transparency::{Checkpoint, Freshness, Hash, KeyType, LogProof, Policy, SigningKey};

pub(crate) const ORIGIN: &str = "log.example/releases";
pub(crate) const NOW_S: u64 = 1_795_000_000;
pub(crate) const DAY_S: u64 = 86_400;

/// At most a week old, by clocks that are five minutes off.
pub(crate) const FRESHNESS: Freshness = Freshness {
    now_s: NOW_S,
    max_age_s: Some(7 * DAY_S),
    clock_skew_s: 300,
};

/// A key whose seed is one byte repeated.
pub(crate) fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &[byte; 32].into()).expect("a name")
}

pub(crate) fn log_key() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

pub(crate) fn witness_key(number: u8) -> SigningKey {
    key(
        &format!("w{number}.example"),
        KeyType::CosignatureV1,
        10 + number,
    )
}

/// The log, and three of its four witnesses.
pub(crate) fn policy() -> Policy {
    let witness = |n| format!("witness w{n} {}\n", witness_key(n).verifier());
    let witnesses: String = (1..=4).map(witness).collect();
    let log = log_key();
    let text = format!(
        "log {}\n{witnesses}group all 3 w1 w2 w3 w4\nquorum all\n",
        log.verifier()
    );
    Policy::parse(text.as_bytes()).expect("well-formed")
}

pub(crate) fn entry(number: u64) -> Vec<u8> {
    format!("release {number}").into_bytes()
}

/// Leaf hashes in memory.
pub(crate) struct Leaves(pub(crate) Vec<Hash>);

impl Leaves {
    pub(crate) fn new(count: u64) -> Self {
        Self((0..count).map(|n| Hash::leaf(&entry(n))).collect())
    }

    pub(crate) fn root(&mut self, size: u64) -> Hash {
        merkle::root(self, size).expect("in memory")
    }
}

impl NodeReader for Leaves {
    type Error = ProofError;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (start, count) = ((index as usize) << level, 1 << level);
        Ok(merkle::subtree(&self.0[start..start + count]))
    }
}

/// What a log and its witnesses make of one entry, to be altered before it is written.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) index: u64,
    pub(crate) hashes: Vec<Hash>,
    pub(crate) checkpoint: Checkpoint,
    /// Signature lines: keys, and when they sign.
    pub(crate) signers: Vec<(&'static str, u64)>,
}

impl Bundle {
    /// Entry `index` of a log of `size`, cosigned by three witnesses an hour ago.
    pub(crate) fn new(index: u64, size: u64) -> Self {
        let mut leaves = Leaves::new(size);
        let hashes = merkle::inclusion_proof(&mut leaves, index, size).expect("in memory");
        let checkpoint = Checkpoint::new(ORIGIN, size, leaves.root(size));
        let time_s = NOW_S - 3600;
        let signers = vec![("log", 0), ("w1", time_s), ("w2", time_s), ("w3", time_s)];
        Self {
            index,
            hashes,
            checkpoint,
            signers,
        }
    }

    pub(crate) fn signed(&self) -> SignedCheckpoint {
        let mut signed = SignedCheckpoint::unsigned(&self.checkpoint).expect("a checkpoint");
        for (who, time_s) in &self.signers {
            signed.note_mut().sign(&signer(who), *time_s).expect("room");
        }
        signed
    }

    pub(crate) fn to_text(&self) -> String {
        let proof = LogProof {
            extra: None,
            index: self.index,
            hashes: self.hashes.clone(),
            checkpoint: self.signed(),
        };
        proof.to_string()
    }
}

fn signer(who: &str) -> SigningKey {
    match who {
        "log" => log_key(),
        // The right name with a key of the signer's own.
        "another's log" => key(ORIGIN, KeyType::Ed25519, 99),
        "another's w1" => key("w1.example", KeyType::CosignatureV1, 99),
        "stranger" => key("stranger.example", KeyType::CosignatureV1, 98),
        // A witness's key used as a log's: it signs without a time.
        "w1 without time" => key("w1.example", KeyType::Ed25519, 11),
        _ => witness_key(who[1..].parse().expect("w and a number")),
    }
}
