//! How fast a log takes entries, and how large and how quick its proofs are.
//!
//! `cargo run --release -p cloister-transparency --features std --example append -- COUNT [BATCH [FOLDER]]`

use cloister_transparency::files::Disk;
use cloister_transparency::log::{Locking, LogFolders, LogReader, LogSigner, TileLog};
use cloister_transparency::{Freshness, KeyType, Policy, SigningKey, appraise};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of an entry: a release is of this order.
const ENTRY_BYTES: usize = 1000;

/// Proofs that are made and checked.
const PROOFS: u64 = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let batch: u64 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let temporary = std::env::temp_dir().join(format!("cloister-log-{}", std::process::id()));
    let root = arguments.next().map_or(temporary, PathBuf::from);
    let folders = LogFolders {
        log: root.join("log"),
        state: root.join("state"),
    };
    let result = measure(count, batch.max(1), &folders);
    fs::remove_dir_all(&root)?;
    result
}

fn measure(count: u64, batch: u64, folders: &LogFolders) -> Result<(), Box<dyn Error>> {
    let mut log = TileLog::init(folders.clone(), signer())?;
    let started = Instant::now();
    for start in (0..count).step_by(batch as usize) {
        let end = (start + batch).min(count);
        log.append(&(start..end).map(entry).collect::<Vec<_>>())?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{count} entries of {ENTRY_BYTES} bytes in batches of {batch}: {seconds:.2} s");
    println!("{:.0} entries/s", count as f64 / seconds);
    let again = Instant::now();
    let known = log.append(&[entry(count / 2)])?;
    println!(
        "an entry that is there (index {}): {:.2} ms",
        known[0].index,
        milliseconds(again)
    );
    drop(log);
    let again = Instant::now();
    drop(TileLog::open(folders.clone(), signer(), Locking::Fail)?);
    println!("opening the log: {:.2} ms", milliseconds(again));
    println!(
        "log {} bytes, state {} bytes",
        bytes_below(&folders.log)?,
        bytes_below(&folders.state)?
    );
    println!("peak memory {} KiB", peak_memory_kib()?);
    measure_proofs(count, &folders.log)
}

fn measure_proofs(count: u64, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut reader: LogReader<'_, Disk> = LogReader::new(folder);
    let checkpoint = reader.checkpoint()?;
    let policy = format!("log {}\nquorum none\n", signer().verifier());
    let policy = Policy::parse(policy.as_bytes())?;
    let freshness = Freshness {
        now_s: 0,
        max_age_s: None,
        clock_skew_s: 0,
    };
    let indices = (0..PROOFS).map(|n| n * count / PROOFS);
    let started = Instant::now();
    let mut proofs = Vec::new();
    for index in indices {
        proofs.push((index, reader.prove(index, &checkpoint)?.to_string()));
    }
    println!(
        "making a proof: {:.1} us",
        milliseconds(started) * 1000.0 / PROOFS as f64
    );
    println!(
        "proof {} bytes at most",
        proofs
            .iter()
            .map(|(_, proof)| proof.len())
            .max()
            .unwrap_or(0)
    );
    let started = Instant::now();
    for (index, proof) in &proofs {
        appraise(&entry(*index), proof.as_bytes(), &policy, &freshness)?;
    }
    println!(
        "checking a proof, signature included: {:.1} us",
        milliseconds(started) * 1000.0 / PROOFS as f64
    );
    let started = Instant::now();
    let verified = reader.verify(signer().verifier())?;
    println!(
        "reading and checking the whole log, {} tiles: {:.2} s",
        verified.tiles,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn signer() -> Box<dyn LogSigner> {
    let key = SigningKey::from_seed("bench.example/log", KeyType::Ed25519, &[7; 32].into());
    Box::new(key.expect("the name is one"))
}

/// The number, and filling.
fn entry(number: u64) -> Vec<u8> {
    let mut entry = vec![b'.'; ENTRY_BYTES];
    entry[..20].copy_from_slice(format!("{number:020}").as_bytes());
    entry
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn bytes_below(folder: &Path) -> Result<u64, std::io::Error> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            bytes_below(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

/// The most that this process ever had in memory.
fn peak_memory_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}
