//! What an append is about to write, so that the next one can take back what no checkpoint covers.

use super::{LogError, LogFolders};
use crate::decimal;
use crate::files::{self, Files};
use crate::tiles::{MAX_TILE_LEVELS, TILE_LEVELS, TILE_WIDTH, Tile, TileKind};

/// Of the state: the size that the tree will have.
const INTENT: &str = "intent";

/// A number and a newline.
const MAX_INTENT_BYTES: usize = 32;

/// Says that the tree is about to grow to `size`.
pub(super) fn declare<F: Files>(
    files: &F,
    folders: &LogFolders,
    size: u64,
) -> Result<(), LogError> {
    let text = format!("{size}\n");
    Ok(files::replace(
        files,
        &folders.state.join(INTENT),
        text.as_bytes(),
    )?)
}

/// Says that it has grown.
pub(super) fn fulfil<F: Files>(files: &F, folders: &LogFolders) -> Result<(), LogError> {
    Ok(files.remove(&folders.state.join(INTENT))?)
}

/// Removes the tiles of an append that was interrupted before its checkpoint was signed: those that the tree of `size`
/// leaves does not have. Readers would not look at them, but people would.
pub(super) fn take_back<F: Files>(
    files: &F,
    folders: &LogFolders,
    size: u64,
) -> Result<(), LogError> {
    let Some(bytes) = files.read(&folders.state.join(INTENT), MAX_INTENT_BYTES)? else {
        return Ok(());
    };
    let text = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_suffix('\n'));
    let intended = text.and_then(decimal::parse).ok_or(LogError::Intent)?;
    // The append was done but for the removal of the intent, which a power cut can undo.
    if intended <= size {
        return fulfil(files, folders);
    }
    let levels = (0..MAX_TILE_LEVELS).map(|level| TileKind::Hashes { level });
    for kind in levels.chain([TileKind::Entries]) {
        remove_new_tiles(files, folders, kind, size, intended)?;
    }
    fulfil(files, folders)
}

/// Removes the tiles of `kind` that the tree of `intended` leaves has and that of `size` has not.
fn remove_new_tiles<F: Files>(
    files: &F,
    folders: &LogFolders,
    kind: TileKind,
    size: u64,
    intended: u64,
) -> Result<(), LogError> {
    let shift = match kind {
        TileKind::Entries => 0,
        TileKind::Hashes { level } => level * TILE_LEVELS,
    };
    let tiles = |size: u64| (size >> shift).div_ceil(TILE_WIDTH);
    let first = (size >> shift) / TILE_WIDTH;
    // As many as the append was about to write.
    for index in first..tiles(intended) {
        let Some(tile) = Tile::of_tree(kind, index, intended) else {
            continue;
        };
        if Tile::of_tree(kind, index, size) != Some(tile) {
            files.remove(&folders.log.join(tile.to_string()))?;
        }
    }
    Ok(())
}
