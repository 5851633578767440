//! `cloister monitor`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use cloister_transparency::policy::PolicyError;
use cloister_transparency::{Checkpoint, Policy, VerifierKey};
use serde_json::Value;

use super::{Alarm, Look, StateError, Watch, look, print, read_state, write_state};
use crate::clock::now_s;
use crate::keys::{self, KeyArgumentError};
use crate::remote_log::LogLocation;
use crate::tls::Authorities;
use crate::witness::Stop;

/// The most entries that a JSON document lists; `new` says how many there are.
const MAX_LISTED_ENTRIES: usize = 10_000;

/// What `cloister monitor --help` ends with.
pub(crate) fn help() -> &'static str {
    "\
Prints each entry that is new since the checkpoint in the state file, all of them if there is no such file. Raises an alarm
when an entry is no statement by an expected release key, when the checkpoint contradicts the last one seen or is smaller,
when it is not signed and cosigned as the policy says, or when the cosignatures are older than --max-age. After an alarm the
state file stays as it is, so that the next run raises it again; with --acknowledge it is moved on past entries that
somebody has looked at.

Example:
  cloister monitor --log https://log.example --log-policy policy --release-key release.vkey --state seen --once

Exit status: 0 nothing to be said against the log, 1 alarm, or the log could not be read, 2 wrong usage."
}

/// Arguments of `monitor`.
#[derive(Debug, clap::Args)]
pub struct MonitorArguments {
    /// The log: a folder, or https://HOST/PATH (http:// too).
    #[arg(long, value_name = "DIR|URL")]
    pub log: LogLocation,
    /// Who has to vouch for a log with `https`.
    #[command(flatten)]
    pub authorities: Authorities,
    /// The log's key and its witnesses (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    pub log_policy: PathBuf,
    /// Verifier key whose entries are expected: NAME+ID+KEY, or a file whose name ends in .vkey.
    #[arg(long, value_name = "VKEY", value_parser = keys::parse, required = true)]
    pub release_key: Vec<VerifierKey>,
    /// File that holds the last checkpoint seen.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub every: u64,
    /// The most seconds since the witnesses cosigned.
    #[arg(long, value_name = "SECONDS")]
    pub max_age: Option<u64>,
    /// Look once, and end.
    #[arg(long)]
    pub once: bool,
    /// Move the state on past entries that raise an alarm. A checkpoint that is not accepted never moves it.
    #[arg(long)]
    pub acknowledge: bool,
    /// Print one JSON document a look.
    #[arg(long)]
    pub json: bool,
}

/// Why nothing can be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorCommandError {
    /// The policy's file or a key cannot be read.
    #[error(transparent)]
    Argument(#[from] KeyArgumentError),
    /// The policy is none.
    #[error("{path}: {error}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PolicyError,
    },
    /// The last checkpoint seen cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// Follows the log; gives whether nothing was ever to be said against it.
pub fn run(arguments: &MonitorArguments) -> Result<bool, MonitorCommandError> {
    let bytes = keys::read(&arguments.log_policy)?;
    let policy = Policy::parse(&bytes).map_err(|error| MonitorCommandError::Policy {
        path: arguments.log_policy.clone(),
        error,
    })?;
    if policy.quorum().is_none() {
        eprintln!(
            "cloister monitor: NOT CHECKED: how old the checkpoint is, and whether others see the same; the policy asks for no witnesses"
        );
    }
    let watch = Watch {
        location: arguments.log.clone().vouched_by(&arguments.authorities),
        policy,
        release_keys: arguments.release_key.clone(),
        max_age_s: arguments.max_age,
    };
    let seen = read_state(&arguments.state, &watch.policy)?;
    let mut following = Following {
        arguments,
        watch,
        seen: seen.map(|seen| seen.checkpoint().clone()),
        is_good: true,
        has_alarmed: false,
    };
    if arguments.once {
        following.look()?;
        return Ok(following.is_good);
    }
    let stop = Stop::new();
    stop.at_signals()?;
    loop {
        following.look()?;
        if stop.wait(Duration::from_secs(arguments.every))? {
            return Ok(following.is_good);
        }
    }
}

/// What is known from one look to the next.
struct Following<'a> {
    arguments: &'a MonitorArguments,
    watch: Watch,
    seen: Option<Checkpoint>,
    /// Whether every look was good.
    is_good: bool,
    /// Whether an entry was not as expected: the state file stays behind it.
    has_alarmed: bool,
}

impl Following<'_> {
    fn look(&mut self) -> Result<(), MonitorCommandError> {
        let (json, mut listed, mut written) = (self.arguments.json, Vec::new(), Ok(()));
        let look = look(&self.watch, self.seen.as_ref(), now_s(), |entry| {
            if !json {
                let line = writeln!(io::stdout(), "{}", print::line(entry));
                written = std::mem::replace(&mut written, Ok(())).and(line);
            } else if listed.len() < MAX_LISTED_ENTRIES {
                listed.push(print::document(entry));
            }
        });
        written?;
        self.is_good &= look.is_good();
        self.report(&look, listed)?;
        let entries = |alarm: &Alarm| matches!(alarm, Alarm::Entry(_));
        self.has_alarmed |= look.alarms.iter().any(entries) && !self.arguments.acknowledge;
        let Some(followed) = look.followed else {
            return Ok(());
        };
        // The state last: what was not printed is not seen.
        if !self.has_alarmed {
            write_state(&self.arguments.state, &followed.checkpoint)?;
        }
        self.seen = Some(followed.checkpoint.checkpoint().clone());
        Ok(())
    }

    fn report(&self, look: &Look, listed: Vec<Value>) -> io::Result<()> {
        for alarm in &look.alarms {
            let alarm = print::alarm(alarm);
            writeln!(io::stderr(), "cloister monitor: ALARM: {alarm}")?;
        }
        if let Some(error) = &look.unreachable {
            let reason = print::one_line(&error.to_string());
            writeln!(io::stderr(), "cloister monitor: {reason}")?;
        }
        let mut out = io::stdout().lock();
        if self.arguments.json {
            let document = print::look_document(look, self.seen.as_ref(), listed);
            writeln!(out, "{document}")?;
        } else if let Some(followed) = &look.followed
            && (look.new > 0 || self.arguments.once)
        {
            let tree = followed.checkpoint.checkpoint();
            writeln!(
                out,
                "{}: size {}, {} new, {} witnesses",
                tree.origin,
                tree.size,
                look.new,
                followed.witnesses.len()
            )?;
        }
        out.flush()
    }
}
