//! What a client does with a proof: is this entry in a log that the policy trusts, as enough witnesses saw it, lately?

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::key::{KeyId, VerifierKey};
use crate::merkle::{Hash, ProofError};
use crate::note::{self, Note, NoteError};
use crate::policy::Policy;
use crate::proof::{LogProof, ProofFormatError};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// The most bytes of an entry: its length is stored in 16 bits (C2SP tlog-tiles).
pub const MAX_ENTRY_BYTES: usize = 0xffff;

/// When the proof is looked at, and how old it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Now, in seconds since 1970.
    pub now_s: u64,
    /// The most seconds since a cosignature was made; older ones do not count. `None`: any age.
    pub max_age_s: Option<u64>,
    /// Seconds that a witness's clock may be ahead; cosignatures that are further ahead do not count.
    pub clock_skew_s: u64,
}

/// A witness's cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// What the policy calls the witness.
    pub witness: Vec<u8>,
    /// When, in seconds since 1970.
    pub time_s: u64,
}

/// Why an entry is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppraisalError {
    /// The entry is longer than any that a log can hold.
    EntryTooLarge {
        /// Bytes of the entry.
        bytes: usize,
    },
    /// The proof is malformed.
    Format(ProofFormatError),
    /// No log of this origin is in the policy.
    UnknownLog {
        /// The checkpoint's origin.
        origin: String,
    },
    /// No key of the log signed the checkpoint.
    NotSignedByLog {
        /// The checkpoint's origin.
        origin: String,
    },
    /// A signature line names a key of the log and is not by it.
    LogSignature {
        /// The checkpoint's origin.
        origin: String,
        /// The key that it names.
        key_id: KeyId,
    },
    /// A signature line names a witness and is not by it.
    WitnessSignature {
        /// What the policy calls the witness.
        witness: Vec<u8>,
    },
    /// The entry is not where the proof says, in the tree that was signed.
    Inclusion(ProofError),
    /// Too few witnesses cosigned.
    Quorum {
        /// Those that count.
        cosigned: Vec<Cosigned>,
        /// Those that are too old.
        stale: Vec<Cosigned>,
        /// Those from the future.
        early: Vec<Cosigned>,
    },
}

impl fmt::Display for AppraisalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EntryTooLarge { bytes } => {
                write!(f, "an entry of {bytes} bytes is over {MAX_ENTRY_BYTES}")
            }
            Self::Format(error) => write!(f, "{error}"),
            Self::UnknownLog { origin } => write!(f, "the policy has no log {origin}"),
            Self::NotSignedByLog { origin } => {
                write!(
                    f,
                    "the checkpoint is not signed by a key of the log {origin}"
                )
            }
            Self::LogSignature { origin, key_id } => {
                write!(
                    f,
                    "the checkpoint's signature {origin}+{key_id} is not by the log's key"
                )
            }
            Self::WitnessSignature { witness } => {
                let name = String::from_utf8_lossy(witness);
                write!(f, "the cosignature of the witness {name} is not by its key")
            }
            Self::Inclusion(error) => write!(f, "{error}"),
            Self::Quorum {
                cosigned,
                stale,
                early,
            } => write!(
                f,
                "too few witnesses: {} count, {} too old, {} from the future",
                cosigned.len(),
                stale.len(),
                early.len()
            ),
        }
    }
}

impl core::error::Error for AppraisalError {}

/// An entry that is in the log, and what was checked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    /// The tree that it is in.
    pub checkpoint: Checkpoint,
    /// Where it is.
    pub index: u64,
    /// Its hash.
    pub leaf: Hash,
    /// Whose cosignatures count; empty where the policy asks for none and there are none.
    pub witnesses: Vec<Cosigned>,
}

/// Checks a proof bundle: that `entry` is in a log of the policy, in a tree that enough witnesses cosigned lately.
///
/// The age is that of cosignatures; a policy whose quorum is `none` asks for none, and then nothing says how old the
/// checkpoint is.
///
/// # Errors
/// [`AppraisalError`], the first reason in this order: format, log, witnesses' signatures, inclusion, quorum.
pub fn appraise(
    entry: &[u8],
    proof: &[u8],
    policy: &Policy,
    freshness: &Freshness,
) -> Result<LoggedEntry, AppraisalError> {
    if entry.len() > MAX_ENTRY_BYTES {
        return Err(AppraisalError::EntryTooLarge { bytes: entry.len() });
    }
    let proof = LogProof::parse(proof).map_err(AppraisalError::Format)?;
    check_log(&proof.checkpoint, policy)?;
    let cosigned = cosignatures(proof.checkpoint.note(), policy)?;
    let leaf = Hash::leaf(entry);
    proof.check_leaf(&leaf).map_err(AppraisalError::Inclusion)?;
    let witnesses = check_quorum(&cosigned, policy, freshness)?;
    let checkpoint = proof.checkpoint.checkpoint().clone();
    Ok(LoggedEntry {
        checkpoint,
        index: proof.index,
        leaf,
        witnesses,
    })
}

/// Checks a checkpoint by itself: that a log of the policy signed it, and enough witnesses cosigned it lately. Gives the
/// witnesses whose cosignatures count.
///
/// # Errors
/// [`AppraisalError`], the first reason in this order: log, witnesses' signatures, quorum.
pub fn appraise_checkpoint(
    checkpoint: &SignedCheckpoint,
    policy: &Policy,
    freshness: &Freshness,
) -> Result<Vec<Cosigned>, AppraisalError> {
    check_log(checkpoint, policy)?;
    let cosigned = cosignatures(checkpoint.note(), policy)?;
    check_quorum(&cosigned, policy, freshness)
}

/// Checks that a log of the policy signed the checkpoint.
fn check_log(checkpoint: &SignedCheckpoint, policy: &Policy) -> Result<(), AppraisalError> {
    let origin = || checkpoint.checkpoint().origin.clone();
    let keys: Vec<&VerifierKey> = policy.logs().iter().map(|log| &log.key).collect();
    if !keys
        .iter()
        .any(|key| key.name() == checkpoint.checkpoint().origin)
    {
        return Err(AppraisalError::UnknownLog { origin: origin() });
    }
    checkpoint.verify_log(keys).map_err(|error| match error {
        NoteError::InvalidSignature { key_id, .. } => AppraisalError::LogSignature {
            origin: origin(),
            key_id,
        },
        _ => AppraisalError::NotSignedByLog { origin: origin() },
    })
}

/// When each witness of the policy cosigned, if it did; of several times the last.
fn cosignatures(note: &Note, policy: &Policy) -> Result<Vec<Option<u64>>, AppraisalError> {
    let times = policy.witnesses().iter().map(|witness| {
        let named = note
            .signatures()
            .iter()
            .filter(|line| witness.key.is_named_by(line));
        let times: Result<Vec<_>, _> = named
            .map(|line| note::check(&witness.key, note.text(), line))
            .collect();
        let invalid = || AppraisalError::WitnessSignature {
            witness: witness.name.clone(),
        };
        Ok(times.map_err(|_| invalid())?.into_iter().max().flatten())
    });
    times.collect()
}

/// Sorts cosignatures by what they are worth now, and asks the policy whether they are enough.
fn check_quorum(
    cosigned: &[Option<u64>],
    policy: &Policy,
    freshness: &Freshness,
) -> Result<Vec<Cosigned>, AppraisalError> {
    let mut counts = vec![false; cosigned.len()];
    let (mut valid, mut stale, mut early) = (Vec::new(), Vec::new(), Vec::new());
    for (at, time_s) in cosigned.iter().enumerate() {
        let Some(time_s) = *time_s else {
            continue;
        };
        let age_s = freshness.now_s.saturating_sub(time_s);
        let one = Cosigned {
            witness: policy.witnesses()[at].name.clone(),
            time_s,
        };
        if time_s > freshness.now_s.saturating_add(freshness.clock_skew_s) {
            early.push(one);
        } else if freshness.max_age_s.is_some_and(|most| age_s > most) {
            stale.push(one);
        } else {
            counts[at] = true;
            valid.push(one);
        }
    }
    if policy.is_quorum(&counts) {
        Ok(valid)
    } else {
        Err(AppraisalError::Quorum {
            cosigned: valid,
            stale,
            early,
        })
    }
}
