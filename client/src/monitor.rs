//! The monitor: what a log shows, look after look, and whether that is what its owner expects.
//!
//! A witness checks that a log only grows, a monitor reads what is in it: both are needed.

mod command;
mod print;
mod state;

use cloister_transparency::{Checkpoint, Freshness, Policy, VerifierKey};
use cloister_verifier::policy::CLOCK_SKEW_S;

use crate::follow::{FollowError, Followed, ViewEntry, follow};
use crate::remote_log::LogLocation;

pub(crate) use command::help;
pub use command::{MonitorArguments, MonitorCommandError, run};
pub use print::line;
pub use state::{StateError, read_state, write_state};

/// What is followed, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Where the log is.
    pub location: LogLocation,
    /// The log's key, and the witnesses that have to see it.
    pub policy: Policy,
    /// Whose entries are expected.
    pub release_keys: Vec<VerifierKey>,
    /// The most seconds since the witnesses' cosignatures; `None`: any age.
    pub max_age_s: Option<u64>,
}

/// Something that the log's owner has to look at.
#[derive(Debug)]
#[non_exhaustive]
pub enum Alarm {
    /// An entry is no statement, or not by a key that is expected.
    Entry(Box<ViewEntry>),
    /// The checkpoint contradicts the one that was seen last, is smaller, is stale, or is not signed as it should be; or
    /// what is served is not what it says.
    Log(FollowError),
}

/// What came of one look.
#[derive(Debug)]
pub struct Look {
    /// The checkpoint, where the log could be read and is consistent.
    pub followed: Option<Followed>,
    /// How many entries are new.
    pub new: u64,
    /// What is not as it should be.
    pub alarms: Vec<Alarm>,
    /// Where the log could not be read at all.
    pub unreachable: Option<FollowError>,
}

impl Look {
    /// Whether the log was read and nothing is to be said against it.
    pub fn is_good(&self) -> bool {
        self.followed.is_some() && self.alarms.is_empty()
    }
}

/// The most alarms about entries that one look keeps; all of them are given to `each`.
const MAX_ENTRY_ALARMS: usize = 1000;

/// Looks at a log once. `each` gets every entry that is new since `from`, in order, whatever it says.
pub fn look(
    watch: &Watch,
    from: Option<&Checkpoint>,
    now_s: u64,
    mut each: impl FnMut(&ViewEntry),
) -> Look {
    let freshness = Freshness {
        now_s,
        max_age_s: watch.max_age_s,
        clock_skew_s: CLOCK_SKEW_S,
    };
    let (mut new, mut alarms) = (0, Vec::new());
    let followed = follow::<FollowError>(
        &watch.location,
        &watch.policy,
        &watch.release_keys,
        &freshness,
        from,
        |entry| {
            new += 1;
            each(&entry);
            if entry.statement.is_err() && alarms.len() < MAX_ENTRY_ALARMS {
                alarms.push(Alarm::Entry(Box::new(entry)));
            }
            Ok(())
        },
    );
    let (followed, unreachable) = match followed {
        Ok(followed) => (Some(followed), None),
        Err(error) if error.is_accusation() => {
            alarms.push(Alarm::Log(error));
            (None, None)
        }
        Err(error) => (None, Some(error)),
    };
    Look {
        followed,
        new,
        alarms,
        unreachable,
    }
}
