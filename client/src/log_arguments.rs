//! The log that an image must be in, as people name it: arguments, and a field of the policy file.

use std::path::{Path, PathBuf};

use cloister_transparency::{KeyType, Policy as TlogPolicy, VerifierKey};
use cloister_verifier::{LogPolicy, Policy};
use serde::Deserialize;

use crate::policy_arguments::{PolicyError, read};

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
    /// Accept an image that is in no log: then nothing shows that others can check it. Every output says so.
    #[arg(long, conflicts_with_all = ["log_policy", "release_key", "test_witnesses"])]
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
}

impl LogArguments {
    /// Changes what the arguments, and `entry` of the policy file at `path`, say of logs.
    pub(crate) fn apply(
        &self,
        policy: &mut Policy,
        file: Option<(&Path, LogEntry)>,
    ) -> Result<(), PolicyError> {
        if self.without_log {
            (policy.log, policy.require_log) = (None, false);
            return Ok(());
        }
        let mut log_policy = self.log_policy.clone();
        let mut keys = self.release_key.clone();
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
            max_age_s = entry.max_age_days.map(|days| days.saturating_mul(DAY_S));
            test |= entry.test;
        }
        let Some(path) = log_policy else {
            return match keys.is_empty() {
                true => Ok(()),
                false => Err(PolicyError::NoLogPolicy),
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
        Ok(())
    }
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
