//! RFC 6962, section 2.1, word for word: recursive, slow, and the oracle of the tests.

use super::{Hash, NodeReader, ProofError};
use alloc::vec;
use alloc::vec::Vec;

fn split(count: usize) -> usize {
    (1..count)
        .filter(|k| k.is_power_of_two())
        .max()
        .expect("at least two leaves")
}

/// MTH of section 2.1, over leaf hashes.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty_tree(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            Hash::node(&root(left), &root(right))
        }
    }
}

/// PATH of section 2.1.1.
pub(crate) fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, sibling) = if index < left.len() {
        (path(index, left), root(right))
    } else {
        (path(index - left.len(), right), root(left))
    };
    proof.push(sibling);
    proof
}

/// PROOF of section 2.1.2.
pub(crate) fn proof(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    subproof(old, leaves, true)
}

fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { vec![] } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    if old <= left.len() {
        let mut proof = subproof(old, left, whole);
        proof.push(root(right));
        proof
    } else {
        let mut proof = subproof(old - left.len(), right, false);
        proof.push(root(left));
        proof
    }
}

/// Leaves with contents that differ.
pub(crate) fn leaves(count: usize) -> Vec<Hash> {
    (0..count as u64)
        .map(|n| Hash::leaf(&n.to_be_bytes()))
        .collect()
}

/// Reads complete subtrees of leaves in memory.
pub(crate) struct Leaves<'a>(pub(crate) &'a [Hash]);

impl NodeReader for Leaves<'_> {
    type Error = ProofError;

    fn node(&mut self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (start, count) = ((index as usize) << level, 1 << level);
        Ok(root(&self.0[start..start + count]))
    }
}
