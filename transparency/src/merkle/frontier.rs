//! The right edge of a tree: all that is needed to append leaves and to know the root.

use super::{Hash, NodeReader};
use alloc::vec::Vec;

/// The complete subtrees that a tree falls apart into, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// That of the tree of the first `size` leaves. What is read says nothing until [`Self::root`] is the expected one.
    ///
    /// # Errors
    /// The reader's.
    pub fn read<R: NodeReader>(reader: &mut R, size: u64) -> Result<Self, R::Error> {
        let mut subtrees = Vec::new();
        let mut at = 0;
        // At most 64 times: each subtree is smaller than the one before.
        while at < size {
            let level = (size - at).ilog2() as u8;
            subtrees.push(reader.node(level, at >> level)?);
            at += 1 << level;
        }
        Ok(Self { size, subtrees })
    }

    /// Leaves of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut hash = leaf;
        // As many subtrees as end here become one.
        for _ in 0..self.size.trailing_zeros() {
            if let Some(left) = self.subtrees.pop() {
                hash = Hash::node(&left, &hash);
            }
        }
        self.subtrees.push(hash);
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let from_the_right = self.subtrees.iter().rev().copied();
        from_the_right
            .reduce(|right, left| Hash::node(&left, &right))
            .unwrap_or_else(Hash::empty_tree)
    }
}
