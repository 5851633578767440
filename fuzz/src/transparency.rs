//! Signed notes, checkpoints and proofs, releases, log policies, and requests to a witness. What is accepted is written again byte
//! for byte.

use cloister_transparency::appraise::AppraisalError;
use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::merkle::{self, MAX_PROOF_HASHES};
use cloister_transparency::note::{MAX_SIGNATURES, Note};
use cloister_transparency::release::{
    Build, ImageRelease, MAX_VALIDITY_S, MinimumTcb, Model, ModelRelease, Period, Serving,
    SnpLaunch, Source, Subject, TokenIssuer, Withdrawal,
};
use cloister_transparency::witness::{AddCheckpoint, Answer, Witness, WitnessStore};
use cloister_transparency::{
    Checkpoint, Freshness, Hash, KeyType, LogProof, Policy, SigningKey, Statement, VerifierKey,
    appraise,
};
use std::convert::Infallible;

const ORIGIN: &str = "log.example";
const NOW_S: u64 = 1_795_000_000;
const ENTRIES: [&[u8]; 3] = [b"one", b"two", b"three"];

fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &[byte; 32].into()).expect("a name")
}

fn log() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

fn witness(number: u8) -> SigningKey {
    key(
        &format!("w{number}.example"),
        KeyType::CosignatureV1,
        10 + number,
    )
}

fn trusted() -> Policy {
    let witnesses = [1, 2]
        .map(|n| format!("witness w{n} {}\n", witness(n).verifier()))
        .concat();
    let text = format!(
        "log {}\n{witnesses}group g any w1 w2\nquorum g\n",
        log().verifier()
    );
    Policy::parse(text.as_bytes()).expect("well-formed")
}

/// The tree of the first `size` entries, signed by the log and both witnesses.
fn checkpoint(size: usize) -> SignedCheckpoint {
    let leaves = ENTRIES[..size].iter().map(|entry| Hash::leaf(entry));
    let root = merkle::subtree(&leaves.collect::<Vec<_>>());
    let mut signed = SignedCheckpoint::unsigned(&Checkpoint::new(ORIGIN, size as u64, root))
        .expect("a checkpoint");
    for key in [log(), witness(1), witness(2)] {
        signed.note_mut().sign(&key, NOW_S).expect("room");
    }
    signed
}

/// Signed notes; keys are texts too.
pub fn note(data: &[u8]) -> bool {
    if let Some(key) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| VerifierKey::parse(text).ok())
    {
        assert_eq!(key.to_string().as_bytes(), data);
    }
    let Ok(note) = Note::parse(data) else {
        return false;
    };
    assert!((1..=MAX_SIGNATURES).contains(&note.signatures().len()));
    assert_eq!(note.to_string().as_bytes(), data);
    let keys = [log(), witness(1)].map(|key| key.verifier().clone());
    if note.verify(&keys).is_ok() {
        assert!(
            note.signatures()
                .iter()
                .any(|line| keys.iter().any(|key| key.is_named_by(line)))
        );
    }
    true
}

/// Of the log alone, with witnesses, with a signature of an unknown type.
pub fn note_seeds() -> Vec<Vec<u8>> {
    let mut alone = Note::new("text\n\nin two parts\n").expect("a text");
    alone.sign(&log(), 0).expect("room");
    let unknown = include_bytes!("../../tests/vectors/tlog/sunlight/tree/checkpoint");
    let example = include_bytes!("../../tests/vectors/tlog/signed-note-example.txt");
    let ours = [alone.to_string(), checkpoint(3).to_string()].map(String::into_bytes);
    ours.into_iter()
        .chain([unknown.to_vec(), example.to_vec()])
        .collect()
}

/// Proofs with their checkpoints: what a client accepts is one of the entries at its index.
pub fn log_proof(data: &[u8]) -> bool {
    let freshness = Freshness {
        now_s: NOW_S,
        max_age_s: Some(60),
        clock_skew_s: 60,
    };
    for entry in ENTRIES {
        match appraise(entry, data, &trusted(), &freshness) {
            Ok(logged) => assert_eq!(ENTRIES.get(logged.index as usize), Some(&entry)),
            Err(AppraisalError::EntryTooLarge { .. }) => unreachable!("entries are short"),
            Err(_) => {}
        }
    }
    let Ok(proof) = LogProof::parse(data) else {
        return false;
    };
    assert!(proof.hashes.len() <= MAX_PROOF_HASHES);
    assert_eq!(proof.to_string().as_bytes(), data);
    true
}

/// Of each entry, and one of another log.
pub fn log_proof_seeds() -> Vec<Vec<u8>> {
    let leaves = ENTRIES.map(Hash::leaf);
    let left = Hash::node(&leaves[0], &leaves[1]);
    let paths = [
        vec![leaves[1], leaves[2]],
        vec![leaves[0], leaves[2]],
        vec![left],
    ];
    let proofs = paths.into_iter().zip(0..).map(|(hashes, index)| {
        let extra = (index == 1).then(|| b"extra".to_vec());
        LogProof {
            extra,
            index,
            hashes,
            checkpoint: checkpoint(3),
        }
        .to_string()
        .into_bytes()
    });
    let another = include_bytes!("../../tests/vectors/tlog/oak.tlog-proof");
    proofs.chain([another.to_vec()]).collect()
}

/// What entries say: what is accepted is written again byte for byte, in one line.
pub fn release(data: &[u8]) -> bool {
    let Some(statement) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| Statement::parse(text).ok())
    else {
        return false;
    };
    assert_eq!(statement.to_text().as_bytes(), data);
    assert_eq!(data.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(statement.check(), Ok(()));
    assert!(!statement.subjects().is_empty());
    // It can stand in a note.
    assert!(Note::new(&statement.to_text()).is_ok());
    true
}

/// An image, a model and a withdrawal.
pub fn release_seeds() -> Vec<Vec<u8>> {
    let subjects = vec![Subject {
        name: "rom.bin".into(),
        sha256: [1; 32],
    }];
    let period = Period {
        not_before_s: NOW_S,
        not_after_s: NOW_S + MAX_VALIDITY_S,
    };
    let model = Model {
        name: "tiny".into(),
        root: [2; 32],
        gguf: [3; 32],
        licence: Some("Apache-2.0".into()),
    };
    let launch = SnpLaunch {
        cpu: "EPYC-Genoa".into(),
        cpu_signature: 0x00a1_0f10,
        guest_features: 1,
        measurement: [4; 48],
        minimum_tcb: MinimumTcb::default(),
        policy: 0x3_0000,
        vcpus: 2,
        vmm: "qemu".into(),
    };
    let image = ImageRelease {
        subjects: subjects.clone(),
        version: "0.1.0".into(),
        period,
        snp: vec![launch],
        model: Some(model.clone()),
        log_policy: Some([5; 32]),
        serving: None,
        token_issuer: None,
        source: Source {
            repository: String::new(),
            commit: "a".repeat(40),
            tree: "b".repeat(64),
            modified: false,
            cargo_lock: [6; 32],
        },
        build: Build {
            rustc: "rustc 1.95.0".into(),
            target: "x86_64-unknown-none".into(),
            profile: "guest".into(),
            flags: vec!["-Copt-level=3".into()],
        },
        sbom: [7; 32],
    };
    let released = ModelRelease {
        subjects: subjects.clone(),
        version: "0.1.0".into(),
        period,
        model,
    };
    let withdrawal = Withdrawal {
        subjects,
        not_before_s: NOW_S,
        reason: "a \"defect\"".into(),
        withdraws: Hash([8; 32]),
    };
    let gated = ImageRelease {
        serving: Some(Serving {
            epoch_s: 20,
            tls: true,
        }),
        token_issuer: Some(TokenIssuer {
            name: "issuer.example".into(),
            origin: "cloister.example".into(),
            token_key: vec![9; 342],
        }),
        ..image.clone()
    };
    let statements = [
        Statement::Image(image),
        Statement::Image(gated),
        Statement::Model(released),
        Statement::Withdraw(withdrawal),
    ];
    statements
        .map(|statement| statement.to_text().into_bytes())
        .to_vec()
}

/// Log policies: what is accepted has a quorum that all witnesses together reach, and that none does not, if it asks for
/// any.
pub fn log_policy(data: &[u8]) -> bool {
    let Ok(policy) = Policy::parse(data) else {
        return false;
    };
    assert_eq!(Policy::parse(&policy.to_bytes()).as_ref(), Ok(&policy));
    assert!(policy.is_quorum(&vec![true; policy.witnesses().len()]));
    assert_eq!(policy.is_quorum(&[]), policy.quorum().is_none());
    assert!(policy.least_overlap() <= policy.witnesses().len());
    true
}

/// With groups, with URLs and comments, without a witness.
pub fn log_policy_seeds() -> Vec<Vec<u8>> {
    let vkey = |n| witness(n).verifier().to_string();
    let two_levels = format!(
        "# logs\nlog {} https://log.example/\n\nwitness a {}\nwitness b {} https://b.example/\nwitness c {}\ngroup ab 1 a b\ngroup all all ab c\nquorum all\n",
        log().verifier(),
        vkey(1),
        vkey(2),
        vkey(3)
    );
    vec![
        trusted().to_bytes(),
        two_levels.into_bytes(),
        b"\tquorum  none \n".to_vec(),
    ]
}

/// Keeps one checkpoint, of the first two entries.
struct Kept(SignedCheckpoint);

impl WitnessStore for Kept {
    type Error = Infallible;

    fn latest(&mut self, _origin: &str) -> Result<Option<SignedCheckpoint>, Infallible> {
        Ok(Some(self.0.clone()))
    }

    fn put(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), Infallible> {
        self.0 = checkpoint.clone();
        Ok(())
    }
}

/// Requests to a witness that knows the first two entries: what it cosigns is a tree that the log signed.
pub fn add_checkpoint(data: &[u8]) -> bool {
    let store = Kept(checkpoint(2));
    let logs = [log().verifier().clone()];
    let mut witness = Witness::new(witness(1), logs, store).expect("a cosigner's key");
    let answer = witness.add_checkpoint(data, NOW_S);
    if matches!(answer, Answer::Cosigned(_)) {
        let signed = AddCheckpoint::parse(data).expect("what was cosigned");
        let tree = signed.checkpoint.checkpoint();
        assert!((2..=3).contains(&tree.size));
        assert_eq!(tree.root, checkpoint(tree.size as usize).checkpoint().root);
    }
    assert_ne!(answer.status(), 500);
    let Ok(request) = AddCheckpoint::parse(data) else {
        return false;
    };
    assert_eq!(request.to_string().as_bytes(), data);
    true
}

/// From each size, also from one that is in conflict.
pub fn add_checkpoint_seeds() -> Vec<Vec<u8>> {
    let third = Hash::leaf(ENTRIES[2]);
    let requests = [(2, vec![third], 3), (2, vec![], 2), (0, vec![], 3)];
    let bodies = requests.map(|(old_size, proof, size)| {
        AddCheckpoint {
            old_size,
            proof,
            checkpoint: checkpoint(size),
        }
        .to_string()
    });
    bodies.map(String::into_bytes).to_vec()
}
