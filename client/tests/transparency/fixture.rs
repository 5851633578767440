//! A log on the disk, and what it is judged by.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_client::remote_log::LogLocation;
use cloister_transparency::log::{Locking, LogFolders, TileLog};
use cloister_transparency::note::{self, Note};
use cloister_transparency::release::{Model, ModelRelease, Period, Subject, Withdrawal};
use cloister_transparency::{Freshness, Hash, KeyType, Policy, SigningKey, Statement};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "log.example/releases";

pub(crate) fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &[byte; 32].into()).expect("a name")
}

pub(crate) fn log_key() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

pub(crate) fn release_key() -> SigningKey {
    key("release.example", KeyType::Ed25519, 2)
}

pub(crate) fn witness_key(number: u8) -> SigningKey {
    let name = format!("w{number}.example");
    key(&name, KeyType::CosignatureV1, 10 + number)
}

pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// Cosignatures of a day at most.
pub(crate) fn freshness() -> Freshness {
    Freshness {
        now_s: now_s(),
        max_age_s: Some(86_400),
        clock_skew_s: 300,
    }
}

/// The log and both of two witnesses, or none.
pub(crate) fn policy_text(with_witnesses: bool) -> String {
    let log = log_key();
    let witness = |n| format!("witness w{n} {}\n", witness_key(n).verifier());
    if with_witnesses {
        let witnesses: String = (1..=2).map(witness).collect();
        format!(
            "log {}\n{witnesses}group both all w1 w2\nquorum both\n",
            log.verifier()
        )
    } else {
        format!("log {}\nquorum none\n", log.verifier())
    }
}

pub(crate) fn policy(with_witnesses: bool) -> Policy {
    Policy::parse(policy_text(with_witnesses).as_bytes()).expect("well-formed")
}

/// A log in a folder of its own.
pub(crate) struct Log {
    pub(crate) root: TempDir,
    pub(crate) log: TileLog,
}

impl Log {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let folders = folders(root.path());
        drop(TileLog::init(folders.clone(), Box::new(log_key())).expect("an empty folder"));
        let log = TileLog::open(folders, Box::new(log_key()), Locking::Fail);
        Self {
            root,
            log: log.expect("a log"),
        }
    }

    pub(crate) fn append(&mut self, entries: &[Vec<u8>]) {
        self.log.append(entries).expect("room");
    }

    /// Publishes the last checkpoint with the cosignatures of two witnesses, `age_s` seconds old.
    pub(crate) fn cosign(&mut self, age_s: u64) {
        let text = self.log.checkpoint().note().text().to_owned();
        let by = |n| note::sign(&witness_key(n), &text, now_s() - age_s);
        self.log.publish(&[by(1), by(2)]).expect("published");
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("log")
    }

    pub(crate) fn location(&self) -> LogLocation {
        LogLocation::Directory(self.folder())
    }
}

pub(crate) fn folders(root: &Path) -> LogFolders {
    LogFolders {
        log: root.join("log"),
        state: root.join("state"),
    }
}

fn subjects() -> Vec<Subject> {
    vec![Subject {
        name: "model.pack".into(),
        sha256: [3; 32],
    }]
}

fn signed(statement: &Statement, key: &SigningKey) -> Vec<u8> {
    statement.check().expect("a statement");
    let mut note = Note::new(&statement.to_text()).expect("a text");
    note.sign(key, 0).expect("room");
    note.to_string().into_bytes()
}

/// The entry of a released model.
pub(crate) fn release(version: &str) -> Vec<u8> {
    let statement = Statement::Model(ModelRelease {
        subjects: subjects(),
        version: version.into(),
        period: Period {
            not_before_s: 1_795_000_000,
            not_after_s: 1_795_086_400,
        },
        model: Model {
            name: "tiny".into(),
            root: [4; 32],
            gguf: [5; 32],
            licence: None,
        },
    });
    signed(&statement, &release_key())
}

/// The entry that withdraws another one.
pub(crate) fn withdrawal(entry: &[u8], reason: &str, key: &SigningKey) -> Vec<u8> {
    let statement = Statement::Withdraw(Withdrawal {
        subjects: subjects(),
        not_before_s: 1_795_000_001,
        reason: reason.into(),
        withdraws: Hash::leaf(entry),
    });
    signed(&statement, key)
}

/// Entries that are no statements.
pub(crate) fn filling(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    range.map(|n| format!("filling {n}").into_bytes()).collect()
}
