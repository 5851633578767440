//! Why a log could not be read or written.

use crate::checkpoint::CheckpointError;
use crate::files::FileError;
use crate::merkle::{Hash, ProofError};
use crate::signer::SignError;
use crate::tiles::Tile;
use std::fmt;
use std::path::PathBuf;

/// Why a log could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// A file could not be read or written.
    File(FileError),
    /// Another one writes.
    Locked,
    /// There is a log already.
    Exists {
        /// What there is.
        path: PathBuf,
    },
    /// The state would be served, and be lost together with the log.
    StateInsideLog,
    /// The last signed checkpoint is missing. A log that does not know what it signed must not sign.
    StateMissing,
    /// The last signed checkpoint is malformed or not by the log's key.
    State(CheckpointError),
    /// The log has no checkpoint.
    NotPublished,
    /// The checkpoint that the log publishes is malformed or not by the log's key.
    Published(CheckpointError),
    /// What the log publishes is not the beginning of what was signed last: one of the two folders was set back or is of
    /// another log.
    NotAncestor {
        /// Leaves of the checkpoint that is published.
        published: u64,
        /// Leaves of the checkpoint that was signed last.
        signed: u64,
    },
    /// The log was longer when it was seen last.
    RolledBack {
        /// Leaves of the checkpoint that was seen.
        seen: u64,
        /// Leaves of the one that is published now.
        now: u64,
    },
    /// The tree does not begin with the one that was seen last: the log shows two histories.
    Contradicts {
        /// Leaves of the checkpoint that was seen.
        seen: u64,
        /// Leaves of the one that is published now.
        now: u64,
    },
    /// The checkpoint that was seen last is of another log.
    OtherLog {
        /// Origin of the one that was seen.
        seen: String,
        /// Origin of the one that is published now.
        now: String,
    },
    /// More entries are new than are read at once.
    TooManyNew {
        /// How many are new.
        new: u64,
    },
    /// The tiles do not lead to the root that was signed.
    TilesMismatch {
        /// Leaves of the tree.
        size: u64,
        /// Where they lead to.
        computed: Hash,
    },
    /// A tile is missing or malformed.
    Tile(Tile),
    /// A tile of hashes is not that of the tiles or entries below it.
    TileMismatch(Tile),
    /// An entry in a bundle is not the one that the tree has there.
    EntryMismatch {
        /// Its index.
        index: u64,
    },
    /// What an interrupted append was about to do cannot be read.
    Intent,
    /// The index of entries points at another entry; it can be removed, and is made again.
    IndexDamaged,
    /// An entry is longer than a log can hold.
    EntryTooLarge {
        /// Which of the batch.
        entry: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// The tree would have more leaves than the limit.
    Full,
    /// The log's key is not of type Ed25519.
    NotALogKey,
    /// The signer gave no signature, or one that does not hold.
    NotSigned(SignError),
    /// A proof that cannot be made, or does not hold.
    Proof(ProofError),
    /// An earlier error left the disk ahead: open the log again.
    NeedsReopening,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Locked => write!(f, "another one is writing to the log"),
            Self::Exists { path } => write!(f, "there is a log already: {}", path.display()),
            Self::StateInsideLog => write!(f, "the log's state must be outside the log"),
            Self::StateMissing => write!(
                f,
                "the last signed checkpoint is missing from the log's state"
            ),
            Self::State(error) => write!(f, "the last signed checkpoint: {error}"),
            Self::NotPublished => write!(f, "the log has no checkpoint"),
            Self::Published(error) => write!(f, "the log's checkpoint: {error}"),
            Self::NotAncestor { published, signed } => write!(
                f,
                "the log's checkpoint of {published} entries is not the beginning of the last signed one of {signed}"
            ),
            Self::RolledBack { seen, now } => write!(
                f,
                "the log was set back: it has {now} entries, and had {seen} when it was seen last"
            ),
            Self::Contradicts { seen, now } => write!(
                f,
                "the log shows two histories: its tree of {now} entries does not begin with the tree of {seen} entries that was seen last"
            ),
            Self::OtherLog { seen, now } => {
                write!(f, "this is the log {now}, and the one seen last was {seen}")
            }
            Self::TooManyNew { new } => write!(
                f,
                "{new} entries are new, over the {} that are read at once",
                super::MAX_NEW_ENTRIES
            ),
            Self::TilesMismatch { size, computed } => {
                write!(
                    f,
                    "the tiles of {size} entries lead to {computed}, which is not the root"
                )
            }
            Self::Tile(tile) => write!(f, "{tile} is missing or malformed"),
            Self::TileMismatch(tile) => write!(f, "{tile} is not that of what is below it"),
            Self::EntryMismatch { index } => {
                write!(f, "entry {index} is not the one that the tree has there")
            }
            Self::Intent => write!(
                f,
                "what an interrupted append was about to do cannot be read"
            ),
            Self::IndexDamaged => write!(
                f,
                "the index of entries is damaged; remove the folder index from the log's state to have it made again"
            ),
            Self::EntryTooLarge { entry, bytes } => write!(
                f,
                "entry {entry} of the batch has {bytes} bytes, over {}",
                crate::appraise::MAX_ENTRY_BYTES
            ),
            Self::Full => write!(f, "the log is full"),
            Self::NotALogKey => write!(f, "a log's key is one of type 0x01"),
            Self::NotSigned(error) => write!(f, "the checkpoint is not signed: {error}"),
            Self::Proof(error) => write!(f, "{error}"),
            Self::NeedsReopening => write!(f, "the log has to be opened again after an error"),
        }
    }
}

impl std::error::Error for LogError {}

impl From<FileError> for LogError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<ProofError> for LogError {
    fn from(error: ProofError) -> Self {
        Self::Proof(error)
    }
}
