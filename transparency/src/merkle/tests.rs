//! Against the specification's recursive definitions, at every size to 300 and some to 1,100.

use super::naive::{self, Leaves};
use super::*;
use alloc::vec::Vec;

/// Every size to 300, then those around powers of two and tiles, and some between.
fn sizes() -> impl Iterator<Item = usize> {
    let sparse = [
        383, 384, 385, 509, 511, 512, 513, 700, 767, 768, 769, 1000, 1023, 1024, 1025, 1100,
    ];
    (0..=300).chain(sparse)
}

/// Some positions in `0..count`: the edges and the neighbours of powers of two.
fn positions(count: usize) -> Vec<usize> {
    let powers = (0..11).map(|n| 1_usize << n);
    let near = powers.flat_map(|n| [n - 1, n, n + 1, count.wrapping_sub(n), count / 3 + n]);
    let mut all: Vec<_> = near.chain([0]).filter(|&at| at < count).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn roots_are_those_of_the_recursive_tree() {
    let leaves = naive::leaves(1100);
    for size in sizes() {
        let expected = naive::root(&leaves[..size]);
        assert_eq!(
            root(&mut Leaves(&leaves), size as u64),
            Ok(expected),
            "{size}"
        );
        if size > 0 {
            assert_eq!(subtree(&leaves[..size]), expected, "{size}");
        }
    }
}

#[test]
fn inclusion_proofs_are_those_of_the_recursive_tree() {
    let leaves = naive::leaves(1100);
    for size in sizes() {
        let root = naive::root(&leaves[..size]);
        for index in positions(size) {
            let expected = naive::path(index, &leaves[..size]);
            let (at, of) = (index as u64, size as u64);
            let proof = inclusion_proof(&mut Leaves(&leaves), at, of);
            assert_eq!(proof.as_ref(), Ok(&expected), "{index} of {size}");
            assert_eq!(
                check_inclusion(&leaves[index], at, of, &expected, &root),
                Ok(())
            );
            let path = inclusion_path(&leaves[index], at, of, &expected, &root).expect("it holds");
            let top = path.last().map_or(leaves[index], |step| step.parent);
            assert_eq!((path.len(), top), (expected.len(), root));
            refuses_altered_inclusion(&leaves[index], at, of, &expected, &root);
        }
    }
}

fn refuses_altered_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) {
    let refused = |leaf, index, size, proof: &[Hash], root| {
        assert!(
            check_inclusion(leaf, index, size, proof, root).is_err(),
            "{index} of {size}"
        );
    };
    let other = Hash([9; 32]);
    refused(&other, index, size, proof, root);
    refused(leaf, index, size, proof, &other);
    refused(leaf, index, size, &[proof, &[other]].concat(), root);
    if index > 0 {
        refused(leaf, index - 1, size, proof, root);
    }
    refused(leaf, index + 1, size, proof, root);
    if let Some((_, shorter)) = proof.split_last() {
        refused(leaf, index, size, shorter, root);
        for at in 0..proof.len() {
            let mut altered = proof.to_vec();
            altered[at].0[31] ^= 1;
            refused(leaf, index, size, &altered, root);
        }
    }
}

#[test]
fn consistency_proofs_are_those_of_the_recursive_tree() {
    let leaves = naive::leaves(1100);
    for new in sizes() {
        let new_root = naive::root(&leaves[..new]);
        for old in positions(new + 1) {
            let old_root = naive::root(&leaves[..old]);
            let expected = if old == 0 {
                Vec::new()
            } else {
                naive::proof(old, &leaves[..new])
            };
            let (from, to) = (old as u64, new as u64);
            let proof = consistency_proof(&mut Leaves(&leaves), from, to);
            assert_eq!(proof.as_ref(), Ok(&expected), "{old} to {new}");
            assert_eq!(
                check_consistency(from, &old_root, to, &new_root, &expected),
                Ok(())
            );
            refuses_altered_consistency(from, &old_root, to, &new_root, &expected);
        }
    }
}

fn refuses_altered_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) {
    let refused = |old, old_root, new, new_root, proof: &[Hash]| {
        assert!(
            check_consistency(old, old_root, new, new_root, proof).is_err(),
            "{old} to {new}"
        );
    };
    let other = Hash([9; 32]);
    refused(old, &other, new, new_root, proof);
    refused(old, old_root, new, new_root, &[proof, &[other]].concat());
    if old > 0 {
        refused(old, old_root, new, &other, proof);
    }
    for at in 0..proof.len() {
        let mut altered = proof.to_vec();
        altered[at].0[0] ^= 0x80;
        refused(old, old_root, new, new_root, &altered);
        altered.remove(at);
        refused(old, old_root, new, new_root, &altered);
    }
}

#[test]
fn the_reasons_are_told_apart() {
    let leaves = naive::leaves(7);
    let (old_root, root) = (naive::root(&leaves[..3]), naive::root(&leaves));
    let proof = naive::path(2, &leaves);
    let check =
        |index, size, proof: &[Hash]| check_inclusion(&leaves[2], index, size, proof, &root);
    assert_eq!(
        check(7, 7, &proof),
        Err(ProofError::IndexOutOfRange { index: 7, size: 7 })
    );
    assert_eq!(
        check(0, 0, &[]),
        Err(ProofError::IndexOutOfRange { index: 0, size: 0 })
    );
    assert_eq!(
        check(2, 7, &proof[..2]),
        Err(ProofError::Length {
            expected: 3,
            found: 2
        })
    );
    assert_eq!(
        check(2, u64::MAX, &proof),
        Err(ProofError::SizeTooLarge { size: u64::MAX })
    );
    assert!(matches!(
        check(3, 7, &proof),
        Err(ProofError::RootMismatch { .. })
    ));

    let proof = naive::proof(3, &leaves);
    let check = |old, old_root: &Hash, new_root: &Hash| {
        let proof = if old == 3 { &proof[..] } else { &[] };
        check_consistency(old, old_root, 7, new_root, proof)
    };
    assert_eq!(check(3, &old_root, &root), Ok(()));
    assert_eq!(
        check(8, &root, &root),
        Err(ProofError::SizesReversed {
            old_size: 8,
            new_size: 7
        })
    );
    assert_eq!(check(7, &old_root, &root), Err(ProofError::RootsDiffer));
    assert!(matches!(
        check(3, &root, &root),
        Err(ProofError::OldRootMismatch { .. })
    ));
    assert!(matches!(
        check(3, &old_root, &old_root),
        Err(ProofError::RootMismatch { .. })
    ));
    assert!(matches!(
        check(0, &root, &root),
        Err(ProofError::OldRootMismatch { .. })
    ));
}

/// The largest tree: no arithmetic of the checks overflows.
#[test]
fn the_largest_tree_is_checked_without_overflow() {
    let (leaf, proof) = (Hash([1; 32]), [Hash([2; 32]); MAX_PROOF_HASHES]);
    for index in [0, 1, MAX_TREE_SIZE / 2, MAX_TREE_SIZE - 1] {
        let _ = check_inclusion(&leaf, index, MAX_TREE_SIZE, &proof, &leaf);
        let _ = check_consistency(index, &leaf, MAX_TREE_SIZE, &leaf, &proof);
    }
    let found = check_inclusion(&leaf, 0, MAX_TREE_SIZE, &proof, &leaf);
    assert!(matches!(found, Err(ProofError::RootMismatch { .. })));
}
