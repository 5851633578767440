//! Files and folders, one system call or so at a time, so that a test can stop between any two of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

/// What [`replace`] and [`Writer`] write before it has its name: one at a time, so one name is enough. What a crash
/// leaves of it is overwritten.
const TEMPORARY: &str = ".tmp";

/// What was done with a file when it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Reading it, its length, or the names in a folder.
    Read,
    /// Writing it.
    Write,
    /// Waiting until it is on the disk.
    Sync,
    /// Giving it another name.
    Rename,
    /// Removing it.
    Remove,
    /// Making a folder.
    CreateFolder,
    /// Locking it.
    Lock,
}

/// A file that could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What was done with it.
    pub operation: Operation,
    /// Where it is.
    pub path: PathBuf,
    /// What went wrong.
    pub kind: io::ErrorKind,
    /// More about that, where it is known.
    pub reason: Option<String>,
}

impl FileError {
    fn new(operation: Operation, path: &Path, error: &io::Error) -> Self {
        Self {
            operation,
            path: path.into(),
            kind: error.kind(),
            reason: None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.operation {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Sync => "sync",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::CreateFolder => "make the folder",
            Operation::Lock => "lock",
        };
        write!(f, "cannot {what} {}: ", self.path.display())?;
        match &self.reason {
            Some(reason) => f.write_str(reason),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for FileError {}

/// Where files are read from: a file system, a server.
pub trait ReadFiles {
    /// The content of a file; `None` where there is none. A file of more than `most_bytes` is an error.
    ///
    /// # Errors
    /// [`FileError`].
    fn read(&self, path: &Path, most_bytes: usize) -> Result<Option<Vec<u8>>, FileError>;
}

/// What the log and the witness's state need of a file system.
pub trait Files: ReadFiles {
    /// Holds a lock until it is dropped.
    type Lock: fmt::Debug;

    /// Fills `out` with what a file has at `offset`.
    ///
    /// # Errors
    /// [`FileError`], also where it ends before.
    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> Result<(), FileError>;

    /// Bytes of a file; `None` where there is none.
    ///
    /// # Errors
    /// [`FileError`].
    fn length(&self, path: &Path) -> Result<Option<u64>, FileError>;

    /// Names in a folder, in any order; none where there is no folder.
    ///
    /// # Errors
    /// [`FileError`].
    fn names(&self, folder: &Path) -> Result<Vec<OsString>, FileError>;

    /// Makes a folder in one that there is, if it is not there.
    ///
    /// # Errors
    /// [`FileError`].
    fn create_folder(&self, folder: &Path) -> Result<(), FileError>;

    /// Writes a file, new or over what it had. After a crash any part of it may be there.
    ///
    /// # Errors
    /// [`FileError`].
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError>;

    /// Waits until a file's content, or the names in a folder, are on the disk.
    ///
    /// # Errors
    /// [`FileError`].
    fn sync(&self, path: &Path) -> Result<(), FileError>;

    /// Gives a file another name, in place of the file of that name.
    ///
    /// # Errors
    /// [`FileError`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`FileError`].
    fn remove(&self, path: &Path) -> Result<(), FileError>;

    /// Locks a file, which is made if it is not there; `None` where another one has it and `wait` is false.
    ///
    /// # Errors
    /// [`FileError`].
    fn lock(&self, path: &Path, wait: bool) -> Result<Option<Self::Lock>, FileError>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl ReadFiles for Disk {
    fn read(&self, path: &Path, most_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
        let failed = |error: &io::Error| FileError::new(Operation::Read, path, error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| failed(&error))?,
        };
        let mut bytes = Vec::new();
        let read = file.take(most_bytes as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(&error))?;
        if bytes.len() > most_bytes {
            return Err(failed(&io::ErrorKind::FileTooLarge.into()));
        }
        Ok(Some(bytes))
    }
}

impl Files for Disk {
    type Lock = HeldLock;

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> Result<(), FileError> {
        let read = File::open(path).and_then(|file| file.read_exact_at(out, offset));
        read.map_err(|error| FileError::new(Operation::Read, path, &error))
    }

    fn length(&self, path: &Path) -> Result<Option<u64>, FileError> {
        match fs::metadata(path) {
            Ok(about) => Ok(Some(about.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new(Operation::Read, path, &error)),
        }
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>, FileError> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries,
        };
        let names = entries.and_then(|mut all| {
            all.try_fold(Vec::new(), |mut names, entry| {
                names.push(entry?.file_name());
                Ok(names)
            })
        });
        names.map_err(|error| FileError::new(Operation::Read, folder, &error))
    }

    fn create_folder(&self, folder: &Path) -> Result<(), FileError> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(|error| FileError::new(Operation::CreateFolder, folder, &error)),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let written = File::create(path).and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| FileError::new(Operation::Write, path, &error))
    }

    fn sync(&self, path: &Path) -> Result<(), FileError> {
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|error| FileError::new(Operation::Sync, path, &error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        fs::rename(from, to).map_err(|error| FileError::new(Operation::Rename, to, &error))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| FileError::new(Operation::Remove, path, &error)),
        }
    }

    fn lock(&self, path: &Path, wait: bool) -> Result<Option<HeldLock>, FileError> {
        let failed = |error: &io::Error| FileError::new(Operation::Lock, path, error);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.map_err(|error| failed(&error))?;
        if wait {
            file.lock().map_err(|error| failed(&error))?;
            return Ok(Some(HeldLock(file)));
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(HeldLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }
}

/// A lock on a file of the file system.
#[derive(Debug)]
pub struct HeldLock(File);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is starting has it open until it runs its own
        // program. Where this fails, closing it is what is left.
        let _ = self.0.unlock();
    }
}

/// Makes a folder and those above it, and waits until they are on the disk.
pub(crate) fn create_folders<F: Files>(files: &F, folder: &Path) -> Result<(), FileError> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !is_folder(files, path))
        .collect();
    for path in missing.iter().rev() {
        files.create_folder(path)?;
        files.sync(parent(path))?;
    }
    Ok(())
}

fn is_folder<F: Files>(files: &F, path: &Path) -> bool {
    // The empty path is that of the current folder, seen from a relative one.
    path.as_os_str().is_empty() || matches!(files.length(path), Ok(Some(_)))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Writes a file so that after a crash it has the old content or the new one, and the new one once this has returned.
/// The folder of `path` is there.
pub(crate) fn replace<F: Files>(files: &F, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = parent(path).join(TEMPORARY);
    files.write(&temporary, bytes)?;
    files.sync(&temporary)?;
    files.rename(&temporary, path)?;
    files.sync(parent(path))
}

/// Writes many files below a folder, each whole or not at all; they are on the disk once [`Writer::finish`] has returned.
pub(crate) struct Writer<'f, F> {
    files: &'f F,
    root: &'f Path,
    /// Folders whose names are not on the disk yet.
    changed: BTreeSet<PathBuf>,
}

impl<'f, F: Files> Writer<'f, F> {
    pub(crate) fn new(files: &'f F, root: &'f Path) -> Self {
        Self {
            files,
            root,
            changed: BTreeSet::new(),
        }
    }

    /// Writes the file at `path` below the root, and makes the folders in between.
    pub(crate) fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        let (temporary, path) = (self.root.join(TEMPORARY), self.root.join(path));
        self.create_folders(parent(&path))?;
        self.files.write(&temporary, bytes)?;
        self.files.sync(&temporary)?;
        self.files.rename(&temporary, &path)?;
        self.changed.insert(parent(&path).into());
        Ok(())
    }

    /// Like the other one, but the disk is waited for at the end, once for all.
    fn create_folders(&mut self, folder: &Path) -> Result<(), FileError> {
        let above = folder.ancestors().take_while(|path| *path != self.root);
        let missing: Vec<&Path> = above.take_while(|path| !self.is_known(path)).collect();
        for path in missing.iter().rev() {
            self.files.create_folder(path)?;
            // Whether it is new or was left by a crash: its name may not be on the disk.
            self.changed.insert(parent(path).into());
            self.changed.insert(path.into());
        }
        Ok(())
    }

    fn is_known(&self, path: &Path) -> bool {
        self.changed.contains(path)
    }

    /// Waits until every name is on the disk.
    pub(crate) fn finish(self) -> Result<(), FileError> {
        self.changed
            .iter()
            .try_for_each(|folder| self.files.sync(folder))
    }
}
