//! The right edge of the tree: the tiles that are not full yet, which is all that an append has to know.

use super::{LogError, LogReader};
use crate::files::ReadFiles;
use crate::merkle::{self, Hash, NodeReader, subtree};
use crate::tiles::{
    MAX_TILE_LEVELS, TILE_LEVELS, TILE_WIDTH, Tile, TileKind, TileSource, hashes_to_bytes,
    push_entry,
};

/// A tile and its content.
type Content = (Tile, Vec<u8>);

/// The tiles that are not full, in memory.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    size: u64,
    /// Hashes of the tile at each level that is not full, 255 at most.
    levels: [Vec<Hash>; MAX_TILE_LEVELS as usize],
    /// The bundle that is not full.
    bundle: Vec<u8>,
    full_bundle: Option<Content>,
    full_tiles: Vec<Content>,
    /// Levels below this one have changed since the last time that files were taken.
    changed_levels: usize,
}

impl Edge {
    /// Reads the edge of the tree of `size` leaves.
    pub(super) fn read<F: ReadFiles>(
        reader: &mut LogReader<'_, F>,
        size: u64,
    ) -> Result<Self, LogError> {
        let mut edge = Self {
            size,
            levels: Default::default(),
            bundle: Vec::new(),
            full_bundle: None,
            full_tiles: Vec::new(),
            changed_levels: 0,
        };
        for level in 0..MAX_TILE_LEVELS {
            if let Some(tile) = edge.partial(TileKind::Hashes { level }) {
                edge.levels[usize::from(level)] = reader.hashes(tile)?;
            }
        }
        if let Some(tile) = edge.partial(TileKind::Entries) {
            edge.bundle = reader.bundle_bytes(tile)?;
        }
        Ok(edge)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Hash {
        let mut nodes = Nodes(self);
        let Ok(root) = merkle::root(&mut nodes, self.size);
        root
    }

    /// Appends an entry with its hash.
    ///
    /// # Panics
    /// Where the entry is 64 KiB or more; every caller has checked.
    pub(super) fn push(&mut self, entry: &[u8], hash: Hash) {
        push_entry(&mut self.bundle, entry).expect("the caller has checked its length");
        let index = self.size / TILE_WIDTH;
        self.size += 1;
        if self.size.is_multiple_of(TILE_WIDTH) {
            let tile = Tile {
                kind: TileKind::Entries,
                index,
                width: TILE_WIDTH,
            };
            self.full_bundle = Some((tile, std::mem::take(&mut self.bundle)));
        }
        self.push_hash(hash);
    }

    /// Appends a hash to the lowest level; a tile that is full is a hash of the next level.
    fn push_hash(&mut self, mut hash: Hash) {
        for level in 0..MAX_TILE_LEVELS {
            let hashes = &mut self.levels[usize::from(level)];
            hashes.push(hash);
            self.changed_levels = self.changed_levels.max(usize::from(level) + 1);
            if hashes.len() < TILE_WIDTH as usize {
                return;
            }
            let full = std::mem::take(hashes);
            let index = (self.size >> (level * TILE_LEVELS)) / TILE_WIDTH - 1;
            let tile = Tile {
                kind: TileKind::Hashes { level },
                index,
                width: TILE_WIDTH,
            };
            self.full_tiles.push((tile, hashes_to_bytes(&full)));
            hash = subtree(&full);
        }
    }

    /// The bundle that has become full, once.
    pub(super) fn take_full_bundle(&mut self) -> Option<Content> {
        self.full_bundle.take()
    }

    /// The tiles that have become full, and the changed ones that are not full.
    pub(super) fn take_files(&mut self) -> Vec<Content> {
        let mut files = std::mem::take(&mut self.full_tiles);
        files.extend(self.full_bundle.take());
        if let Some(tile) = self.partial(TileKind::Entries) {
            files.push((tile, self.bundle.clone()));
        }
        for level in 0..std::mem::take(&mut self.changed_levels) {
            if let Some(tile) = self.partial(TileKind::Hashes { level: level as u8 }) {
                files.push((tile, hashes_to_bytes(&self.levels[level])));
            }
        }
        files
    }

    /// The last tile of a kind where it is not full.
    fn partial(&self, kind: TileKind) -> Option<Tile> {
        let level = match kind {
            TileKind::Entries => 0,
            TileKind::Hashes { level } => level,
        };
        let index = (self.size >> (level * TILE_LEVELS)) / TILE_WIDTH;
        Tile::of_tree(kind, index, self.size)
    }
}

/// Reads the complete subtrees that make up the root: each is in a tile that is not full.
struct Nodes<'e>(&'e Edge);

impl NodeReader for Nodes<'_> {
    type Error = std::convert::Infallible;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        let above = level % TILE_LEVELS;
        let first = ((index << above) % TILE_WIDTH) as usize;
        let hashes = &self.0.levels[usize::from(level / TILE_LEVELS)];
        Ok(subtree(&hashes[first..first + (1 << above)]))
    }
}
