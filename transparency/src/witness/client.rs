//! What a client makes of a witness's answer.

use crate::checkpoint::SignedCheckpoint;
use crate::decimal;
use crate::key::VerifierKey;
use crate::note::{MAX_NOTE_BYTES, NoteError, Signature, parse_signatures};
use alloc::vec::Vec;
use core::fmt;

/// An answer that a client can go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Cosignatures by keys of the witness that hold.
    Cosigned(Vec<Signature>),
    /// The last checkpoint of the witness is of this size: send a proof from there.
    Conflict {
        /// Of the last checkpoint.
        size: u64,
    },
}

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// The witness refused, with this status: 400, 403, 404 or 422, or any other.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The body has more bytes than the limit.
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
    },
    /// The body is not what the status promises.
    Malformed,
    /// The lines are malformed, or a line names a key of the witness and is not by it, or none does.
    Cosignature(NoteError),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status } => {
                let why = match status {
                    400 => "the request is malformed",
                    403 => "the log's signature is not one that it trusts",
                    404 => "it does not witness this log",
                    422 => "the checkpoint does not follow from the last one",
                    _ => "it cannot answer",
                };
                write!(f, "the witness answered {status}: {why}")
            }
            Self::TooLarge { bytes } => {
                write!(
                    f,
                    "a witness's answer of {bytes} bytes is over {MAX_NOTE_BYTES}"
                )
            }
            Self::Malformed => write!(f, "the witness's answer is malformed"),
            Self::Cosignature(error) => write!(f, "the witness's answer: {error}"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Reads the answer to an [`super::AddCheckpoint`] with `checkpoint`. Lines of other keys than those of the witness are
/// ignored.
///
/// # Errors
/// [`ReplyError`].
pub fn read_reply<'k>(
    status: u16,
    body: &[u8],
    checkpoint: &SignedCheckpoint,
    keys: impl IntoIterator<Item = &'k VerifierKey>,
) -> Result<Reply, ReplyError> {
    if body.len() > MAX_NOTE_BYTES {
        return Err(ReplyError::TooLarge { bytes: body.len() });
    }
    let text = || core::str::from_utf8(body).map_err(|_| ReplyError::Malformed);
    match status {
        200 => cosigned(text()?, checkpoint, keys),
        409 => {
            let size = text()?.strip_suffix('\n').and_then(decimal::parse);
            Ok(Reply::Conflict {
                size: size.ok_or(ReplyError::Malformed)?,
            })
        }
        _ => Err(ReplyError::Refused { status }),
    }
}

fn cosigned<'k>(
    lines: &str,
    checkpoint: &SignedCheckpoint,
    keys: impl IntoIterator<Item = &'k VerifierKey>,
) -> Result<Reply, ReplyError> {
    let signatures = parse_signatures(lines).map_err(ReplyError::Cosignature)?;
    let keys: Vec<&VerifierKey> = keys.into_iter().collect();
    let answer = checkpoint.with_signatures(signatures);
    answer
        .note()
        .verify(keys.iter().copied())
        .map_err(ReplyError::Cosignature)?;
    let by_witness = answer.note().signatures().iter();
    let by_witness = by_witness.filter(|line| keys.iter().any(|key| key.is_named_by(line)));
    Ok(Reply::Cosigned(by_witness.cloned().collect()))
}
