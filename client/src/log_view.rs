//! The client's own look at a log: is it the one that was seen last, gone on, and what does it withdraw?
//!
//! A proof says that a log had an entry once. Only who reads the log learns that a later entry withdraws it.

use std::collections::HashMap;
use std::path::Path;

use cloister_transparency::log::LogError;
use cloister_transparency::{Checkpoint, Hash, SignedCheckpoint, Statement};
use cloister_verifier::{LogPolicy, LogView};

use crate::follow::{FollowError, View, ViewEntry, follow};
use crate::monitor::{StateError, read_state, write_state};
use crate::remote_log::LogLocation;

/// Why a log says nothing about a release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogViewError {
    /// It was read and is not what it should be: not signed and cosigned as the policy says, not what its checkpoint says,
    /// or not the log that was seen last.
    #[error("refused: the log is not to be believed: {0}")]
    Refused(FollowError),
    /// It cannot be read, so that nobody knows.
    #[error("the log cannot be read, so what it withdraws is not known: {0}")]
    Unreadable(FollowError),
    /// The last checkpoint that was seen cannot be read or written.
    #[error("the log's state: {0}")]
    State(#[from] StateError),
}

impl LogViewError {
    /// Whether the log was read and is refused, and not merely out of reach.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<FollowError> for LogViewError {
    fn from(error: FollowError) -> Self {
        match error.is_accusation() {
            true => Self::Refused(error),
            false => Self::Unreadable(error),
        }
    }
}

/// Reads all of a log, at most [`cloister_transparency::log::MAX_NEW_ENTRIES`] entries, and judges its checkpoint by
/// `policy`, as at `now_s` seconds since 1970.
///
/// With `state`, a file that has the last checkpoint seen or is missing, the log must be that one, gone on; the file then
/// has the new checkpoint. Withdrawals count if a release key of the policy signed them and their time has come.
///
/// # Errors
/// [`LogViewError`]; the state is then as it was, unless it could not be written.
pub fn read_log_view(
    location: &LogLocation,
    policy: &LogPolicy,
    state: Option<&Path>,
    now_s: u64,
) -> Result<LogView, LogViewError> {
    let seen = match state {
        Some(path) => read_state(path, &policy.policy)?,
        None => None,
    };
    let mut reading = Reading {
        in_force_s: now_s.saturating_add(policy.clock_skew_s),
        ..Reading::default()
    };
    let followed = follow::<FollowError>(
        location,
        &policy.policy,
        &policy.release_keys,
        &policy.freshness(now_s),
        // Not only what is new: a release may be older than the last look, and its withdrawal too.
        None,
        |entry| {
            reading.take(&entry);
            Ok(())
        },
    )?;
    let view = reading.view(&followed.checkpoint.checkpoint().origin);
    if let Some(seen) = seen.as_ref().map(SignedCheckpoint::checkpoint) {
        let goes_on = check_goes_on(seen, &view);
        goes_on.map_err(|error| FollowError::Log {
            location: location.to_string(),
            error,
        })?;
    }
    if let Some(path) = state {
        write_state(path, &followed.checkpoint)?;
    }
    Ok(view)
}

/// The same of a log that was read as a whole. Withdrawals count that are in force at `in_force_s`, seconds since 1970.
pub fn of_view(view: &View, in_force_s: u64) -> LogView {
    let mut reading = Reading {
        in_force_s,
        ..Reading::default()
    };
    view.entries.iter().for_each(|entry| reading.take(entry));
    reading.view(&view.checkpoint.checkpoint().origin)
}

/// Whether the log begins with the tree that was seen. Its leaves were all read: nothing has to be asked for.
///
/// # Errors
/// [`LogError::OtherLog`], [`LogError::RolledBack`], [`LogError::Contradicts`].
pub fn check_goes_on(seen: &Checkpoint, view: &LogView) -> Result<(), LogError> {
    if seen.origin != view.origin {
        return Err(LogError::OtherLog {
            seen: seen.origin.clone(),
            now: view.origin.clone(),
        });
    }
    let (before, now) = (seen.size, view.size());
    match view.root_at(before) {
        None => Err(LogError::RolledBack { seen: before, now }),
        Some(root) if root != seen.root => Err(LogError::Contradicts { seen: before, now }),
        Some(_) => Ok(()),
    }
}

/// What is kept of the entries.
#[derive(Default)]
struct Reading {
    /// Withdrawals count from no later than this second.
    in_force_s: u64,
    leaves: Vec<Hash>,
    /// What each entry of a release key says, as the hash of its text.
    statements: HashMap<Hash, Hash>,
    /// The reason for the first withdrawal of each entry.
    reasons: HashMap<Hash, String>,
}

impl Reading {
    fn take(&mut self, entry: &ViewEntry) {
        self.leaves.push(entry.leaf);
        match &entry.statement {
            Ok(Statement::Withdraw(withdrawal)) => {
                if withdrawal.not_before_s <= self.in_force_s {
                    let reason = self.reasons.entry(withdrawal.withdraws);
                    reason.or_insert_with(|| withdrawal.reason.clone());
                }
            }
            Ok(statement) => {
                let text = Hash::leaf(statement.to_text().as_bytes());
                self.statements.insert(entry.leaf, text);
            }
            // A monitor's concern: whoever writes to the log cannot speak for the release key.
            Err(_) => {}
        }
    }

    /// A withdrawal names an entry, and means what that says: whoever writes to the log could enter the same signed statement
    /// once more, with another line of signature below it.
    fn view(self, origin: &str) -> LogView {
        let said = |(leaf, reason)| Some((self.statements.get(leaf)?, reason));
        let by_text: HashMap<&Hash, &String> = self.reasons.iter().filter_map(said).collect();
        let reason = |leaf: &Hash| {
            let same = || by_text.get(self.statements.get(leaf)?).copied();
            self.reasons.get(leaf).or_else(same)
        };
        let withdrawn = self.leaves.iter();
        let withdrawn = withdrawn.filter_map(|leaf| Some((*leaf, reason(leaf)?.clone())));
        LogView {
            withdrawn: withdrawn.collect(),
            origin: origin.to_owned(),
            leaves: self.leaves,
        }
    }
}
