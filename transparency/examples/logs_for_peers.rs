//! Writes logs of some sizes, each with a proof and a note, for the peers in `peers/` to read.
//!
//! `cargo run -p cloister-transparency --features std --example logs_for_peers -- FOLDER`

use cloister_transparency::log::{LogFolders, TileLog};
use cloister_transparency::{KeyType, Note, SigningKey};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Around the edges of tiles.
const SIZES: [u64; 7] = [1, 2, 255, 256, 257, 300, 1000];

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("a folder is missing")?;
    for size in SIZES {
        write_log(&root.join(size.to_string()), size)?;
    }
    println!("{}", key()?.verifier());
    Ok(())
}

/// In two batches, so that there are tiles of two sizes.
fn write_log(folder: &Path, size: u64) -> Result<(), Box<dyn Error>> {
    let folders = LogFolders {
        log: folder.join("log"),
        state: folder.join("state"),
    };
    let mut log = TileLog::init(folders, Box::new(key()?))?;
    let entries: Vec<_> = (0..size).map(|n| format!("entry {n}")).collect();
    log.append(&entries[..entries.len() / 2])?;
    log.append(&entries)?;
    let proof = log.reader().prove(size - 1, log.checkpoint())?;
    fs::write(folder.join("last.tlog-proof"), proof.to_string())?;
    let mut note = Note::new("a note\n\nof two parts\n")?;
    note.sign(&key()?, 0)?;
    fs::write(folder.join("a.note"), note.to_string())?;
    fs::write(folder.join("signing-key"), key()?.to_text().as_bytes())?;
    Ok(())
}

/// A key that everyone knows.
fn key() -> Result<SigningKey, Box<dyn Error>> {
    Ok(SigningKey::from_seed(
        "peers.example/log",
        KeyType::Ed25519,
        &[5; 32].into(),
    )?)
}
