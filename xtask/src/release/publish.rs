//! From a statement to an entry that is in the log, as enough witnesses saw it.
//!
//! Order: sign the statement, keep the entry beside the image, append it, have the checkpoint cosigned, publish that, make
//! the proof, judge it as a client would, and only then write it down. Wherever this stops it can be done again: the
//! entry is the same one, so that the log has it once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_transparency::log::{Locking, LogError, LogReader, TileLog};
use cloister_transparency::note::{Note, NoteError};
use cloister_transparency::release::{Period, ReleaseError, Withdrawal};
use cloister_transparency::signer::{self, SignError};
use cloister_transparency::{AppraisalError, Freshness, LoggedEntry, Policy, Statement, appraise};

use cloister_verifier::policy::CLOCK_SKEW_S;

use super::deployment::{Deployment, DeploymentError};
use super::keys;
use super::statement::{self, StatementError};
use super::witnesses::{self, WitnessProblem};
use crate::image_build::{Image, RELEASE_NOTE, RELEASE_PROOF};

/// A release is not in the log, or not provably.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Keys, policy or log cannot be used.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The image cannot be stated.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The statement is one that nobody would read.
    #[error("the release would not be accepted: {0}")]
    Release(#[from] ReleaseError),
    /// The note cannot be signed.
    #[error("the release key: {0}")]
    Sign(#[from] SignError),
    /// The signed note is not one.
    #[error("the release note: {0}")]
    Note(#[from] NoteError),
    /// The entry is in the log, but the proof is not one that a client accepts.
    #[error(
        "the entry is in the log, but no client would accept its proof: {reason}.{}\nOnce the witnesses can be \
         reached, run the same command again.",
        problems(.witnesses)
    )]
    NotProved {
        /// Why not.
        reason: AppraisalError,
        /// What each witness that did not cosign said.
        witnesses: Vec<WitnessProblem>,
    },
    /// The entry to be withdrawn is not there, or cannot be withdrawn.
    #[error("entry {index} cannot be withdrawn: {reason}")]
    Withdraw {
        /// Which entry.
        index: u64,
        /// Why not.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn problems(witnesses: &[WitnessProblem]) -> String {
    let lines = witnesses.iter().map(|problem| format!("\n  {problem}"));
    lines.collect()
}

/// What was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// The entry: a signed note.
    pub note: String,
    /// The proof that the log has it.
    pub proof: String,
    /// What a client makes of it.
    pub logged: LoggedEntry,
    /// Whether the log had it before.
    pub duplicate: bool,
    /// Witnesses that did not cosign, and why; the quorum was reached without them.
    pub without: Vec<WitnessProblem>,
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Publishes `image` for `valid_s` seconds from now, and writes `release.note` and `release.tlog-proof` beside it. A note
/// that is there, says the same of the image and is valid for half that time yet is published in its place.
///
/// # Errors
/// [`PublishError`].
pub fn image(
    deployment: &Deployment,
    image: &Image,
    valid_s: u64,
) -> Result<Published, PublishError> {
    let now_s = now_s();
    let period = Period {
        not_before_s: now_s,
        not_after_s: now_s + valid_s,
    };
    let wanted = statement::of_image(image, period)?;
    let (note_path, proof_path) = (image.path(RELEASE_NOTE), image.path(RELEASE_PROOF));
    let note = match usable_note(deployment, &note_path, &wanted, now_s + valid_s / 2)? {
        Some(note) => note,
        None => {
            let note = sign(deployment, &wanted)?;
            // Before it is appended: with the same note again the log has it only once.
            remove(&proof_path)?;
            write(&note_path, &note)?;
            note
        }
    };
    let published = entry(deployment, note)?;
    write(&proof_path, &published.proof)?;
    Ok(published)
}

/// The note at `path` if it is by the release key and says what `wanted` says, but for the time, and until then at least.
fn usable_note(
    deployment: &Deployment,
    path: &Path,
    wanted: &Statement,
    until_s: u64,
) -> Result<Option<String>, PublishError> {
    let Ok(note) = fs::read_to_string(path) else {
        return Ok(None);
    };
    let key = deployment.release_key()?;
    let Ok(Statement::Image(mut found)) = Statement::verify(note.as_bytes(), [&key]) else {
        return Ok(None);
    };
    let Statement::Image(wanted) = wanted else {
        return Ok(None);
    };
    let in_time = found.period.not_before_s <= wanted.period.not_before_s
        && found.period.not_after_s >= until_s;
    found.period = wanted.period;
    Ok((in_time && found == *wanted).then_some(note))
}

/// Publishes that entry `index` does not count any more.
///
/// # Errors
/// [`PublishError`].
pub fn withdraw(
    deployment: &Deployment,
    index: u64,
    reason: &str,
) -> Result<Published, PublishError> {
    let refuse = |reason: String| PublishError::Withdraw { index, reason };
    let reader = LogReader::new(&deployment.folders.log);
    let logged = |error: LogError| deployment.log_error(error);
    let size = reader.checkpoint().map_err(logged)?.checkpoint().size;
    if index >= size {
        return Err(refuse(format!("the log has {size} entries")));
    }
    let bytes = reader.entry(index, size).map_err(logged)?;
    let key = deployment.release_key()?;
    let statement = Statement::verify(&bytes, [&key]).map_err(|error| refuse(error.to_string()))?;
    if let Statement::Withdraw(_) = statement {
        return Err(refuse("it is a withdrawal itself".to_owned()));
    }
    let withdrawal = Statement::Withdraw(Withdrawal {
        subjects: statement.subjects().to_vec(),
        not_before_s: now_s(),
        reason: reason.to_owned(),
        withdraws: cloister_transparency::Hash::leaf(&bytes),
    });
    entry(deployment, sign(deployment, &withdrawal)?)
}

/// A statement's note, signed by the release key.
fn sign(deployment: &Deployment, statement: &Statement) -> Result<String, PublishError> {
    statement.check()?;
    let signer = deployment
        .keys
        .signer(keys::RELEASE)
        .map_err(DeploymentError::Key)?;
    let text = statement.to_text();
    let mut note = Note::new(&text)?;
    note.add(signer::sign(&*signer, &text, 0)?)?;
    Ok(note.to_string())
}

/// Appends an entry, has it witnessed, proves it.
fn entry(deployment: &Deployment, note: String) -> Result<Published, PublishError> {
    let policy = deployment.policy()?;
    let signer = deployment
        .keys
        .signer(keys::LOG)
        .map_err(DeploymentError::Key)?;
    let logged = |error: LogError| PublishError::from(deployment.log_error(error));
    let mut log =
        TileLog::open(deployment.folders.clone(), signer, Locking::Wait).map_err(logged)?;
    let appended = log.stage(&[note.as_bytes()]).map_err(logged)?[0];
    let asked = witnesses::ask_all(deployment, &policy, &log);
    log.publish(&asked.cosignatures).map_err(logged)?;
    let checkpoint = log.checkpoint().clone();
    let proof = log.reader().prove(appended.index, &checkpoint);
    let proof = proof.map_err(logged)?.to_string();
    let logged = judge(&note, &proof, &policy).map_err(|reason| PublishError::NotProved {
        reason,
        witnesses: asked.problems.clone(),
    })?;
    Ok(Published {
        note,
        proof,
        logged,
        duplicate: appended.duplicate,
        without: asked.problems,
    })
}

fn judge(note: &str, proof: &str, policy: &Policy) -> Result<LoggedEntry, AppraisalError> {
    let freshness = Freshness {
        now_s: now_s(),
        max_age_s: None,
        clock_skew_s: CLOCK_SKEW_S,
    };
    appraise(note.as_bytes(), proof.as_bytes(), policy, &freshness)
}

/// Writes a whole file or none.
fn write(path: &Path, text: &str) -> Result<(), PublishError> {
    let io = |source| PublishError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), PublishError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PublishError::Io {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
