//! What is new since the log was seen last; nothing that the tree does not have is given out.

use super::*;
use crate::merkle::{Frontier, ProofError};

/// The checkpoints at each of these sizes, and the files of the last.
fn grown(sizes: &[u64]) -> (Vec<Checkpoint>, Simulated) {
    let files = simulated();
    let mut log = init(&files);
    let mut checkpoints = Vec::new();
    for size in sizes {
        log.append(&entries(log.checkpoint().checkpoint().size..*size))
            .expect("room");
        checkpoints.push(log.checkpoint().checkpoint().clone());
    }
    (checkpoints, files)
}

fn new_entries(
    files: &Simulated,
    old: Option<&Checkpoint>,
    new: &Checkpoint,
) -> Result<Vec<CheckedEntry>, LogError> {
    let mut reader = LogReader::new_in(files, &folders().log);
    let bundles = reader.new_entries(old, new)?;
    let read: Result<Vec<_>, _> = bundles.collect();
    Ok(read?.concat())
}

#[test]
fn from_every_size_to_every_other() {
    let sizes = [0, 1, 2, 255, 256, 257, 300, 512, 600];
    let (checkpoints, files) = grown(&sizes);
    for (at, new) in checkpoints.iter().enumerate() {
        let all = new_entries(&files, None, new).expect("a log");
        assert_eq!(all.len() as u64, new.size);
        for old in &checkpoints[..=at] {
            let read = new_entries(&files, Some(old), new).expect("a log");
            assert_eq!(read, all[old.size as usize..]);
            for (index, read) in (old.size..).zip(read) {
                assert_eq!((read.index, read.bytes), (index, entry(index)));
            }
        }
    }
}

#[test]
fn two_histories_are_found_out() {
    let (checkpoints, files) = grown(&[3, 300]);
    let [old, new] = &checkpoints[..] else {
        panic!("two");
    };
    let read = |old: &Checkpoint, new: &Checkpoint| new_entries(&files, Some(old), new).err();
    let (seen, now) = (300, 3);
    assert_eq!(read(new, old), Some(LogError::RolledBack { seen, now }));
    let mut forked = old.clone();
    forked.root = Hash([7; 32]);
    let (seen, now) = (3, 300);
    assert_eq!(
        read(&forked, new),
        Some(LogError::Contradicts { seen, now })
    );
    let (seen, now) = (3, 3);
    assert_eq!(
        read(&forked, old),
        Some(LogError::Contradicts { seen, now })
    );
    let mut other = old.clone();
    other.origin = "other.example".into();
    assert!(matches!(read(&other, new), Some(LogError::OtherLog { .. })));
    // A checkpoint of a tree that the tiles do not have.
    let mut lie = new.clone();
    lie.root = Hash([7; 32]);
    assert!(matches!(
        read(old, &lie),
        Some(LogError::TilesMismatch { size: 300, .. })
    ));
    let mut huge = new.clone();
    huge.size = MAX_NEW_ENTRIES + 4;
    let new = MAX_NEW_ENTRIES + 1;
    assert_eq!(read(old, &huge), Some(LogError::TooManyNew { new }));
}

/// Whoever serves the log serves other entries than the tree has: nothing of that bundle is given out.
#[test]
fn an_altered_bundle_or_tile_is_found_out() {
    let (checkpoints, files) = grown(&[10, 300]);
    let [old, new] = &checkpoints[..] else {
        panic!("two");
    };
    let alter = |path: &str, from: &[u8], to: &[u8]| {
        let path = folders().log.join(path);
        let bytes = files.read(&path, 1 << 20).expect("readable");
        let mut bytes = bytes.expect("a file");
        let at = bytes.windows(from.len()).position(|part| part == from);
        let at = at.expect("there");
        bytes[at..at + to.len()].copy_from_slice(to);
        files.write(&path, &bytes).expect("written");
    };
    alter("tile/entries/001.p/44", b"entry 260", b"entry 999");
    for seen in [None, Some(old)] {
        let mut reader = LogReader::new_in(&files, &folders().log);
        let mut bundles = reader.new_entries(seen, new).expect("tiles");
        assert!(bundles.next().expect("two bundles").is_ok());
        let index = 260;
        let error = Some(Err(LogError::EntryMismatch { index }));
        assert_eq!(bundles.next(), error);
        assert_eq!(bundles.next(), None);
    }
    let (right, wrong) = (Hash::leaf(&entry(20)), Hash::leaf(b"another"));
    alter("tile/0/000", &right.0, &wrong.0);
    for seen in [None, Some(old)] {
        let read = new_entries(&files, seen, new);
        assert!(
            matches!(read, Err(LogError::TilesMismatch { .. })),
            "{read:?}"
        );
    }
}

#[test]
fn the_frontier_has_the_root_at_every_size() {
    struct Leaves(Vec<Hash>);
    impl merkle::NodeReader for Leaves {
        type Error = ProofError;

        fn node(&mut self, level: u8, index: u64) -> Result<Hash, ProofError> {
            let start = (index as usize) << level;
            Ok(merkle::subtree(&self.0[start..start + (1 << level)]))
        }
    }
    let mut leaves = Leaves((0..70).map(|n| Hash::leaf(&entry(n))).collect());
    let mut pushed = Frontier::default();
    for size in 0..70 {
        assert_eq!(pushed.root(), naive::root(&leaves.0[..size as usize]));
        assert_eq!(pushed.size(), size);
        assert_eq!(Frontier::read(&mut leaves, size).as_ref(), Ok(&pushed));
        pushed.push(leaves.0[size as usize]);
    }
}
