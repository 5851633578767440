//! The last checkpoint that was seen, in a file: the note itself, which anyone can check.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cloister_transparency::checkpoint::{CheckpointError, SignedCheckpoint};
use cloister_transparency::files::{Disk, FileError, ReadFiles};
use cloister_transparency::note::MAX_NOTE_BYTES;
use cloister_transparency::{Policy, VerifierKey};

/// Why the state is of no use. A state that cannot be read is not taken for none: what was seen would be forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// It could not be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It is no checkpoint, or not by a log of the policy.
    #[error("{path}: {error}; is this the state of another log?")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: CheckpointError,
    },
}

/// Reads the last checkpoint that was seen; `None` where there is no file. A log of the policy has signed it.
///
/// # Errors
/// [`StateError`].
pub fn read_state(path: &Path, policy: &Policy) -> Result<Option<SignedCheckpoint>, StateError> {
    let Some(bytes) = Disk.read(path, MAX_NOTE_BYTES)? else {
        return Ok(None);
    };
    let wrong = |error| StateError::Checkpoint {
        path: path.into(),
        error,
    };
    let checkpoint = SignedCheckpoint::parse(&bytes).map_err(wrong)?;
    let keys: Vec<&VerifierKey> = policy.logs().iter().map(|log| &log.key).collect();
    let by_log = checkpoint.verify_log(keys);
    by_log.map_err(|error| wrong(CheckpointError::Note(error)))?;
    Ok(Some(checkpoint))
}

/// Keeps a checkpoint: the file has the old one or this one, and this one once it is on the disk.
///
/// # Errors
/// [`StateError::Write`].
pub fn write_state(path: &Path, checkpoint: &SignedCheckpoint) -> Result<(), StateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(checkpoint.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| StateError::Write {
        path: path.into(),
        source,
    })
}
