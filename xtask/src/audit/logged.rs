//! The part of an audit that reads the log.

use std::fs;

use cloister_client::follow::{FollowError, View, ViewEntry, read_view};
use cloister_client::log_view::{self, check_goes_on};
use cloister_client::monitor::{read_state, write_state};
use cloister_client::remote_log::LogSource;
use cloister_transparency::log::LogError;
use cloister_transparency::merkle::inclusion_path;
use cloister_transparency::release::{ImageRelease, time_text};
use cloister_transparency::{
    AppraisalError, Checkpoint, LogProof, SignedCheckpoint, Statement, appraise,
};
use cloister_verifier::LogView;

use super::report::Report;
use super::{AuditError, Audited, Request, TreePath};
use crate::image_build::{RELEASE_NOTE, RELEASE_PROOF};
use crate::workspace::Workspace;

const SIGNATURE: &str = "log signature";
const QUORUM: &str = "witness quorum";
const CONSISTENCY: &str = "consistency";
const WHOLE_LOG: &str = "whole log";
/// The most entries that are named in a line.
const NAMED_ENTRIES: usize = 5;

/// Reads the log and checks it; gives what the release in question says, if there is one that counts.
pub(super) fn check(
    workspace: &Workspace,
    request: &Request,
    report: &mut Report,
    audited: &mut Audited,
) -> Result<Option<Statement>, AuditError> {
    let seen = read_state(&request.state, &request.policy.1)?;
    // All of the log is read, not only what is new: the release may be older than the last audit.
    let view = read_view(
        &request.log,
        &request.policy.1,
        &request.release_keys,
        &request.freshness,
        None,
    );
    let view = match view {
        Ok(view) => view,
        Err(error) if error.is_accusation() => {
            accuse(&error, report);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    praise(&view, request, report);
    audited.checkpoint = Some(view.checkpoint.to_string());
    // A withdrawal of a later day says already that the release is not to be used.
    let known = log_view::of_view(&view, u64::MAX);
    let seen = seen.as_ref().map(SignedCheckpoint::checkpoint);
    if !check_consistency(&known, seen, request, report) {
        return Ok(None);
    }
    if let Some(folder) = request.state.parent() {
        fs::create_dir_all(folder).map_err(|source| AuditError::Io {
            path: folder.to_owned(),
            source,
        })?;
    }
    write_state(&request.state, &view.checkpoint)?;
    check_others(&view, report);
    let Some(entry) = choose(workspace, &view, request, report) else {
        return Ok(None);
    };
    summarize(&view, entry, request, audited);
    check_inclusion(&view, entry, request, report, audited)?;
    check_withdrawal(&known, entry, report);
    check_published(entry, request, report)?;
    let Ok(statement) = &entry.statement else {
        return Ok(None);
    };
    if let Statement::Image(release) = statement {
        check_dates(release, request, report);
    }
    Ok(Some(statement.clone()))
}

/// Files what is wrong with the log under the check that it fails.
fn accuse(error: &FollowError, report: &mut Report) {
    let name = match error {
        FollowError::Checkpoint {
            error: AppraisalError::Quorum { .. } | AppraisalError::WitnessSignature { .. },
            ..
        } => {
            report.pass(SIGNATURE, "the checkpoint is by the log's key");
            QUORUM
        }
        FollowError::Checkpoint { .. } => SIGNATURE,
        FollowError::Log {
            error: LogError::Published(_),
            ..
        } => SIGNATURE,
        _ => WHOLE_LOG,
    };
    report.fail(name, error.to_string());
}

fn praise(view: &View, request: &Request, report: &mut Report) {
    let tree = view.checkpoint.checkpoint();
    report.pass(SIGNATURE, format!("{}, {} entries", tree.origin, tree.size));
    let age = |time_s: u64| request.freshness.now_s.saturating_sub(time_s) / 3600;
    let names: Vec<String> = view
        .witnesses
        .iter()
        .map(|one| {
            let name = String::from_utf8_lossy(&one.witness);
            format!("{name} {} h ago", age(one.time_s))
        })
        .collect();
    match (names.is_empty(), request.test) {
        (true, _) => report.not_checked(
            QUORUM,
            "the policy asks for no witness, so the log can show everyone something else",
        ),
        (_, true) => report.pass(QUORUM, format!("TEST WITNESSES: {}", names.join(", "))),
        _ => report.pass(QUORUM, names.join(", ")),
    }
    report.pass(
        WHOLE_LOG,
        format!("{} entries hash to the root {}", tree.size, tree.root),
    );
}

/// Whether the tree goes on from the one that was seen last.
fn check_consistency(
    known: &LogView,
    seen: Option<&Checkpoint>,
    request: &Request,
    report: &mut Report,
) -> bool {
    let Some(seen) = seen else {
        report.not_checked(
            CONSISTENCY,
            format!(
                "no tree was seen before; this one is kept in {}",
                request.state.display()
            ),
        );
        return true;
    };
    let goes_on = check_goes_on(seen, known).is_ok();
    report.expect(
        CONSISTENCY,
        goes_on,
        format!("begins with the {} entries that were seen last", seen.size),
        format!(
            "it does not go on from the tree of {} entries of {} that was seen last (root {}): the log shows two \
             histories, or was set back. Keep {} and the log's checkpoint as proof",
            seen.size,
            seen.origin,
            seen.root,
            request.state.display()
        ),
    );
    goes_on
}

/// Whether the release key's owner is the only one who writes here.
fn check_others(view: &View, report: &mut Report) {
    let others: Vec<&ViewEntry> = view
        .entries
        .iter()
        .filter(|entry| entry.statement.is_err())
        .collect();
    let named: Vec<String> = others
        .iter()
        .take(NAMED_ENTRIES)
        .map(|entry| entry.index.to_string())
        .collect();
    report.expect(
        "other entries",
        others.is_empty(),
        "every entry is a statement by the release key".to_owned(),
        format!(
            "{} are no statements by the release key, the first: {}",
            others.len(),
            named.join(", ")
        ),
    );
}

/// The entry that was asked for, else the newest image of this checkout's commit.
fn choose<'v>(
    workspace: &Workspace,
    view: &'v View,
    request: &Request,
    report: &mut Report,
) -> Option<&'v ViewEntry> {
    const NAME: &str = "release signature";
    let entry = match request.entry {
        Some(index) => view.entries.iter().find(|entry| entry.index == index),
        None => {
            let commit = crate::image_build::commit(workspace);
            let of_commit = |entry: &&ViewEntry| matches!(&entry.statement, Ok(Statement::Image(image)) if image.source.commit == commit);
            let entry = view.entries.iter().rev().find(of_commit);
            if entry.is_none() {
                let advice = format!(
                    "the log has no release of this checkout's commit {commit:?}; check one out that it has, or name an \
                     entry with --entry"
                );
                report.fail(NAME, advice);
                return None;
            }
            entry
        }
    };
    match entry {
        None => {
            report.fail(NAME, "the log has no such entry");
            None
        }
        Some(entry) => {
            match &entry.statement {
                Ok(statement) => report.pass(
                    NAME,
                    format!(
                        "entry {}: {} in canonical form",
                        entry.index,
                        statement.kind()
                    ),
                ),
                Err(error) => report.fail(NAME, format!("entry {}: {error}", entry.index)),
            }
            Some(entry)
        }
    }
}

fn summarize(view: &View, entry: &ViewEntry, request: &Request, audited: &mut Audited) {
    let tree = view.checkpoint.checkpoint();
    audited.summary = vec![
        ("Log", tree.origin.clone()),
        ("Read from", request.log.to_string()),
        ("Entry", format!("{} of {}", entry.index, tree.size)),
        ("Audited", time_text(request.freshness.now_s)),
    ];
    if let Ok(Statement::Image(release)) = &entry.statement {
        audited.summary.extend([
            ("Version", release.version.clone()),
            ("Repository", release.source.repository.clone()),
            ("Commit", release.source.commit.clone()),
            ("Valid", valid(release)),
            ("Compiler", release.build.rustc.clone()),
        ]);
    }
}

fn valid(release: &ImageRelease) -> String {
    let (from, to) = (release.period.not_before_s, release.period.not_after_s);
    format!("{} to {}", time_text(from), time_text(to))
}

/// The entry leads to the root by a proof that is made from the tiles.
fn check_inclusion(
    view: &View,
    entry: &ViewEntry,
    request: &Request,
    report: &mut Report,
    audited: &mut Audited,
) -> Result<(), AuditError> {
    const NAME: &str = "inclusion";
    let source = LogSource::new(&request.log).map_err(FollowError::from)?;
    let proof = source.reader().prove(entry.index, &view.checkpoint);
    let proof = match proof {
        Ok(proof) => proof,
        Err(error) => {
            report.fail(NAME, error.to_string());
            return Ok(());
        }
    };
    let tree = view.checkpoint.checkpoint();
    let path = inclusion_path(
        &entry.leaf,
        entry.index,
        tree.size,
        &proof.hashes,
        &tree.root,
    );
    match path {
        Ok(steps) => {
            report.pass(
                NAME,
                format!("leaf {}, {} hashes to the root", entry.leaf, steps.len()),
            );
            audited.path = Some(TreePath {
                index: entry.index,
                size: tree.size,
                leaf: entry.leaf,
                steps,
            });
        }
        Err(error) => report.fail(NAME, error.to_string()),
    }
    Ok(())
}

fn check_dates(release: &ImageRelease, request: &Request, report: &mut Report) {
    let (now_s, skew_s) = (request.freshness.now_s, request.freshness.clock_skew_s);
    let wrong = match release.period {
        period if period.not_before_s > now_s + skew_s => "not yet: ",
        period if period.not_after_s < now_s => "not any more: ",
        _ => "",
    };
    report.expect(
        "validity",
        wrong.is_empty(),
        valid(release),
        format!("{wrong}{}", valid(release)),
    );
}

fn check_withdrawal(known: &LogView, entry: &ViewEntry, report: &mut Report) {
    let withdrawn = known.withdrawn.iter().find(|(leaf, _)| *leaf == entry.leaf);
    let reason = withdrawn.map(|(_, reason)| reason.clone());
    report.expect(
        "withdrawal",
        reason.is_none(),
        "no entry withdraws it".to_owned(),
        format!("withdrawn: {}", reason.unwrap_or_default()),
    );
}

/// The proof that the publisher hands out with the image, as a client judges it.
fn check_published(
    entry: &ViewEntry,
    request: &Request,
    report: &mut Report,
) -> Result<(), AuditError> {
    const NAME: &str = "published proof";
    let Some(folder) = &request.published else {
        report.not_checked(NAME, "no folder was given with --image");
        return Ok(());
    };
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let judged = read(RELEASE_NOTE).and_then(|note| {
        let proof = read(RELEASE_PROOF)?;
        let index = LogProof::parse(&proof)
            .map_err(|error| error.to_string())?
            .index;
        if index != entry.index {
            return Err(format!("it is that of entry {index}"));
        }
        appraise(&note, &proof, &request.policy.1, &request.freshness)
            .map_err(|error| error.to_string())
    });
    match judged {
        Ok(logged) => report.pass(
            NAME,
            format!("{RELEASE_NOTE} and {RELEASE_PROOF}: entry {}", logged.index),
        ),
        Err(why) => report.fail(NAME, why),
    }
    Ok(())
}
