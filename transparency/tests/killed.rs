//! A process that appends is killed, at any moment, on a real file system. The next one goes on, and nothing that was ever
//! signed and given out is contradicted.

use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::log::{Locking, LogFolders, LogReader, TileLog};
use cloister_transparency::{KeyType, SigningKey};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often the process is killed.
const KILLS: u64 = 60;

/// The longest that a process may live, in microseconds: its start and some appends.
const MAX_LIFE_US: u64 = 60_000;

/// Tells the process where its log is.
const FOLDER: &str = "CLOISTER_TEST_LOG";

fn key() -> SigningKey {
    SigningKey::from_seed("killed.example/log", KeyType::Ed25519, &[5; 32].into()).expect("a name")
}

fn folders(root: &Path) -> LogFolders {
    LogFolders {
        log: root.join("log"),
        state: root.join("state"),
    }
}

fn open(root: &Path) -> TileLog {
    TileLog::open(folders(root), Box::new(key()), Locking::Wait).expect("a log that goes on")
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// The process: it appends for ever, and writes down every checkpoint that it could have given to somebody.
#[test]
#[ignore = "the other test runs it as a process of its own"]
fn appends_until_it_is_killed() {
    let Some(root) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        println!("nothing to do: {FOLDER} is not set");
        return;
    };
    let released = OpenOptions::new()
        .append(true)
        .create(true)
        .open(root.join("released"));
    let mut released = released.expect("a file");
    let mut release = |log: &TileLog| {
        let line = log.checkpoint().to_string().replace('\n', "|") + "\n";
        released.write_all(line.as_bytes()).expect("written");
    };
    let mut log = open(&root);
    let process = random();
    for batch in 0_u64.. {
        let count = random() % 300 + 1;
        let entry = |n| format!("process {process} batch {batch} entry {n}");
        let entries: Vec<String> = (0..count).map(entry).collect();
        log.stage(&entries).expect("room");
        release(&log);
        log.publish(&[]).expect("published");
    }
}

/// Starts the process and kills it; most times in the middle of an append.
fn run_and_kill(root: &Path) {
    let child = Command::new(std::env::current_exe().expect("this file"))
        .args(["--ignored", "--exact", "appends_until_it_is_killed"])
        .env(FOLDER, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("this file again");
    thread::sleep(Duration::from_micros(random() % MAX_LIFE_US));
    child.kill().expect("it appends for ever");
    let status = child.wait().expect("it was killed");
    assert!(status.code().is_none(), "it ended by itself: {status}");
}

fn checkpoint(path: &Path) -> SignedCheckpoint {
    let bytes = fs::read(path).expect("a checkpoint is always there");
    SignedCheckpoint::parse(&bytes).expect("a checkpoint is always whole")
}

/// Every checkpoint that the processes could have given to somebody, by size: two of one size are the same.
#[derive(Default)]
struct Seen(BTreeMap<u64, SignedCheckpoint>);

impl Seen {
    fn add(&mut self, signed: SignedCheckpoint) {
        let size = signed.checkpoint().size;
        let before = self.0.entry(size).or_insert_with(|| signed.clone());
        assert_eq!(
            before.checkpoint(),
            signed.checkpoint(),
            "two trees of one size"
        );
    }

    fn add_all(&mut self, root: &Path) {
        self.add(checkpoint(&root.join("log/checkpoint")));
        self.add(checkpoint(&root.join("state/checkpoint")));
        let released = fs::read_to_string(root.join("released")).unwrap_or_default();
        // The last line may have been cut off.
        for line in released
            .split_inclusive('\n')
            .filter(|line| line.ends_with("|\n"))
        {
            let text = line.trim_end_matches('\n').replace('|', "\n");
            self.add(SignedCheckpoint::parse(text.as_bytes()).expect("whole"));
        }
    }
}

#[test]
fn a_log_outlives_every_kill() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path();
    drop(TileLog::init(folders(root), Box::new(key())).expect("an empty folder"));
    let (mut seen, mut interrupted, mut unpublished) = (Seen::default(), 0, 0);
    for kill in 0..KILLS {
        run_and_kill(root);
        seen.add_all(root);
        interrupted += u64::from(root.join("state/intent").exists());
        let ahead = checkpoint(&root.join("state/checkpoint"));
        unpublished += u64::from(checkpoint(&root.join("log/checkpoint")) != ahead);
        let mut log = open(root);
        let again = format!("after kill {kill}");
        let appended = log.append(&[&again, &again]).expect("room");
        assert!(appended[1].duplicate && appended[1].index == appended[0].index);
        seen.add(log.checkpoint().clone());
        let verified = LogReader::new(&root.join("log")).verify(key().verifier());
        let now = verified.expect("a log that agrees with itself").checkpoint;
        for before in seen.0.values() {
            let ancestor = log
                .reader()
                .is_ancestor(before.checkpoint(), now.checkpoint());
            assert_eq!(
                ancestor,
                Ok(true),
                "{} is contradicted",
                before.checkpoint().size
            );
        }
    }
    let size = seen.0.keys().last().copied().unwrap_or_default();
    println!(
        "{KILLS} kills, {interrupted} with an intent, {unpublished} before publishing; {} checkpoints, {size} entries",
        seen.0.len()
    );
    assert!(interrupted > 0, "no kill was in the middle of an append");
    assert!(size > 2 * KILLS, "the processes did not live long enough");
}
