//! An audit: that a release in a log is built from this checkout, bit for bit, and that the log shows everyone the same.
//!
//! | module | what |
//! |---|---|
//! | [`logged`](self) | the log: who signed it, who saw it, whether it goes on from what was seen before, the entry in it |
//! | [`inputs`](self) | what goes into the image besides code and model, as the log says it |
//! | [`rebuild`](self) | the image: built here, compared with what the log says |
//! | [`report`] | what came of every check |
//! | [`html`] | the same as a page to keep |

pub mod html;
mod inputs;
mod logged;
mod rebuild;
pub mod report;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use cloister_boot::manifest::Serving;
use cloister_client::follow::FollowError;
use cloister_client::monitor::StateError;
use cloister_client::remote_log::LogLocation;
use cloister_tokens::origin::Issuer;
use cloister_transparency::merkle::PathStep;
use cloister_transparency::release::{SnpLaunch, Statement};
use cloister_transparency::witness::origin_hash;
use cloister_transparency::{Freshness, Hash, Policy, VerifierKey};

use crate::image_build::ImageError;
use crate::release::deployment::DeploymentError;
use crate::release::statement::StatementError;
use crate::reproduce::ReproduceError;
use crate::workspace::Workspace;
use rebuild::Rebuild;
use report::Report;

/// What is audited, by whose measure.
#[derive(Clone, Debug)]
pub struct Request {
    /// The log.
    pub log: LogLocation,
    /// Which logs and witnesses count: the file and what it says.
    pub policy: (PathBuf, Policy),
    /// Who releases.
    pub release_keys: Vec<VerifierKey>,
    /// Whether all of these are a demonstration's.
    pub test: bool,
    /// The release; the newest of this checkout's commit if not given.
    pub entry: Option<u64>,
    /// When, and how old cosignatures may be.
    pub freshness: Freshness,
    /// The last checkpoint that was seen.
    pub state: PathBuf,
    /// Whether the image is built.
    pub rebuild: bool,
    /// The image as its publisher hands it out.
    pub published: Option<PathBuf>,
    /// The model's file.
    pub model: Option<PathBuf>,
    /// The token issuer that the image names, where the release does not say.
    pub token_issuer: Option<Issuer>,
    /// How the image serves its port, where the release does not say.
    pub serving: Serving,
}

/// An audit could not be made. What is wrong with a release is not an error but a check that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Policy or keys cannot be used.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The image was not built.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image that was built cannot be stated.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The published files cannot be compared.
    #[error(transparent)]
    Compare(#[from] ReproduceError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] FollowError),
    /// The last checkpoint that was seen cannot be read or kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log policy cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A file of the release, as the log has it and as it was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRow {
    /// Its name.
    pub file: String,
    /// SHA-256 in the log.
    pub logged: String,
    /// SHA-256 here.
    pub built: Option<String>,
}

/// The way from the entry to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePath {
    /// The entry's index.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// The entry's hash.
    pub leaf: Hash,
    /// Each step up.
    pub steps: Vec<PathStep>,
}

/// What was looked at, to be shown.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Whether log, witnesses and keys are a demonstration's.
    pub test: bool,
    /// Names and values for the head of the page.
    pub summary: Vec<(&'static str, String)>,
    /// The checkpoint as it was published.
    pub checkpoint: Option<String>,
    /// The way from the entry to the root.
    pub path: Option<TreePath>,
    /// The files.
    pub digests: Vec<DigestRow>,
    /// The launches that the release names.
    pub launches: Vec<SnpLaunch>,
    /// Where the published files differ from those that were built.
    pub differences: Vec<String>,
}

/// Makes an audit.
///
/// # Errors
/// [`AuditError`], where something on this side is missing or broken.
pub fn run(workspace: &Workspace, request: &Request) -> Result<(Report, Audited), AuditError> {
    let mut report = Report::default();
    let mut audited = Audited {
        test: request.test,
        ..Audited::default()
    };
    let found = logged::check(workspace, request, &mut report, &mut audited)?;
    let Some(statement) = found else {
        return Ok((report, audited));
    };
    let Statement::Image(release) = &statement else {
        report.not_checked("rebuild", "the entry is no image");
        return Ok((report, audited));
    };
    audited.launches.clone_from(&release.snp);
    if !request.rebuild {
        report.not_checked("rebuild", "--no-rebuild was given");
        return Ok((report, audited));
    }
    let rebuild = Rebuild {
        workspace,
        release,
        log_policy: &request.policy.0,
        published: request.published.as_deref(),
        model: request.model.as_deref(),
        token_issuer: request.token_issuer.as_ref(),
        serving: request.serving,
    };
    rebuild.run(&mut report, &mut audited)?;
    Ok((report, audited))
}

/// Where an audit keeps the last checkpoint that it saw of a policy's log, unless told otherwise.
pub fn default_state(workspace: &Workspace, policy: &Policy) -> PathBuf {
    let origin = policy.logs().first().map_or("", |log| log.key.name());
    let folder = workspace.cloister().join("audit");
    folder.join(format!("{}.checkpoint", origin_hash(origin)))
}

/// Writes the page.
///
/// # Errors
/// From the file system.
pub fn write_page(path: &Path, report: &Report, audited: &Audited) -> std::io::Result<()> {
    std::fs::write(path, html::page(report, audited))
}
