//! Names and widths of tiles, and trees out of tiles.

use super::*;
use crate::merkle::{self, naive};
use alloc::string::ToString;
use alloc::vec;

const HASHES: TileKind = TileKind::Hashes { level: 0 };

#[test]
fn paths_are_those_of_the_specification() {
    let path = |kind, index, width| Tile { kind, index, width }.to_string();
    assert_eq!(path(HASHES, 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(path(HASHES, 0, 8), "tile/0/000.p/8");
    assert_eq!(
        path(TileKind::Hashes { level: 7 }, 999, 255),
        "tile/7/999.p/255"
    );
    assert_eq!(path(TileKind::Entries, 1000, 256), "tile/entries/x001/000");
    assert_eq!(
        path(HASHES, u64::MAX, 1),
        "tile/0/x018/x446/x744/x073/x709/x551/615.p/1"
    );
}

/// "A tree of size 70,000 will be represented by 273 full level 0 tiles, one partial level 0 tile of width 112, one full
/// level 1 tile, one partial level 1 tile of width 17, and one partial level 2 tile of width 1."
#[test]
fn widths_are_those_of_the_specification() {
    let width = |level, index, size| {
        Tile::of_tree(TileKind::Hashes { level }, index, size).map(|tile| tile.width)
    };
    assert_eq!(
        (
            width(0, 272, 70_000),
            width(0, 273, 70_000),
            width(0, 274, 70_000)
        ),
        (Some(256), Some(112), None)
    );
    assert_eq!(
        (
            width(1, 0, 70_000),
            width(1, 1, 70_000),
            width(1, 2, 70_000)
        ),
        (Some(256), Some(17), None)
    );
    assert_eq!((width(2, 0, 70_000), width(3, 0, 70_000)), (Some(1), None));
    assert_eq!(
        (width(0, 0, 256), width(0, 1, 256), width(1, 0, 256)),
        (Some(256), None, Some(1))
    );
    assert_eq!(
        (
            width(7, 0, 1 << 62),
            width(8, 0, u64::MAX),
            width(0, u64::MAX, 1)
        ),
        (Some(64), None, None)
    );
}

#[test]
fn entries_are_behind_their_lengths() {
    let mut bundle = Vec::new();
    let largest = vec![7; 0xffff];
    for entry in [&b"one"[..], b"", &largest] {
        push_entry(&mut bundle, entry).expect("it fits");
    }
    let before = bundle.clone();
    assert_eq!(push_entry(&mut bundle, &vec![7; 0x1_0000]), None);
    assert_eq!(bundle, before);
    let tile = |width| Tile {
        kind: TileKind::Entries,
        index: 0,
        width,
    };
    assert_eq!(
        parse_entries(&tile(3), &bundle),
        Some(vec![&b"one"[..], b"", &largest])
    );
    for width in [2, 4, 256] {
        assert_eq!(parse_entries(&tile(width), &bundle), None);
    }
    assert_eq!(parse_entries(&tile(3), &bundle[..bundle.len() - 1]), None);
}

#[test]
fn hashes_are_whole_and_as_many_as_the_width() {
    let hashes = naive::leaves(3);
    let bytes = hashes_to_bytes(&hashes);
    let tile = |width| Tile {
        kind: HASHES,
        index: 0,
        width,
    };
    assert_eq!(parse_hashes(&tile(3), &bytes), Some(hashes));
    assert_eq!(parse_hashes(&tile(2), &bytes), None);
    assert_eq!(parse_hashes(&tile(3), &bytes[1..]), None);
}

/// Tiles of leaves in memory, made as the specification defines them.
struct Made(Vec<Hash>);

impl TileSource for Made {
    type Error = ProofError;

    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, ProofError> {
        let TileKind::Hashes { level } = tile.kind else {
            panic!("only hashes are asked for");
        };
        let leaves = 1_usize << (8 * level);
        let first = tile.index as usize * 256;
        let range = first..first + tile.width as usize;
        Ok(range
            .map(|at| naive::root(&self.0[at * leaves..(at + 1) * leaves]))
            .collect())
    }
}

#[test]
fn trees_are_read_out_of_tiles() {
    let leaves = naive::leaves(1100);
    let mut source = Made(leaves.clone());
    for size in [
        1, 2, 255, 256, 257, 300, 511, 512, 513, 768, 1000, 1024, 1100_usize,
    ] {
        let tree = &leaves[..size];
        let mut reader = TreeReader::new(&mut source, size as u64);
        let root = naive::root(tree);
        assert_eq!(merkle::root(&mut reader, size as u64), Ok(root), "{size}");
        for index in [0, 1, size / 3, size / 2, size - 1]
            .into_iter()
            .filter(|at| *at < size)
        {
            let proof = merkle::inclusion_proof(&mut reader, index as u64, size as u64);
            assert_eq!(proof, Ok(naive::path(index, tree)), "{index} of {size}");
        }
        for old in [1, size / 3, size / 2, size - 1]
            .into_iter()
            .filter(|old| *old > 0)
        {
            let proof = merkle::consistency_proof(&mut reader, old as u64, size as u64);
            assert_eq!(proof, Ok(naive::proof(old, tree)), "{old} to {size}");
        }
        assert!(
            merkle::root(&mut reader, 2 * size as u64).is_err(),
            "beyond the tree"
        );
    }
}
