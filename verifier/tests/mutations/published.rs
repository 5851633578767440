//! A release in a log: keys, entries, trees and proofs, and evidence that comes with them.

use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::merkle::{self, NodeReader, ProofError};
use cloister_transparency::note::Note;
use cloister_transparency::release::{
    Build, ImageRelease, MinimumTcb, Model, Period, SnpLaunch, Source, Subject,
};
use cloister_transparency::{
    Checkpoint, Hash, KeyType, LogProof, Policy as TlogPolicy, SigningKey, Statement,
};
use cloister_verifier::{LogPolicy, LogView, Policy, Release};

use crate::setup::{MEASUREMENT, NOW_S, Setup};

pub(crate) const ORIGIN: &str = "log.example/releases";
pub(crate) const DAY_S: u64 = 86_400;
/// When the witnesses saw the log.
pub(crate) const SEEN_S: u64 = NOW_S - DAY_S;
/// Where the release is in the log, and how long the log is.
pub(crate) const INDEX: u64 = 2;
pub(crate) const SIZE: u64 = 7;
/// The launch of another image.
pub(crate) const OTHER: [u8; 48] = [0x77; 48];

pub(crate) fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &[byte; 32].into()).expect("a name")
}

pub(crate) fn release_key() -> SigningKey {
    key("example.org/release", KeyType::Ed25519, 21)
}

pub(crate) fn log_key() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

pub(crate) fn witness(number: u8) -> SigningKey {
    let name = format!("w{number}.example");
    key(&name, KeyType::CosignatureV1, 10 + number)
}

/// The log and two of its three witnesses, who must have seen it within a week.
pub(crate) fn log_policy() -> LogPolicy {
    let witnesses: String = (1..=3)
        .map(|n| format!("witness w{n} {}\n", witness(n).verifier()))
        .collect();
    let log = log_key();
    let text = format!(
        "log {}\n{witnesses}group all 2 w1 w2 w3\nquorum all\n",
        log.verifier()
    );
    let policy = TlogPolicy::parse(text.as_bytes()).expect("well-formed");
    LogPolicy {
        max_age_s: Some(7 * DAY_S),
        ..LogPolicy::new(policy, vec![release_key().verifier().clone()])
    }
}

pub(crate) fn subjects() -> Vec<Subject> {
    vec![Subject {
        name: "rom.bin".into(),
        sha256: [0x22; 32],
    }]
}

pub(crate) fn period() -> Period {
    Period {
        not_before_s: NOW_S - 10 * DAY_S,
        not_after_s: NOW_S + 30 * DAY_S,
    }
}

pub(crate) fn launch(measurement: [u8; 48]) -> SnpLaunch {
    SnpLaunch {
        cpu: "EPYC-Genoa".into(),
        cpu_signature: 0x00a1_0f10,
        guest_features: 1,
        measurement,
        minimum_tcb: MinimumTcb {
            boot_loader: 10,
            microcode: 0x56,
            snp: 0x1b,
            ..MinimumTcb::default()
        },
        policy: 0x3_0000,
        vcpus: 1,
        vmm: "qemu".into(),
    }
}

pub(crate) fn model() -> Model {
    Model {
        name: "tiny".into(),
        root: [0x44; 32],
        gguf: [0x55; 32],
        licence: None,
    }
}

pub(crate) fn image() -> ImageRelease {
    ImageRelease {
        subjects: subjects(),
        version: "0.1.0".into(),
        period: period(),
        snp: vec![launch([0x66; 48]), launch(MEASUREMENT)],
        model: Some(model()),
        log_policy: None,
        serving: None,
        token_issuer: None,
        source: Source {
            repository: "https://example.org/cloister".into(),
            commit: "a".repeat(40),
            tree: "b".repeat(40),
            modified: false,
            cargo_lock: [0x66; 32],
        },
        build: Build {
            rustc: "rustc 1.95.0".into(),
            target: "x86_64-unknown-none".into(),
            profile: "guest".into(),
            flags: vec![],
        },
        sbom: [0x77; 32],
    }
}

pub(crate) fn note(text: &str, key: &SigningKey) -> Vec<u8> {
    let mut note = Note::new(text).expect("a text");
    note.sign(key, 0).expect("room");
    note.to_string().into_bytes()
}

/// Leaf hashes in memory.
struct Leaves(Vec<Hash>);

impl NodeReader for Leaves {
    type Error = ProofError;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (start, count) = ((index as usize) << level, 1 << level);
        Ok(merkle::subtree(&self.0[start..start + count]))
    }
}

/// An entry that a log has, and who signed the log's tree.
pub(crate) struct Bundle {
    pub(crate) note: Vec<u8>,
    pub(crate) origin: &'static str,
    pub(crate) log: SigningKey,
    /// Witnesses, and when they saw it.
    pub(crate) cosigners: Vec<(SigningKey, u64)>,
}

impl Bundle {
    pub(crate) fn of(statement: &Statement) -> Self {
        Self {
            note: note(&statement.to_text(), &release_key()),
            origin: ORIGIN,
            log: log_key(),
            cosigners: vec![(witness(1), SEEN_S), (witness(2), SEEN_S)],
        }
    }

    /// The log: the entry among others.
    fn leaves(&self) -> Leaves {
        let entry = |index| match index {
            INDEX => Hash::leaf(&self.note),
            other => Hash::leaf(format!("entry {other}").as_bytes()),
        };
        Leaves((0..SIZE).map(entry).collect())
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let root = merkle::root(&mut self.leaves(), SIZE).expect("in memory");
        Checkpoint::new(self.origin, SIZE, root)
    }

    pub(crate) fn proof(&self) -> Vec<u8> {
        let mut checkpoint = SignedCheckpoint::unsigned(&self.checkpoint()).expect("a checkpoint");
        let note = checkpoint.note_mut();
        note.sign(&self.log, 0).expect("room");
        for (witness, time_s) in &self.cosigners {
            note.sign(witness, *time_s).expect("room");
        }
        let hashes = merkle::inclusion_proof(&mut self.leaves(), INDEX, SIZE).expect("in memory");
        let proof = LogProof {
            extra: None,
            index: INDEX,
            hashes,
            checkpoint,
        };
        proof.to_string().into_bytes()
    }

    pub(crate) fn release(&self) -> Release {
        Release {
            note: self.note.clone(),
            proof: self.proof(),
        }
    }
}

pub(crate) fn bundle() -> Bundle {
    Bundle::of(&Statement::Image(image()))
}

/// Evidence with a release that counts.
pub(crate) fn logged() -> Setup {
    let mut setup = Setup::genoa();
    setup.policy = Policy {
        log: Some(log_policy()),
        require_log: true,
        ..setup.policy
    };
    setup.release = Some(bundle().release());
    setup
}

/// Publishes with a change to log and signatures.
pub(crate) fn altered(setup: &mut Setup, alter: impl FnOnce(&mut Bundle)) {
    let mut bundle = bundle();
    alter(&mut bundle);
    setup.release = Some(bundle.release());
}

/// Publishes a release that says something else.
pub(crate) fn restated(setup: &mut Setup, alter: impl FnOnce(&mut ImageRelease)) {
    let mut image = image();
    alter(&mut image);
    setup.release = Some(Bundle::of(&Statement::Image(image)).release());
}

pub(crate) fn release(setup: &mut Setup) -> &mut Release {
    setup.release.as_mut().expect("the setup has one")
}

/// The log as its reader saw it: as long as in the proof, and nothing is withdrawn.
pub(crate) fn view() -> LogView {
    LogView {
        origin: ORIGIN.into(),
        leaves: bundle().leaves().0,
        withdrawn: vec![(Hash([9; 32]), "another".into())],
    }
}
