//! Merkle trees of RFC 6962, section 2.1, with SHA-256: hashes, and checking proofs.

use crate::base64;
pub use crate::decimal::MAX_NUMBER as MAX_TREE_SIZE;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

mod build;
mod frontier;
#[cfg(test)]
pub(crate) mod naive;
#[cfg(test)]
mod tests;

pub use build::{NodeReader, consistency_proof, inclusion_proof, root, subtree};
pub use frontier::Frontier;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The most hashes of a proof: a tree of [`MAX_TREE_SIZE`] leaves is 63 levels high (tlog-witness sets the same limit).
pub const MAX_PROOF_HASHES: usize = 63;

/// A node of the tree, in text as base 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Of the tree without leaves: SHA-256 of nothing.
    pub fn empty_tree() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Of a leaf: SHA-256(0x00 || entry).
    pub fn leaf(entry: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update([0])
                .chain_update(entry)
                .finalize()
                .into(),
        )
    }

    /// Of two subtrees: SHA-256(0x01 || left || right).
    pub fn node(left: &Self, right: &Self) -> Self {
        let both = Sha256::new().chain_update([1]).chain_update(left.0);
        Self(both.chain_update(right.0).finalize().into())
    }

    /// From canonical base 64.
    pub fn from_base64(text: &str) -> Option<Self> {
        base64::decode_array(text).map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// A tree size is above [`MAX_TREE_SIZE`].
    SizeTooLarge {
        /// The size.
        size: u64,
    },
    /// The tree has no leaf of this index.
    IndexOutOfRange {
        /// Of the leaf.
        index: u64,
        /// Of the tree.
        size: u64,
    },
    /// The older tree is the larger one.
    SizesReversed {
        /// Of the older tree.
        old_size: u64,
        /// Of the newer tree.
        new_size: u64,
    },
    /// The proof has more or fewer hashes than the sizes ask for.
    Length {
        /// Hashes of a proof between these sizes.
        expected: usize,
        /// Hashes that there are.
        found: usize,
    },
    /// The leaf and the proof do not lead to the root.
    RootMismatch {
        /// Where they lead to.
        computed: Hash,
    },
    /// The proof does not lead to the root of the older tree: what was there has changed.
    OldRootMismatch {
        /// Where it leads to.
        computed: Hash,
    },
    /// Two trees of the same size have different roots.
    RootsDiffer,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SizeTooLarge { size } => {
                write!(f, "a tree of {size} leaves is above {MAX_TREE_SIZE}")
            }
            Self::IndexOutOfRange { index, size } => {
                write!(f, "no leaf {index} in a tree of {size}")
            }
            Self::SizesReversed { old_size, new_size } => {
                write!(
                    f,
                    "the older tree has {old_size} leaves, the newer one {new_size}"
                )
            }
            Self::Length { expected, found } => {
                write!(f, "the proof has {found} hashes, not {expected}")
            }
            Self::RootMismatch { computed } => {
                write!(f, "the proof leads to {computed}, which is not the root")
            }
            Self::OldRootMismatch { computed } => {
                write!(
                    f,
                    "the proof leads to {computed}, which is not the older root"
                )
            }
            Self::RootsDiffer => write!(f, "two trees of the same size have different roots"),
        }
    }
}

impl core::error::Error for ProofError {}

/// Checks that `leaf` is at `index` in the tree of `size` leaves with this root (RFC 6962, section 2.1.1).
///
/// `proof` is ordered from the leaf's sibling to the root's child.
///
/// # Errors
/// [`ProofError`].
pub fn check_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    check_size(size)?;
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size });
    }
    let (inner, border) = split_path(index, size);
    check_length(inner + border, proof)?;
    let (below, above) = proof.split_at(inner);
    check_root(chain_right(chain(*leaf, index, below), above), root)
}

/// One step up the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// What the proof has.
    pub sibling: Hash,
    /// Which side it is on.
    pub sibling_is_left: bool,
    /// What both hash to.
    pub parent: Hash,
}

/// [`check_inclusion`], and every node on the way from the leaf to the root, to be shown.
///
/// # Errors
/// [`ProofError`].
pub fn inclusion_path(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<Vec<PathStep>, ProofError> {
    check_inclusion(leaf, index, size, proof, root)?;
    let (inner, _) = split_path(index, size);
    let mut node = *leaf;
    let steps = proof.iter().enumerate().map(|(level, sibling)| {
        let sibling_is_left = level >= inner || (index >> level) & 1 == 1;
        node = match sibling_is_left {
            true => Hash::node(sibling, &node),
            false => Hash::node(&node, sibling),
        };
        PathStep {
            sibling: *sibling,
            sibling_is_left,
            parent: node,
        }
    });
    Ok(steps.collect())
}

/// Checks that the tree of `new_size` leaves begins with the tree of `old_size` (RFC 6962, section 2.1.2). The empty
/// tree is the beginning of every tree.
///
/// # Errors
/// [`ProofError`].
pub fn check_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_size(new_size)?;
    if old_size > new_size {
        return Err(ProofError::SizesReversed { old_size, new_size });
    }
    if old_size == new_size {
        check_length(0, proof)?;
        return if old_root == new_root {
            Ok(())
        } else {
            Err(ProofError::RootsDiffer)
        };
    }
    if old_size == 0 {
        check_length(0, proof)?;
        let computed = Hash::empty_tree();
        return if *old_root == computed {
            Ok(())
        } else {
            Err(ProofError::OldRootMismatch { computed })
        };
    }
    check_growth(old_size, old_root, new_size, new_root, proof)
}

/// [`check_consistency`] for 0 < `old_size` < `new_size`: the path of the last old leaf, from the largest complete
/// subtree of the old tree that ends with it.
fn check_growth(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let (inner, border) = split_path(old_size - 1, new_size);
    let shift = old_size.trailing_zeros() as usize;
    // Where the old tree is one complete subtree, its root is known and not in the proof.
    let complete = old_size.is_power_of_two();
    let inner = inner - shift;
    check_length(inner + border + usize::from(!complete), proof)?;
    let (seed, path) = match (complete, proof.split_first()) {
        (false, Some((first, rest))) => (*first, rest),
        _ => (*old_root, proof),
    };
    let mask = (old_size - 1) >> shift;
    let (below, above) = path.split_at(inner);
    let old_computed = chain_right(chain_left_only(seed, mask, below), above);
    if old_computed != *old_root {
        return Err(ProofError::OldRootMismatch {
            computed: old_computed,
        });
    }
    check_root(chain_right(chain(seed, mask, below), above), new_root)
}

fn check_size(size: u64) -> Result<(), ProofError> {
    if size > MAX_TREE_SIZE {
        Err(ProofError::SizeTooLarge { size })
    } else {
        Ok(())
    }
}

fn check_root(computed: Hash, root: &Hash) -> Result<(), ProofError> {
    if computed == *root {
        Ok(())
    } else {
        Err(ProofError::RootMismatch { computed })
    }
}

fn check_length(expected: usize, proof: &[Hash]) -> Result<(), ProofError> {
    let found = proof.len();
    if found == expected {
        Ok(())
    } else {
        Err(ProofError::Length { expected, found })
    }
}

/// Hashes of a path from a leaf to the root: those below the level where it joins the tree's right border, with
/// siblings on either side, and those above, where all siblings are on the left.
fn split_path(index: u64, size: u64) -> (usize, usize) {
    let inner = 64 - (index ^ (size - 1)).leading_zeros();
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    (inner as usize, border as usize)
}

/// Climbs `path`, whose siblings are left or right as the bits of `index` say.
fn chain(seed: Hash, index: u64, path: &[Hash]) -> Hash {
    let levels = path.iter().enumerate();
    levels.fold(seed, |hash, (level, sibling)| {
        if (index >> level) & 1 == 0 {
            Hash::node(&hash, sibling)
        } else {
            Hash::node(sibling, &hash)
        }
    })
}

/// Like [`chain`], without the siblings on the right: the older tree does not have them.
fn chain_left_only(seed: Hash, index: u64, path: &[Hash]) -> Hash {
    let levels = path.iter().enumerate();
    levels
        .filter(|(level, _)| (index >> level) & 1 == 1)
        .fold(seed, |hash, (_, sibling)| Hash::node(sibling, &hash))
}

/// Climbs along the right border: every sibling is on the left.
fn chain_right(seed: Hash, path: &[Hash]) -> Hash {
    path.iter()
        .fold(seed, |hash, sibling| Hash::node(sibling, &hash))
}
