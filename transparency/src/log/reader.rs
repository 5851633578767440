//! Reading a log's folder: entries, proofs, and whether everything in it is what its checkpoint says.

use super::{CHECKPOINT, LogError, read_checkpoint};
use crate::appraise::MAX_ENTRY_BYTES;
use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::files::{Disk, ReadFiles};
use crate::key::VerifierKey;
use crate::merkle::{self, Hash, ProofError, check_consistency, subtree};
use crate::proof::LogProof;
use crate::tiles::{
    MAX_TILE_LEVELS, TILE_BYTES, TILE_WIDTH, Tile, TileKind, TileSource, TreeReader, parse_entries,
    parse_hashes,
};
use std::path::{Path, PathBuf};

/// The most bytes of a bundle: entries behind lengths of two bytes.
const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY_BYTES);

/// Reads a log from its folder, wherever that is. Nothing is locked: what a checkpoint covers does not change.
#[derive(Debug)]
pub struct LogReader<'f, F: ReadFiles = Disk> {
    files: &'f F,
    folder: PathBuf,
}

/// A log that was read as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLog {
    /// The checkpoint that everything agrees with.
    pub checkpoint: SignedCheckpoint,
    /// Tiles and bundles that were read.
    pub tiles: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl LogReader<'static> {
    /// Of a folder on the disk.
    pub fn new(folder: &Path) -> Self {
        Self::new_in(&Disk, folder)
    }
}

impl<'f, F: ReadFiles> LogReader<'f, F> {
    /// Of a folder in some file system, or on a server.
    pub fn new_in(files: &'f F, folder: &Path) -> Self {
        Self {
            files,
            folder: folder.into(),
        }
    }

    /// The checkpoint that is published; whose it is has not been checked.
    ///
    /// # Errors
    /// [`LogError::NotPublished`], [`LogError::Published`], [`LogError::File`].
    pub fn checkpoint(&self) -> Result<SignedCheckpoint, LogError> {
        match read_checkpoint(self.files, &self.folder) {
            Err(LogError::State(error)) => Err(LogError::Published(error)),
            read => read?.ok_or(LogError::NotPublished),
        }
    }

    /// Where the checkpoint is.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.folder.join(CHECKPOINT)
    }

    /// The entry at `index` of the tree of `size` leaves. Only its place in the file says which it is: see
    /// [`Self::prove`].
    ///
    /// # Errors
    /// [`LogError::Proof`] where there is no such entry, [`LogError::Tile`], [`LogError::File`].
    pub fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>, LogError> {
        let at = (index % TILE_WIDTH) as usize;
        let mut entries = self.bundle(index / TILE_WIDTH, size)?;
        if at >= entries.len() {
            return Err(ProofError::IndexOutOfRange { index, size }.into());
        }
        Ok(entries.swap_remove(at))
    }

    /// The entries of bundle `index` in the tree of `size` leaves: from `index * 256`, 256 of them or as many as there
    /// are.
    ///
    /// # Errors
    /// [`LogError::Proof`] where there is no such bundle, [`LogError::Tile`], [`LogError::File`].
    pub fn bundle(&self, index: u64, size: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let tile = Tile::of_tree(TileKind::Entries, index, size);
        let outside = ProofError::IndexOutOfRange {
            index: index.saturating_mul(TILE_WIDTH),
            size,
        };
        let tile = tile.ok_or(outside)?;
        let (of, bytes) = self.tile_bytes(tile, MAX_BUNDLE_BYTES)?;
        let entries = parse_entries(&of, &bytes).ok_or(LogError::Tile(tile))?;
        Ok(entries
            .into_iter()
            .take(tile.width as usize)
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// The bytes of a bundle that is not full.
    pub(super) fn bundle_bytes(&self, tile: Tile) -> Result<Vec<u8>, LogError> {
        let (of, bytes) = self.tile_bytes(tile, MAX_BUNDLE_BYTES)?;
        let entries = parse_entries(&of, &bytes).ok_or(LogError::Tile(tile))?;
        let kept = entries
            .iter()
            .take(tile.width as usize)
            .map(|entry| 2 + entry.len())
            .sum();
        Ok(bytes[..kept].to_vec())
    }

    /// A tile's bytes, and which tile they are: the full one where the log no longer has the partial one.
    fn tile_bytes(&self, tile: Tile, most_bytes: usize) -> Result<(Tile, Vec<u8>), LogError> {
        for tile in [tile, tile.full()] {
            let path = self.folder.join(tile.to_string());
            if let Some(bytes) = self.files.read(&path, most_bytes)? {
                return Ok((tile, bytes));
            }
        }
        Err(LogError::Tile(tile))
    }

    /// The hash of the entry at `index`.
    pub(super) fn leaf(&mut self, index: u64, size: u64) -> Result<Hash, LogError> {
        let kind = TileKind::Hashes { level: 0 };
        let tile = Tile::of_tree(kind, index / TILE_WIDTH, size);
        let outside = ProofError::IndexOutOfRange { index, size };
        let hashes = self.hashes(tile.ok_or(outside)?)?;
        Ok(*hashes.get((index % TILE_WIDTH) as usize).ok_or(outside)?)
    }

    /// The proof that the entry at `index` is in the tree of `checkpoint`, which is checked once more: a proof that does
    /// not hold is not given out.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn prove(
        &mut self,
        index: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<LogProof, LogError> {
        let size = checkpoint.checkpoint().size;
        let hashes = merkle::inclusion_proof(&mut TreeReader::new(self, size), index, size)?;
        let leaf = self.leaf(index, size)?;
        let proof = LogProof {
            extra: None,
            index,
            hashes,
            checkpoint: checkpoint.clone(),
        };
        proof.check_leaf(&leaf)?;
        Ok(proof)
    }

    /// The consistency proof between two sizes.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn consistency_proof(
        &mut self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, LogError> {
        merkle::consistency_proof(&mut TreeReader::new(self, new_size), old_size, new_size)
    }

    /// Whether `old` is the beginning of `new`, as far as the tiles can prove it.
    ///
    /// # Errors
    /// [`LogError`] where the tiles cannot be read.
    pub fn is_ancestor(&self, old: &Checkpoint, new: &Checkpoint) -> Result<bool, LogError> {
        if old.origin != new.origin || old.size > new.size {
            return Ok(false);
        }
        let mut reader = Self::new_in(self.files, &self.folder);
        let proof = reader.consistency_proof(old.size, new.size)?;
        Ok(check_consistency(old.size, &old.root, new.size, &new.root, &proof).is_ok())
    }

    /// Reads everything: that the checkpoint is by `key`, every entry hashes to its leaf, every tile to the one above,
    /// and all of them to the root.
    ///
    /// # Errors
    /// [`LogError`], the first thing that is wrong.
    pub fn verify(&mut self, key: &VerifierKey) -> Result<VerifiedLog, LogError> {
        let checkpoint = self.checkpoint()?;
        let by_log = checkpoint.verify_log([key]);
        by_log.map_err(|error| LogError::Published(CheckpointError::Note(error)))?;
        let tree = checkpoint.checkpoint();
        let (mut tiles, mut bytes) = (0, 0);
        for level in 0..MAX_TILE_LEVELS {
            for index in 0.. {
                let kind = TileKind::Hashes { level };
                let Some(tile) = Tile::of_tree(kind, index, tree.size) else {
                    break;
                };
                bytes += self.verify_tile(tile, level, tree.size)?;
                tiles += if level == 0 { 2 } else { 1 };
            }
        }
        let computed = merkle::root(&mut TreeReader::new(self, tree.size), tree.size)?;
        if computed != tree.root {
            return Err(LogError::TilesMismatch {
                size: tree.size,
                computed,
            });
        }
        Ok(VerifiedLog {
            checkpoint,
            tiles,
            bytes,
        })
    }

    /// Compares a tile with what is below it, and gives the bytes that were read for the first time.
    fn verify_tile(&mut self, tile: Tile, level: u8, size: u64) -> Result<u64, LogError> {
        let hashes = self.hashes(tile)?;
        let mut bytes = (hashes.len() * size_of::<Hash>()) as u64;
        let below = match level.checked_sub(1) {
            None => {
                let entries = self.bundle(tile.index, size)?;
                bytes += entries
                    .iter()
                    .map(|entry| 2 + entry.len() as u64)
                    .sum::<u64>();
                entries.iter().map(|entry| Hash::leaf(entry)).collect()
            }
            Some(level) => self.roots_of_tiles(level, tile)?,
        };
        if hashes == below {
            Ok(bytes)
        } else {
            Err(LogError::TileMismatch(tile))
        }
    }

    /// The roots of the full tiles at `level` which `tile` is made of.
    fn roots_of_tiles(&mut self, level: u8, tile: Tile) -> Result<Vec<Hash>, LogError> {
        let first = tile.index * TILE_WIDTH;
        let roots = (first..first + tile.width).map(|index| {
            let kind = TileKind::Hashes { level };
            let hashes = self.hashes(Tile {
                kind,
                index,
                width: TILE_WIDTH,
            })?;
            Ok(subtree(&hashes))
        });
        roots.collect()
    }
}

impl<F: ReadFiles> TileSource for LogReader<'_, F> {
    type Error = LogError;

    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, LogError> {
        let (of, bytes) = self.tile_bytes(tile, TILE_BYTES)?;
        let mut hashes = parse_hashes(&of, &bytes).ok_or(LogError::Tile(tile))?;
        hashes.truncate(tile.width as usize);
        Ok(hashes)
    }
}
