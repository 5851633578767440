//! The body of `POST add-checkpoint`.

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::decimal;
use crate::merkle::{Hash, MAX_PROOF_HASHES};
use crate::note::MAX_NOTE_BYTES;
use crate::proof::{ProofFormatError, next_line, parse_hashes, write_hashes};
use alloc::vec::Vec;
use core::fmt;

/// The most bytes of a request.
pub const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + (4 << 10);

/// Why a request is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// It has more bytes than the limit.
    TooLarge {
        /// Bytes of the request.
        bytes: usize,
    },
    /// It is not UTF-8.
    NotUtf8,
    /// The first line is not `old` and a number without leading zeroes.
    OldSize,
    /// A line is not a hash in canonical base 64.
    Hash {
        /// Which, from 0.
        line: usize,
    },
    /// There are more hashes than the limit.
    TooManyHashes,
    /// It ends before the checkpoint.
    NoCheckpoint,
    /// The checkpoint is malformed.
    Checkpoint(CheckpointError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes are over {MAX_REQUEST_BYTES}"),
            Self::NotUtf8 => write!(f, "not UTF-8"),
            Self::OldSize => write!(f, "the first line is not an old size"),
            Self::Hash { line } => write!(f, "hash {line} is not base 64 of 32 bytes"),
            Self::TooManyHashes => write!(f, "over {MAX_PROOF_HASHES} hashes"),
            Self::NoCheckpoint => write!(f, "it ends before the checkpoint"),
            Self::Checkpoint(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for RequestError {}

/// A checkpoint to be cosigned, and the proof that it follows from the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the last checkpoint that the witness cosigned, as the client knows it.
    pub old_size: u64,
    /// The consistency proof from that size; see [`crate::merkle::check_consistency`].
    pub proof: Vec<Hash>,
    /// The checkpoint with the log's signature.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// Reads a body. What is read is written by `to_string` byte for byte.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge { bytes: body.len() });
        }
        let mut rest = core::str::from_utf8(body).map_err(|_| RequestError::NotUtf8)?;
        let old = next_line(&mut rest).and_then(|line| line.strip_prefix("old "));
        let old_size = old.and_then(decimal::parse).ok_or(RequestError::OldSize)?;
        let proof = parse_hashes(&mut rest).map_err(|error| match error {
            ProofFormatError::Hash { line } => RequestError::Hash { line },
            ProofFormatError::TooManyHashes => RequestError::TooManyHashes,
            _ => RequestError::NoCheckpoint,
        })?;
        let checkpoint = SignedCheckpoint::parse(rest.as_bytes());
        let checkpoint = checkpoint.map_err(RequestError::Checkpoint)?;
        Ok(Self {
            old_size,
            proof,
            checkpoint,
        })
    }
}

/// The body.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        write_hashes(f, &self.proof)?;
        write!(f, "\n{}", self.checkpoint)
    }
}
