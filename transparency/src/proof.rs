//! Proofs that an entry is in a log (C2SP tlog-proof): index, hashes, and the checkpoint that they lead to, in one file.

use crate::base64;
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::decimal;
use crate::merkle::{Hash, MAX_PROOF_HASHES, ProofError, check_inclusion};
use crate::note::MAX_NOTE_BYTES;
use alloc::vec::Vec;
use core::fmt;

#[cfg(test)]
mod tests;

/// The most bytes of extra data.
pub const MAX_EXTRA_BYTES: usize = 48 << 10;

/// The most bytes of a proof.
pub const MAX_PROOF_BYTES: usize = MAX_NOTE_BYTES + (68 << 10);

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a text is not a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofFormatError {
    /// It has more bytes than the limit.
    TooLarge {
        /// Bytes of the text.
        bytes: usize,
    },
    /// It is not UTF-8.
    NotUtf8,
    /// The first line does not say that it is a proof of version 1.
    Header,
    /// The extra data is not canonical base 64, or over the limit.
    Extra,
    /// The index is missing, or not a number without leading zeroes below 2^63.
    Index,
    /// A line is not a hash in canonical base 64.
    Hash {
        /// Which, from 0.
        line: usize,
    },
    /// There are more hashes than any tree is high.
    TooManyHashes,
    /// It ends before the checkpoint.
    NoCheckpoint,
    /// The checkpoint is malformed.
    Checkpoint(CheckpointError),
}

impl fmt::Display for ProofFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => {
                write!(f, "a proof of {bytes} bytes is over {MAX_PROOF_BYTES}")
            }
            Self::NotUtf8 => write!(f, "the proof is not UTF-8"),
            Self::Header => write!(f, "the first line is not {HEADER}"),
            Self::Extra => write!(
                f,
                "the extra data is not base 64 of at most {MAX_EXTRA_BYTES} bytes"
            ),
            Self::Index => write!(f, "no index, or not a decimal number below 2^63"),
            Self::Hash { line } => write!(f, "hash {line} is not base 64 of 32 bytes"),
            Self::TooManyHashes => write!(f, "over {MAX_PROOF_HASHES} hashes"),
            Self::NoCheckpoint => write!(f, "the proof ends before the checkpoint"),
            Self::Checkpoint(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for ProofFormatError {}

/// Where an entry is, and what leads from it to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// Data of the application. Nobody signed it.
    pub extra: Option<Vec<u8>>,
    /// The entry's index in the log.
    pub index: u64,
    /// From the leaf's sibling to the root's child.
    pub hashes: Vec<Hash>,
    /// The checkpoint, with the signatures of the log and of witnesses.
    pub checkpoint: SignedCheckpoint,
}

impl LogProof {
    /// Reads a proof. What is read is written by `to_string` byte for byte.
    ///
    /// # Errors
    /// [`ProofFormatError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(ProofFormatError::TooLarge { bytes: bytes.len() });
        }
        let text = core::str::from_utf8(bytes).map_err(|_| ProofFormatError::NotUtf8)?;
        let mut rest = text;
        if next_line(&mut rest) != Some(HEADER) {
            return Err(ProofFormatError::Header);
        }
        let mut line = next_line(&mut rest).ok_or(ProofFormatError::Index)?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra = Some(parse_extra(encoded)?);
            line = next_line(&mut rest).ok_or(ProofFormatError::Index)?;
        }
        let index = line.strip_prefix("index ").and_then(decimal::parse);
        let index = index.ok_or(ProofFormatError::Index)?;
        let hashes = parse_hashes(&mut rest)?;
        let checkpoint = SignedCheckpoint::parse(rest.as_bytes());
        let checkpoint = checkpoint.map_err(ProofFormatError::Checkpoint)?;
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint,
        })
    }

    /// Checks that `leaf` is at the index in the tree of the checkpoint. Who signed the checkpoint is another question.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn check_leaf(&self, leaf: &Hash) -> Result<(), ProofError> {
        let tree = self.checkpoint.checkpoint();
        check_inclusion(leaf, self.index, tree.size, &self.hashes, &tree.root)
    }
}

/// The file, byte for byte as the specification says.
impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", base64::encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        write_hashes(f, &self.hashes)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Takes a line off the front of `rest`; `None` where no newline is left.
pub(crate) fn next_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let (line, behind) = rest.split_once('\n')?;
    *rest = behind;
    Some(line)
}

/// Reads hashes, a line each, and the empty line behind them. A witness's request has the same lines.
pub(crate) fn parse_hashes(rest: &mut &str) -> Result<Vec<Hash>, ProofFormatError> {
    let mut hashes = Vec::new();
    loop {
        let line = next_line(rest).ok_or(ProofFormatError::NoCheckpoint)?;
        if line.is_empty() {
            return Ok(hashes);
        }
        if hashes.len() == MAX_PROOF_HASHES {
            return Err(ProofFormatError::TooManyHashes);
        }
        let hash = Hash::from_base64(line);
        hashes.push(hash.ok_or(ProofFormatError::Hash { line: hashes.len() })?);
    }
}

/// Writes hashes, a line each.
pub(crate) fn write_hashes(f: &mut impl fmt::Write, hashes: &[Hash]) -> fmt::Result {
    hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))
}

fn parse_extra(encoded: &str) -> Result<Vec<u8>, ProofFormatError> {
    if base64::decoded_bytes(encoded.len()) > MAX_EXTRA_BYTES {
        return Err(ProofFormatError::Extra);
    }
    base64::decode(encoded).ok_or(ProofFormatError::Extra)
}
