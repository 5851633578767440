//! `cargo xtask log`: make, list, watch a log, withdraw from it.

use cloister_client::Authorities;
use cloister_client::follow::ViewEntry;
use cloister_client::monitor::{self, MonitorArguments};
use cloister_client::remote_log::LogLocation;
use cloister_transparency::log::LogReader;
use cloister_transparency::tiles::TILE_WIDTH;
use cloister_transparency::{Hash, Statement};
use serde_json::{Value, json};

use super::CommandError;
use super::publish::{TEST_WITNESSES, describe, document};
use crate::cli::Outcome;
use crate::release::arguments::{DeploymentArgs, LogCommand};
use crate::release::deployment::{Deployment, DeploymentError};
use crate::release::keys;
use crate::release::publish::{self, PublishError};
use crate::workspace::Workspace;

/// Runs one of the commands.
pub fn run(
    workspace: &Workspace,
    command: &LogCommand,
    json_wanted: bool,
) -> Result<Outcome, CommandError> {
    match command {
        LogCommand::Init { origin, deployment } => init(workspace, origin, deployment),
        LogCommand::List { deployment } => list(&deployment.open(workspace)?),
        LogCommand::Withdraw {
            index,
            reason,
            deployment,
        } => withdraw(&deployment.open(workspace)?, *index, reason),
        LogCommand::Watch {
            once,
            every,
            deployment,
        } => watch(
            workspace,
            &deployment.open(workspace)?,
            *once,
            *every,
            json_wanted,
        ),
    }
}

fn init(
    workspace: &Workspace,
    origin: &str,
    arguments: &DeploymentArgs,
) -> Result<Outcome, CommandError> {
    let deployment = arguments.locate(workspace)?;
    if deployment.exists() {
        return Err(CommandError::Usage(format!(
            "{}: there is a log already",
            deployment.folders.log.display()
        )));
    }
    // A log of one's own has no witnesses yet: they are other people's, and the policy names them.
    deployment.create(origin, 0).map_err(PublishError::from)?;
    let key = deployment.release_key().map_err(PublishError::from)?;
    let text = format!(
        "An empty log {origin} in {}\n  keys in {}\n  release key {key}\n  policy {}\n\nThe policy names no witness, so that \
         the log can show everyone something else. Add lines `witness NAME VKEY URL` and a quorum to it (C2SP tlog-policy) \
         before you hand it out; `cloister witness --help` runs one.\n",
        deployment.folders.log.display(),
        deployment.keys.folder().display(),
        deployment.policy.display(),
    );
    Ok(Outcome {
        text,
        json: json!({
            "origin": origin,
            "log": deployment.folders.log,
            "keys": deployment.keys.folder(),
            "policy": deployment.policy,
            "release_key": key.to_string(),
        }),
        success: true,
    })
}

fn list(deployment: &Deployment) -> Result<Outcome, CommandError> {
    let failed = |source| PublishError::from(deployment.log_error(source));
    let policy = deployment.policy().map_err(PublishError::from)?;
    let key = deployment.release_key().map_err(PublishError::from)?;
    let mut reader = LogReader::new(&deployment.folders.log);
    let log_key = deployment
        .keys
        .verifier(keys::LOG)
        .map_err(|error| PublishError::from(DeploymentError::from(error)))?;
    let verified = reader.verify(&log_key).map_err(failed)?;
    let size = verified.checkpoint.checkpoint().size;
    let (mut text, mut entries) = (String::new(), Vec::new());
    for bundle in 0..size.div_ceil(TILE_WIDTH) {
        let bytes = reader.bundle(bundle, size).map_err(failed)?;
        for (index, bytes) in (bundle * TILE_WIDTH..).zip(bytes) {
            let entry = ViewEntry {
                index,
                leaf: Hash::leaf(&bytes),
                statement: Statement::verify(&bytes, [&key]),
            };
            let line = monitor::line(&entry);
            text += &format!("{line}\n");
            entries.push(entry_json(&entry, &bytes, &line));
        }
    }
    text += &format!(
        "{size} entries, {} tiles, {} bytes: all of it hashes to the checkpoint's root\n",
        verified.tiles, verified.bytes
    );
    if deployment.test {
        text += &format!("\n{TEST_WITNESSES}\n");
    }
    Ok(Outcome {
        text,
        json: json!({
            "origin": policy.logs().first().map(|log| log.key.name()),
            "size": size,
            "entries": entries,
            "test_witnesses": deployment.test,
        }),
        success: true,
    })
}

fn entry_json(entry: &ViewEntry, bytes: &[u8], line: &str) -> Value {
    json!({
        "index": entry.index,
        "leaf": entry.leaf.to_string(),
        "bytes": bytes.len(),
        "says": line,
        "note": String::from_utf8_lossy(bytes),
    })
}

fn withdraw(deployment: &Deployment, index: u64, reason: &str) -> Result<Outcome, CommandError> {
    let published = publish::withdraw(deployment, index, reason)?;
    Ok(Outcome {
        text: format!(
            "Entry {index} is withdrawn: {reason}\n{}Clients that read the log (--log) refuse it from now on.\n",
            describe(&published)
        ),
        json: document(deployment, &published),
        success: true,
    })
}

fn watch(
    workspace: &Workspace,
    deployment: &Deployment,
    once: bool,
    every_s: u64,
    json_wanted: bool,
) -> Result<Outcome, CommandError> {
    let failed = |error: DeploymentError| CommandError::Publish(PublishError::from(error));
    let state = workspace.cloister().join("log-monitor");
    std::fs::create_dir_all(&state).map_err(|source| CommandError::Io {
        path: state.clone(),
        source,
    })?;
    let monitor = MonitorArguments {
        log: LogLocation::Directory(deployment.folders.log.clone()),
        authorities: Authorities::default(),
        log_policy: deployment.policy.clone(),
        release_key: vec![deployment.release_key().map_err(failed)?],
        state: state.join("checkpoint"),
        every: every_s,
        max_age: None,
        once,
        acknowledge: false,
        json: json_wanted,
    };
    let good = monitor::run(&monitor).map_err(|error| CommandError::Failed(error.to_string()))?;
    let text = match good {
        true => "nothing is to be said against the log",
        false => "there were alarms; see above",
    };
    // With --json the monitor has printed a document for each look already.
    Ok(Outcome {
        text: text.to_owned(),
        json: json!({ "good": good }),
        success: good,
    })
}
