//! The log on the disk and in a simulated file system.

mod crashes;
mod duplicates;
mod new_entries;
mod on_disk;
mod refusals;

use super::*;
use crate::SigningKey;
use crate::files::simulated::Simulated;
use crate::merkle::{self, naive};
use crate::tiles::TileKind;
use zeroize::Zeroizing;

const ORIGIN: &str = "log.example/releases";

fn key() -> SigningKey {
    named_key(ORIGIN, KeyType::Ed25519, 1)
}

fn named_key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &Zeroizing::new([byte; 32])).expect("a name")
}

fn signer() -> Box<dyn LogSigner> {
    Box::new(key())
}

fn folders() -> LogFolders {
    LogFolders {
        log: "/root/log".into(),
        state: "/root/state".into(),
    }
}

fn simulated() -> Simulated {
    Simulated::new("/root")
}

fn init(files: &Simulated) -> TileLog<Simulated> {
    TileLog::init_in(files.clone(), folders(), signer()).expect("an empty folder")
}

fn open(files: &Simulated) -> Result<TileLog<Simulated>, LogError> {
    TileLog::open_in(files.clone(), folders(), signer(), Locking::Fail)
}

fn entry(number: u64) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

fn entries(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(entry).collect()
}

fn root_of(entries: &[Vec<u8>]) -> Hash {
    let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::leaf(entry)).collect();
    naive::root(&leaves)
}

/// Checks the whole of a log and gives its entries.
fn read_all(files: &Simulated) -> Vec<Vec<u8>> {
    let mut reader = LogReader::new_in(files, &folders().log);
    let verified = reader
        .verify(key().verifier())
        .expect("a log that agrees with itself");
    let size = verified.checkpoint.checkpoint().size;
    let bundles = (0..size.div_ceil(256)).map(|at| reader.bundle(at, size).expect("verified"));
    let all: Vec<_> = bundles.flatten().collect();
    assert_eq!(verified.checkpoint.checkpoint().root, root_of(&all));
    all
}
