//! Where tiles and entry bundles are (C2SP tlog-tiles), and reading trees out of them.

use crate::merkle::{HASH_BYTES, Hash, NodeReader, ProofError, subtree};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[cfg(test)]
mod tests;

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Levels of the tree in a tile.
pub const TILE_LEVELS: u8 = 8;

/// Levels of tiles that a tree below 2^63 leaves can have.
pub const MAX_TILE_LEVELS: u8 = 8;

/// Bytes of a full tile.
pub const TILE_BYTES: usize = TILE_WIDTH as usize * HASH_BYTES;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// Entries.
    Entries,
    /// Hashes of subtrees of 256^level leaves.
    Hashes {
        /// From 0, whose hashes are of leaves.
        level: u8,
    },
}

/// The name of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its index within the level.
    pub index: u64,
    /// How many it holds, from 1 to [`TILE_WIDTH`].
    pub width: u64,
}

impl Tile {
    /// The tile at `index` of `kind`, as wide as it is in the tree of `size` leaves; `None` where that has none there.
    pub fn of_tree(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            TileKind::Entries => 0,
            TileKind::Hashes { level } => level,
        };
        let at_level = size
            .checked_shr(u32::from(level) * u32::from(TILE_LEVELS))
            .unwrap_or(0);
        let left = at_level.checked_sub(index.checked_mul(TILE_WIDTH)?)?;
        let width = left.min(TILE_WIDTH);
        (width > 0).then_some(Self { kind, index, width })
    }

    /// The full tile of the same place.
    pub fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Whether it will grow no more.
    pub fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }
}

/// The path below the log's prefix, such as `tile/0/x001/x234/067.p/8`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => write!(f, "tile/entries/")?,
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
        }
        f.write_str(&index_path(self.index))?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

/// Groups of three digits, each but the last behind an `x`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    // At most 7 times: an index has 20 digits.
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Reads the hashes of a tile; `None` where it is not whole hashes, as many as its width.
pub fn parse_hashes(tile: &Tile, bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    let whole = rest.is_empty() && hashes.len() as u64 == tile.width;
    whole.then(|| hashes.iter().copied().map(Hash).collect())
}

/// The bytes of a tile of hashes.
pub fn hashes_to_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads the entries of a bundle, each behind its length; `None` where they are not as many as its width.
pub fn parse_entries<'a>(tile: &Tile, bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let (mut entries, mut rest) = (Vec::new(), bytes);
    // As many times as the tile is wide, which is at most 256.
    for _ in 0..tile.width {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let (entry, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        entries.push(entry);
        rest = behind;
    }
    rest.is_empty().then_some(entries)
}

/// Appends an entry behind its length; `None`, and nothing appended, where it is 64 KiB or more.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let length = u16::try_from(entry.len()).ok()?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

/// Where tiles of hashes come from: a directory, a server.
pub trait TileSource {
    /// Why a tile could not be had.
    type Error: From<ProofError>;

    /// The hashes of `tile`, as many as its width. A source that has only the full tile gives the first of it.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, Self::Error>;
}

/// Reads the tree of one size out of tiles, each once.
pub struct TreeReader<'s, S> {
    source: &'s mut S,
    size: u64,
    read: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl<'s, S: TileSource> TreeReader<'s, S> {
    /// Of the tree of `size` leaves.
    pub fn new(source: &'s mut S, size: u64) -> Self {
        Self {
            source,
            size,
            read: BTreeMap::new(),
        }
    }
}

impl<S: TileSource> NodeReader for TreeReader<'_, S> {
    type Error = S::Error;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, S::Error> {
        let (tile_level, above) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let first = index << above;
        let (at, offset) = (first / TILE_WIDTH, (first % TILE_WIDTH) as usize);
        let range = offset..offset + (1 << above);
        let outside = ProofError::IndexOutOfRange {
            index: index << level,
            size: self.size,
        };
        if !self.read.contains_key(&(tile_level, at)) {
            let kind = TileKind::Hashes { level: tile_level };
            let tile = Tile::of_tree(kind, at, self.size).ok_or(outside)?;
            let hashes = self.source.hashes(tile)?;
            self.read.insert((tile_level, at), hashes);
        }
        let hashes = self
            .read
            .get(&(tile_level, at))
            .and_then(|hashes| hashes.get(range));
        Ok(subtree(hashes.ok_or(outside)?))
    }
}
