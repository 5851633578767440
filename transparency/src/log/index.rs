//! Which entries are in the log already: leaf hashes and their indices, in sorted files ("runs") of the state.
//!
//! Each append adds a run, and runs are merged so that each is more than twice as long as the next one: there are few of
//! them, and each entry is written again about as often as the number of entries has binary digits. The index is a hint:
//! it is written after the checkpoint, made again from the tiles where it is missing, and what it finds is compared with
//! the tile.

use super::{LogError, LogReader};
use crate::files::{self, Files};
use crate::merkle::{HASH_BYTES, Hash};
use crate::tiles::{TILE_WIDTH, Tile, TileKind, TileSource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Of the state: the folder of the runs.
const INDEX: &str = "index";

/// Bytes of a record: a hash, and a big-endian index.
const RECORD_BYTES: usize = HASH_BYTES + 8;

/// Records that are read at a time where a run is read from front to back: 64 KiB or so.
const CHUNK_RECORDS: u64 = 1638;

/// A run is read from front to back where it has no more records than this for each hash that is looked for; else it is
/// searched.
const SCAN_RECORDS_PER_HASH: u64 = 64;

/// A sorted file with the entries from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
}

impl Run {
    fn records(self) -> u64 {
        self.end - self.start
    }

    fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}", self.start, self.end))
    }

    fn parse(name: &str) -> Option<Self> {
        let (start, end) = name.split_once('-')?;
        let run = Self {
            start: crate::decimal::parse(start)?,
            end: crate::decimal::parse(end)?,
        };
        (run.start < run.end).then_some(run)
    }
}

/// The runs, which follow each other from entry 0.
#[derive(Clone, Debug)]
pub(super) struct Index {
    folder: PathBuf,
    runs: Vec<Run>,
}

impl Index {
    /// Finds the runs of the first `size` entries, removes other files, and adds what is missing from the tiles.
    pub(super) fn open<F: Files>(
        files: &F,
        state: &Path,
        reader: &mut LogReader<'_, F>,
        size: u64,
    ) -> Result<Self, LogError> {
        let folder = state.join(INDEX);
        files::create_folders(files, &folder)?;
        let mut found = Vec::new();
        for name in files.names(&folder)? {
            match name.to_str().and_then(Run::parse) {
                Some(run) if is_whole(files, &folder, run)? => found.push(run),
                _ => files.remove(&folder.join(name))?,
            }
        }
        let mut index = Self {
            runs: chain(&found, size),
            folder,
        };
        for run in found.iter().filter(|run| !index.runs.contains(run)) {
            files.remove(&run.path(&index.folder))?;
        }
        let leaves = read_leaves(reader, index.end(), size)?;
        index.add(files, leaves)?;
        Ok(index)
    }

    fn end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Adds the entries with these hashes behind the last one.
    pub(super) fn add<F: Files>(&mut self, files: &F, leaves: Vec<Hash>) -> Result<(), LogError> {
        if leaves.is_empty() {
            return Ok(());
        }
        let start = self.end();
        let mut run = Run {
            start,
            end: start + leaves.len() as u64,
        };
        let mut records: Vec<u8> = Vec::with_capacity(leaves.len() * RECORD_BYTES);
        let mut sorted: Vec<_> = leaves.into_iter().zip(start..).collect();
        sorted.sort_unstable();
        for (hash, index) in sorted {
            records.extend_from_slice(&hash.0);
            records.extend_from_slice(&index.to_be_bytes());
        }
        let mut merged = Vec::new();
        while let Some(last) = self
            .runs
            .last()
            .copied()
            .filter(|last| last.records() <= 2 * run.records())
        {
            let mut older = vec![0; (last.records() as usize) * RECORD_BYTES];
            files.read_at(&last.path(&self.folder), 0, &mut older)?;
            records = merge(&older, &records);
            run.start = last.start;
            merged.extend(self.runs.pop());
        }
        files::replace(files, &run.path(&self.folder), &records)?;
        self.runs.push(run);
        // Where this is interrupted, the longest runs are taken and the others removed.
        merged
            .iter()
            .try_for_each(|old| files.remove(&old.path(&self.folder)))?;
        Ok(())
    }

    /// The indices of those of `hashes` that are in the log.
    pub(super) fn find<F: Files>(
        &self,
        files: &F,
        hashes: &[Hash],
    ) -> Result<BTreeMap<Hash, u64>, LogError> {
        let mut sorted = hashes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut found = BTreeMap::new();
        for run in &self.runs {
            let path = run.path(&self.folder);
            if run.records() <= SCAN_RECORDS_PER_HASH * sorted.len() as u64 {
                scan(files, &path, *run, &sorted, &mut found)?;
            } else {
                for hash in &sorted {
                    found.extend(search(files, &path, *run, hash)?.map(|index| (*hash, index)));
                }
            }
        }
        Ok(found)
    }
}

/// Whether a run has as many bytes as its name says.
fn is_whole<F: Files>(files: &F, folder: &Path, run: Run) -> Result<bool, LogError> {
    let length = files.length(&run.path(folder))?;
    Ok(length == run.records().checked_mul(RECORD_BYTES as u64))
}

/// Of the runs those that follow each other from 0 to `size` at most, the longest at each place.
fn chain(found: &[Run], size: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // At most as many times as there are runs: each begins where the one before ends.
    loop {
        let end = runs.last().map_or(0, |run| run.end);
        let next = found
            .iter()
            .filter(|run| run.start == end && run.end <= size);
        let Some(longest) = next.max_by_key(|run| run.end) else {
            return runs;
        };
        runs.push(*longest);
    }
}

/// The hashes of the leaves from `start` to `size`, out of the tiles.
fn read_leaves<F: Files>(
    reader: &mut LogReader<'_, F>,
    start: u64,
    size: u64,
) -> Result<Vec<Hash>, LogError> {
    let mut leaves = Vec::new();
    for tile in start / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
        let kind = TileKind::Hashes { level: 0 };
        if let Some(tile) = Tile::of_tree(kind, tile, size) {
            let before = start.saturating_sub(tile.index * TILE_WIDTH) as usize;
            leaves.extend(reader.hashes(tile)?.into_iter().skip(before));
        }
    }
    Ok(leaves)
}

/// Merges records that are sorted.
fn merge(older: &[u8], newer: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(older.len() + newer.len());
    let (mut older, mut newer) = (older, newer);
    while let (Some((a, behind_a)), Some((b, behind_b))) = (
        older.split_first_chunk::<RECORD_BYTES>(),
        newer.split_first_chunk::<RECORD_BYTES>(),
    ) {
        if a <= b {
            out.extend_from_slice(a);
            older = behind_a;
        } else {
            out.extend_from_slice(b);
            newer = behind_b;
        }
    }
    out.extend_from_slice(older);
    out.extend_from_slice(newer);
    out
}

/// A record's hash and index.
fn split(record: &[u8; RECORD_BYTES]) -> (Hash, u64) {
    let hash = core::array::from_fn(|at| record[at]);
    let index = core::array::from_fn(|at| record[HASH_BYTES + at]);
    (Hash(hash), u64::from_be_bytes(index))
}

/// Reads a run from front to back, beside the sorted hashes.
fn scan<F: Files>(
    files: &F,
    path: &Path,
    run: Run,
    sorted: &[Hash],
    found: &mut BTreeMap<Hash, u64>,
) -> Result<(), LogError> {
    let mut wanted = sorted.iter().peekable();
    let mut at = 0;
    while at < run.records() && wanted.peek().is_some() {
        let records = CHUNK_RECORDS.min(run.records() - at);
        let mut chunk = vec![0; records as usize * RECORD_BYTES];
        files.read_at(path, at * RECORD_BYTES as u64, &mut chunk)?;
        for (hash, index) in chunk.as_chunks().0.iter().map(split) {
            while wanted.next_if(|next| **next < hash).is_some() {}
            if wanted.next_if(|next| **next == hash).is_some() {
                found.insert(hash, index);
            }
        }
        at += records;
    }
    Ok(())
}

/// Looks for one hash by halving.
fn search<F: Files>(
    files: &F,
    path: &Path,
    run: Run,
    wanted: &Hash,
) -> Result<Option<u64>, LogError> {
    let (mut low, mut high) = (0, run.records());
    while low < high {
        let middle = low + (high - low) / 2;
        let mut record = [0; RECORD_BYTES];
        files.read_at(path, middle * RECORD_BYTES as u64, &mut record)?;
        let (hash, index) = split(&record);
        match hash.cmp(wanted) {
            std::cmp::Ordering::Equal => return Ok(Some(index)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}
