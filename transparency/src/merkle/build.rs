//! Making roots and proofs out of complete subtrees, which is what a tile log stores.

use super::{Hash, ProofError, check_size};
use alloc::vec::Vec;

/// Where complete subtrees are read from.
pub trait NodeReader {
    /// Why a node could not be read.
    type Error;

    /// The hash of the complete subtree over the leaves `index << level` to `(index + 1) << level`.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn node(&mut self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// The reader's.
pub fn root<R: NodeReader>(reader: &mut R, size: u64) -> Result<Hash, R::Error> {
    if size == 0 {
        Ok(Hash::empty_tree())
    } else {
        range(reader, 0, size)
    }
}

/// The proof that leaf `index` is in the tree of the first `size` leaves; see [`super::check_inclusion`].
///
/// # Errors
/// The reader's, or a [`ProofError`] where there is no such leaf or the size is beyond the limit.
pub fn inclusion_proof<R: NodeReader>(
    reader: &mut R,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, R::Error>
where
    R::Error: From<ProofError>,
{
    check_size(size)?;
    if index >= size {
        return Err(ProofError::IndexOutOfRange { index, size }.into());
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    // From the root down; at most 63 times, as the range halves.
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range(reader, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `new_size` leaves begins with that of the first `old_size`; see
/// [`super::check_consistency`]. Empty where the older one is empty or the same.
///
/// # Errors
/// The reader's, or a [`ProofError`] where the sizes are reversed or beyond the limit.
pub fn consistency_proof<R: NodeReader>(
    reader: &mut R,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, R::Error>
where
    R::Error: From<ProofError>,
{
    check_size(new_size)?;
    if old_size > new_size {
        return Err(ProofError::SizesReversed { old_size, new_size }.into());
    }
    if old_size == 0 || old_size == new_size {
        return Ok(Vec::new());
    }
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, new_size);
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            proof.push(range(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range(reader, start, middle)?);
            start = middle;
        }
    }
    // What is left is a subtree of both trees; where it is the whole older one, the other side knows its hash.
    if start != 0 {
        proof.push(range(reader, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The hash over `hashes` as the leaves of a tree of their own; for a power of two of them this is a complete subtree.
///
/// # Panics
/// Where there are none.
pub fn subtree(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Hash::node(left, right),
                odd => odd[0],
            })
            .collect();
    }
    level[0]
}

/// The hash over the leaves `start` to `end`. `start` is a multiple of the least power of two that is not below their
/// number, so that they fall apart into complete subtrees, the largest first.
fn range<R: NodeReader>(reader: &mut R, start: u64, end: u64) -> Result<Hash, R::Error> {
    let mut parts = Vec::new();
    let mut at = start;
    // At most 63 times: each subtree is smaller than the one before.
    while at < end {
        let level = (end - at).ilog2() as u8;
        parts.push(reader.node(level, at >> level)?);
        at += 1 << level;
    }
    let last = parts.pop().expect("no caller asks for an empty range");
    Ok(parts
        .iter()
        .rev()
        .fold(last, |right, left| Hash::node(left, &right)))
}

/// The largest power of two below `leaves`, which are at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}
