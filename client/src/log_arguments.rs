//! The log that an image must be in, as people name it: arguments, and a field of the policy file.

use std::path::{Path, PathBuf};

use cloister_transparency::{KeyType, Policy as TlogPolicy, VerifierKey};
use cloister_verifier::{LogPolicy, LogView, Policy};
use serde::Deserialize;

use crate::clock;
use crate::log_view::read_log_view;
use crate::policy_arguments::{PolicyError, read};
use crate::remote_log::LogLocation;
use crate::tls::Authorities;

const DAY_S: u64 = 86_400;

/// Which log an image must be in.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArguments {
    /// Log policy (C2SP tlog-policy): the logs that an image may be published in, their witnesses, and how many of them
    /// are enough. In place of that of the policy file.
    #[arg(long, value_name = "FILE")]
    log_policy: Option<PathBuf>,
    /// Key that signs releases, NAME+ID+KEY; beside those of the policy file.
    #[arg(long, value_name = "VKEY", value_parser = parse_release_key)]
    release_key: Vec<VerifierKey>,
    /// The log's witnesses are for tests, as when one user runs all of them; every output says so.
    #[arg(long)]
    test_witnesses: bool,
    /// The log, which is read then: a folder, or https://HOST/PATH (http:// too). An image that it has withdrawn is refused.
    /// In place of that of the policy file.
    #[arg(long, value_name = "DIR|URL")]
    log: Option<LogLocation>,
    /// File that keeps the log's checkpoint from one time to the next, made at the first: a log that is not the one that was
    /// seen last, gone on, is refused.
    #[arg(long, value_name = "FILE")]
    log_state: Option<PathBuf>,
    /// Accept an image that is in no log: then nothing shows that others can check it. Every output says so.
    #[arg(long, conflicts_with_all = ["log_policy", "release_key", "test_witnesses", "log", "log_state"])]
    without_log: bool,
}

/// The field `log` of a policy file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogEntry {
    /// File with the log policy; a relative path begins at the policy file's folder.
    policy: Option<PathBuf>,
    release_keys: Vec<String>,
    /// The most days since the witnesses saw the log that has the release.
    max_age_days: Option<u64>,
    test: bool,
    /// Where the log is, if it is to be read: a folder, whose relative path begins at the policy file's, or a URL.
    location: Option<String>,
}

/// A log that is to be read, and the file that has what was seen of it last.
#[derive(Debug)]
pub(crate) struct LogToRead {
    location: LogLocation,
    state: Option<PathBuf>,
}

impl LogToRead {
    /// Reads it, by the log policy of `policy`.
    pub(crate) fn read(
        &self,
        policy: &Policy,
        authorities: &Authorities,
    ) -> Result<LogView, PolicyError> {
        let log = policy.log.as_ref().ok_or(PolicyError::NoPolicyForLog)?;
        let now_s = clock::known_s().ok_or(PolicyError::Clock)?;
        let state = self.state.as_deref();
        let location = self.location.clone().vouched_by(authorities);
        Ok(read_log_view(&location, log, state, now_s)?)
    }
}

impl LogArguments {
    /// Changes what the arguments, and the entry of the policy file at its path, say of logs. Gives the log that is to be
    /// read.
    pub(crate) fn apply(
        &self,
        policy: &mut Policy,
        file: Option<(&Path, LogEntry)>,
    ) -> Result<Option<LogToRead>, PolicyError> {
        if self.without_log {
            (policy.log, policy.require_log) = (None, false);
            return Ok(None);
        }
        let mut log_policy = self.log_policy.clone();
        let mut keys = self.release_key.clone();
        let mut location = self.log.clone();
        let (mut max_age_s, mut test) = (None, self.test_witnesses);
        if let Some((path, entry)) = file {
            let beside = |name: PathBuf| path.with_file_name("").join(name);
            log_policy = log_policy.or(entry.policy.map(beside));
            for text in &entry.release_keys {
                let key = parse_release_key(text).map_err(|reason| PolicyError::Policy {
                    path: path.to_owned(),
                    reason: format!("release key {text:?}: {reason}"),
                })?;
                keys.push(key);
            }
            if let (None, Some(text)) = (&location, &entry.location) {
                location = Some(location_beside(path, text)?);
            }
            max_age_s = entry.max_age_days.map(|days| days.saturating_mul(DAY_S));
            test |= entry.test;
        }
        let Some(path) = log_policy else {
            return match (keys.is_empty(), self.to_read(location)?) {
                (false, _) => Err(PolicyError::NoLogPolicy),
                (true, Some(_)) => Err(PolicyError::NoPolicyForLog),
                (true, None) => Ok(None),
            };
        };
        if keys.is_empty() {
            return Err(PolicyError::NoReleaseKey);
        }
        let text = read(&path)?;
        let tlog = TlogPolicy::parse(&text);
        let tlog = tlog.map_err(|source| PolicyError::Log { path, source })?;
        policy.log = Some(LogPolicy {
            max_age_s,
            test,
            ..LogPolicy::new(tlog, keys)
        });
        self.to_read(location)
    }

    fn to_read(&self, location: Option<LogLocation>) -> Result<Option<LogToRead>, PolicyError> {
        let state = self.log_state.clone();
        match location {
            Some(location) => Ok(Some(LogToRead { location, state })),
            None if state.is_some() => Err(PolicyError::NoLocation),
            None => Ok(None),
        }
    }
}

/// The log that the policy file at `path` names.
fn location_beside(path: &Path, text: &str) -> Result<LogLocation, PolicyError> {
    let location = text.parse().map_err(|error| PolicyError::Policy {
        path: path.to_owned(),
        reason: format!("location: {error}"),
    })?;
    Ok(match location {
        LogLocation::Directory(folder) => {
            LogLocation::Directory(path.with_file_name("").join(folder))
        }
        other => other,
    })
}

/// Releases are signed notes: a witness's key is of another type.
fn parse_release_key(text: &str) -> Result<VerifierKey, String> {
    let key = VerifierKey::parse(text).map_err(|error| error.to_string())?;
    match key.key_type() {
        KeyType::Ed25519 => Ok(key),
        KeyType::CosignatureV1 => {
            Err("that is a witness's key; releases are signed with keys of type 0x01".to_owned())
        }
    }
}
