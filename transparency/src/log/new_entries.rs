//! What is new in a log since it was seen last, checked against both checkpoints before any of it is given out.

use super::{LogError, LogReader};
use crate::checkpoint::Checkpoint;
use crate::files::ReadFiles;
use crate::merkle::{Frontier, Hash};
use crate::tiles::{TILE_WIDTH, Tile, TileKind, TileSource, TreeReader};

/// The most entries that are new at once: their hashes, 32 MiB, are held in memory, the entries of one bundle at a time.
pub const MAX_NEW_ENTRIES: u64 = 1 << 20;

/// An entry that is in the tree of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEntry {
    /// Where it is.
    pub index: u64,
    /// Its hash.
    pub leaf: Hash,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The new entries, a bundle of at most 256 at a time. Each entry's hash is that of the tree.
#[derive(Debug)]
pub struct NewEntries<'r, 'f, F: ReadFiles> {
    reader: &'r LogReader<'f, F>,
    size: u64,
    /// Index of the first of `leaves`.
    first: u64,
    leaves: Vec<Hash>,
    next_bundle: u64,
}

impl<'f, F: ReadFiles> LogReader<'f, F> {
    /// The entries that `new` has more than `old`, or all of them. The hashes of all are read first, and have to lead from
    /// the root of `old` to that of `new`: that is the proof of consistency too. Who signed the checkpoints is another
    /// question.
    ///
    /// # Errors
    /// [`LogError::RolledBack`], [`LogError::Contradicts`], [`LogError::OtherLog`], [`LogError::TooManyNew`],
    /// [`LogError::TilesMismatch`], and others where tiles cannot be read.
    pub fn new_entries(
        &mut self,
        old: Option<&Checkpoint>,
        new: &Checkpoint,
    ) -> Result<NewEntries<'_, 'f, F>, LogError> {
        let empty = Checkpoint::new(&new.origin, 0, Hash::empty_tree());
        let old = old.unwrap_or(&empty);
        check_order(old, new)?;
        let mut frontier = Frontier::read(&mut TreeReader::new(self, new.size), old.size)?;
        if frontier.root() != old.root {
            return Err(LogError::Contradicts {
                seen: old.size,
                now: new.size,
            });
        }
        let leaves = self.leaves(old.size, new.size)?;
        for leaf in &leaves {
            frontier.push(*leaf);
        }
        let computed = frontier.root();
        if computed != new.root {
            return Err(LogError::TilesMismatch {
                size: new.size,
                computed,
            });
        }
        Ok(NewEntries {
            reader: self,
            size: new.size,
            first: old.size,
            leaves,
            next_bundle: old.size / TILE_WIDTH,
        })
    }

    /// The hashes of the entries from `first` up to `size`, as the tiles have them.
    fn leaves(&mut self, first: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        let mut leaves = Vec::new();
        let mut index = first;
        while index < size {
            let kind = TileKind::Hashes { level: 0 };
            // There is one, as the index is below the size.
            let Some(tile) = Tile::of_tree(kind, index / TILE_WIDTH, size) else {
                break;
            };
            let hashes = self.hashes(tile)?;
            leaves.extend(hashes.into_iter().skip((index % TILE_WIDTH) as usize));
            index = (tile.index + 1).saturating_mul(TILE_WIDTH);
        }
        Ok(leaves)
    }
}

fn check_order(old: &Checkpoint, new: &Checkpoint) -> Result<(), LogError> {
    let (seen, now) = (old.size, new.size);
    if old.origin != new.origin {
        return Err(LogError::OtherLog {
            seen: old.origin.clone(),
            now: new.origin.clone(),
        });
    }
    match now.checked_sub(seen) {
        None => Err(LogError::RolledBack { seen, now }),
        Some(0) if old.root != new.root => Err(LogError::Contradicts { seen, now }),
        Some(count) if count > MAX_NEW_ENTRIES => Err(LogError::TooManyNew { new: count }),
        Some(_) => Ok(()),
    }
}

impl<F: ReadFiles> NewEntries<'_, '_, F> {
    /// How many entries are new, those included that were given out already.
    pub fn count(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn read_bundle(&self, bundle: u64) -> Result<Vec<CheckedEntry>, LogError> {
        let entries = self.reader.bundle(bundle, self.size)?;
        let indices = (bundle * TILE_WIDTH..).take(entries.len());
        let new = indices.zip(entries).filter(|(at, _)| *at >= self.first);
        new.map(|(index, bytes)| {
            let leaf = Hash::leaf(&bytes);
            if self.leaves.get((index - self.first) as usize) == Some(&leaf) {
                Ok(CheckedEntry { index, leaf, bytes })
            } else {
                Err(LogError::EntryMismatch { index })
            }
        })
        .collect()
    }
}

impl<F: ReadFiles> Iterator for NewEntries<'_, '_, F> {
    type Item = Result<Vec<CheckedEntry>, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bundle = self.next_bundle;
        if self.leaves.is_empty() || bundle >= self.size.div_ceil(TILE_WIDTH) {
            return None;
        }
        let read = self.read_bundle(bundle);
        // After an error there is nothing more that could be trusted.
        self.next_bundle = if read.is_ok() { bundle + 1 } else { u64::MAX };
        Some(read)
    }
}
