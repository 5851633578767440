//! A witness's state in a folder: a checkpoint a log, named so that the folder can be served as the monitoring prefix.

use super::{WitnessStore, origin_hash};
use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::files::{self, Disk, FileError, Files};
use crate::note::MAX_NOTE_BYTES;
use std::fmt;
use std::path::{Path, PathBuf};

/// Locked by the witness.
const LOCK: &str = ".lock";

/// Why a witness's state could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read or written.
    File(FileError),
    /// Another witness has the folder.
    Locked,
    /// What was kept is not a checkpoint.
    Checkpoint(CheckpointError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Locked => write!(f, "another witness has the folder"),
            Self::Checkpoint(error) => write!(f, "the witness's state: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// `<folder>/<origin hash>/checkpoint`. Nobody else has the folder until it is dropped.
#[derive(Debug)]
pub struct DirectoryStore<F: Files = Disk> {
    files: F,
    folder: PathBuf,
    _lock: F::Lock,
}

impl DirectoryStore {
    /// Opens a folder on the disk, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] and [`StoreError::File`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_in(Disk, folder)
    }
}

impl<F: Files> DirectoryStore<F> {
    /// Opens a folder in some file system.
    ///
    /// # Errors
    /// [`StoreError::Locked`] and [`StoreError::File`].
    pub fn open_in(files: F, folder: &Path) -> Result<Self, StoreError> {
        files::create_folders(&files, folder)?;
        let lock = files
            .lock(&folder.join(LOCK), false)?
            .ok_or(StoreError::Locked)?;
        Ok(Self {
            files,
            folder: folder.into(),
            _lock: lock,
        })
    }

    fn path(&self, origin: &str) -> PathBuf {
        self.folder.join(origin_hash(origin)).join("checkpoint")
    }
}

impl<F: Files> WitnessStore for DirectoryStore<F> {
    type Error = StoreError;

    fn latest(&mut self, origin: &str) -> Result<Option<SignedCheckpoint>, StoreError> {
        let bytes = self.files.read(&self.path(origin), MAX_NOTE_BYTES)?;
        let read = bytes.map(|bytes| SignedCheckpoint::parse(&bytes));
        read.transpose().map_err(StoreError::Checkpoint)
    }

    fn put(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        let origin = &checkpoint.checkpoint().origin;
        files::create_folders(&self.files, &self.folder.join(origin_hash(origin)))?;
        let text = checkpoint.to_string();
        Ok(files::replace(
            &self.files,
            &self.path(origin),
            text.as_bytes(),
        )?)
    }
}
