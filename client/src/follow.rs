//! What a log shows: its checkpoint, judged by a policy, and what is new since it was seen last.

use cloister_transparency::appraise::Cosigned;
use cloister_transparency::log::{CheckedEntry, LogError};
use cloister_transparency::release::ReleaseError;
use cloister_transparency::{
    AppraisalError, Checkpoint, Freshness, Hash, Policy, SignedCheckpoint, Statement, VerifierKey,
    appraise_checkpoint,
};

use crate::remote_log::{LogLocation, LogSource};
use crate::transport::TransportError;

/// The most entries of a [`View`]; [`follow`] has no such limit.
pub const MAX_VIEW_ENTRIES: usize = 16_384;

/// The most bytes of a [`View`]'s entries together.
pub const MAX_VIEW_BYTES: usize = 64 << 20;

/// Why a log is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The log's address is not usable.
    #[error(transparent)]
    Location(#[from] TransportError),
    /// It could not be read, or does not agree with itself or with what was seen of it last.
    #[error("{location}: {error}")]
    Log {
        /// Where it is.
        location: String,
        /// What is wrong.
        error: LogError,
    },
    /// Its checkpoint is not one that the policy accepts.
    #[error("{location}: {error}")]
    Checkpoint {
        /// Where it is.
        location: String,
        /// Why.
        error: AppraisalError,
    },
    /// More is new than a [`View`] holds.
    #[error(
        "{location}: more than {MAX_VIEW_ENTRIES} entries or {MAX_VIEW_BYTES} bytes of them are new; go on from a later checkpoint"
    )]
    TooLarge {
        /// Where it is.
        location: String,
    },
}

impl FollowError {
    /// Whether the log was read and is not what it should be, and not merely out of reach.
    pub fn is_accusation(&self) -> bool {
        match self {
            Self::Checkpoint { .. } => true,
            Self::Log { error, .. } => !matches!(
                error,
                LogError::File(_) | LogError::NotPublished | LogError::TooManyNew { .. }
            ),
            Self::Location(_) | Self::TooLarge { .. } => false,
        }
    }
}

/// An entry, which is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// Its index.
    pub index: u64,
    /// Its hash.
    pub leaf: Hash,
    /// What it says; an error where it is no statement, or none of the release keys signed it.
    pub statement: Result<Statement, ReleaseError>,
}

impl ViewEntry {
    /// Reads an entry, and checks who signed it.
    fn read(entry: &CheckedEntry, release_keys: &[VerifierKey]) -> Self {
        Self {
            index: entry.index,
            leaf: entry.leaf,
            statement: Statement::verify(&entry.bytes, release_keys),
        }
    }

    /// Which entry is withdrawn, and why, where this is a withdrawal by a release key.
    pub fn withdrawal(&self) -> Option<(Hash, &str)> {
        match &self.statement {
            Ok(Statement::Withdraw(withdrawal)) => Some((withdrawal.withdraws, &withdrawal.reason)),
            _ => None,
        }
    }
}

/// A checkpoint that the policy accepts, and which everything that was read leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// Whose cosignatures count.
    pub witnesses: Vec<Cosigned>,
}

/// What a log shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// Whose cosignatures count.
    pub witnesses: Vec<Cosigned>,
    /// What is new.
    pub entries: Vec<ViewEntry>,
    /// Leaf hashes of the entries that the new ones withdraw, and why. Only what a release key signed counts.
    pub withdrawn: Vec<(Hash, String)>,
}

/// Reads a log as far as it is new since `from`, the last checkpoint that was seen, or all of it.
///
/// Every entry is checked against the tree before it is given out. An entry that is no statement of a release key is given
/// out too, as an error: that it is in the log is something to know.
///
/// # Errors
/// [`FollowError`].
pub fn read_view(
    location: &LogLocation,
    policy: &Policy,
    release_keys: &[VerifierKey],
    freshness: &Freshness,
    from: Option<&Checkpoint>,
) -> Result<View, FollowError> {
    let (mut entries, mut withdrawn, mut bytes) = (Vec::new(), Vec::new(), 0);
    let too_large = || FollowError::TooLarge {
        location: location.to_string(),
    };
    let source = LogSource::new(location)?;
    let followed = follow_source(location, &source, policy, freshness, from, |entry| {
        bytes += entry.bytes.len();
        if entries.len() == MAX_VIEW_ENTRIES || bytes > MAX_VIEW_BYTES {
            return Err(too_large());
        }
        let entry = ViewEntry::read(&entry, release_keys);
        let withdrawal = entry.withdrawal();
        withdrawn.extend(withdrawal.map(|(leaf, reason)| (leaf, reason.to_owned())));
        entries.push(entry);
        Ok(())
    })?;
    Ok(View {
        checkpoint: followed.checkpoint,
        witnesses: followed.witnesses,
        entries,
        withdrawn,
    })
}

/// The same, one entry at a time, so that only a few are in memory. `each` is called in the order of the log; after it
/// fails, nothing more is read.
///
/// # Errors
/// [`FollowError`], and what `each` says.
pub fn follow<E: From<FollowError>>(
    location: &LogLocation,
    policy: &Policy,
    release_keys: &[VerifierKey],
    freshness: &Freshness,
    from: Option<&Checkpoint>,
    mut each: impl FnMut(ViewEntry) -> Result<(), E>,
) -> Result<Followed, E> {
    let source = LogSource::new(location).map_err(FollowError::from)?;
    follow_source(location, &source, policy, freshness, from, |entry| {
        each(ViewEntry::read(&entry, release_keys))
    })
}

fn follow_source<E: From<FollowError>>(
    location: &LogLocation,
    source: &LogSource,
    policy: &Policy,
    freshness: &Freshness,
    from: Option<&Checkpoint>,
    mut each: impl FnMut(CheckedEntry) -> Result<(), E>,
) -> Result<Followed, E> {
    let in_log = |error: LogError| FollowError::Log {
        location: location.to_string(),
        error,
    };
    let mut reader = source.reader();
    let checkpoint = reader.checkpoint().map_err(in_log)?;
    let refused = |error: AppraisalError| FollowError::Checkpoint {
        location: location.to_string(),
        error,
    };
    let judged = match appraise_checkpoint(&checkpoint, policy, freshness) {
        Ok(witnesses) => Ok(witnesses),
        // The log did sign it: that it contradicts itself is worse than that too few saw it.
        Err(error @ AppraisalError::Quorum { .. }) => Err(refused(error)),
        Err(error) => return Err(refused(error).into()),
    };
    let bundles = reader.new_entries(from, checkpoint.checkpoint());
    let bundles = bundles.map_err(in_log)?;
    let witnesses = judged?;
    for bundle in bundles {
        for entry in bundle.map_err(in_log)? {
            each(entry)?;
        }
    }
    Ok(Followed {
        checkpoint,
        witnesses,
    })
}
