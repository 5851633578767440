//! A file system in memory that can stop at any operation, and forget what was not waited for.

use super::{FileError, Files, Operation, ReadFiles};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What is left when the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed before the operation: all that it did is there.
    Killed,
    /// The process is killed in the operation: half of what it writes is there.
    Torn,
    /// The power fails: only what was waited for is there.
    PowerCut,
    /// The power fails: names are there, and of contents only what was waited for.
    PowerCutAfterNames,
}

impl Crash {
    pub(crate) const ALL: [Self; 4] = [
        Self::Killed,
        Self::Torn,
        Self::PowerCut,
        Self::PowerCutAfterNames,
    ];
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    on_disk: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    contents: Vec<Content>,
    /// Files by name, as an index into the contents; now, and on the disk.
    names: BTreeMap<PathBuf, usize>,
    names_on_disk: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    folders_on_disk: BTreeSet<PathBuf>,
    /// Changes so far.
    operations: usize,
    /// The change that is not made, and how it is not.
    stops_at: Option<(usize, Crash)>,
    stopped: bool,
}

/// The file system; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Simulated(Rc<RefCell<State>>);

impl Simulated {
    /// With one empty folder.
    pub(crate) fn new(folder: &str) -> Self {
        let folders = BTreeSet::from([PathBuf::from(folder)]);
        let state = State {
            folders_on_disk: folders.clone(),
            folders,
            ..State::default()
        };
        Self(Rc::new(RefCell::new(state)))
    }

    /// A copy that goes its own way.
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// Changes so far.
    pub(crate) fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    /// Stops at the change of this number from now, from 0.
    pub(crate) fn stop_at(&self, number: usize, crash: Crash) {
        let mut state = self.0.borrow_mut();
        state.stops_at = Some((state.operations + number, crash));
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.0.borrow().stopped
    }

    /// Starts again, with what is left.
    pub(crate) fn restart(&self) {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let Some((_, crash)) = state.stops_at.take() else {
            return;
        };
        state.stopped = false;
        if matches!(crash, Crash::PowerCut | Crash::PowerCutAfterNames) {
            state
                .contents
                .iter_mut()
                .for_each(|content| content.now = content.on_disk.clone());
        }
        if crash == Crash::PowerCut {
            // A name is there if those of all folders above it are.
            let made = std::mem::replace(&mut state.folders, state.folders_on_disk.clone());
            let lost: Vec<_> = made.difference(&state.folders_on_disk).cloned().collect();
            let is_there = |path: &PathBuf| !lost.iter().any(|folder| path.starts_with(folder));
            state.names = state.names_on_disk.clone();
            state.names.retain(|path, _| is_there(path));
            state.folders.retain(is_there);
        } else {
            // Whatever a crash left is what a later one starts from.
            state.names_on_disk = state.names.clone();
            state.folders_on_disk = state.folders.clone();
        }
        state
            .contents
            .iter_mut()
            .for_each(|content| content.on_disk = content.now.clone());
    }

    /// Counts a change; an error where it is not made.
    fn change(&self, operation: Operation, path: &Path) -> Result<(), FileError> {
        let mut state = self.0.borrow_mut();
        let stops = matches!(state.stops_at, Some((number, _)) if state.operations == number);
        if state.stopped || stops {
            state.stopped = true;
            return Err(failed(operation, path, io::ErrorKind::Interrupted));
        }
        state.operations += 1;
        Ok(())
    }

    fn check_running(&self, path: &Path) -> Result<(), FileError> {
        let stopped = self.0.borrow().stopped;
        if stopped {
            Err(failed(Operation::Read, path, io::ErrorKind::Interrupted))
        } else {
            Ok(())
        }
    }

    fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        state
            .names
            .get(path)
            .map(|at| state.contents[*at].now.clone())
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        let at = match state.names.get(path) {
            Some(at) => *at,
            None => {
                let at = state.contents.len();
                state.contents.push(Content::default());
                state.names.insert(path.into(), at);
                at
            }
        };
        state.contents[at].now = bytes.to_vec();
    }
}

fn failed(operation: Operation, path: &Path, kind: io::ErrorKind) -> FileError {
    FileError {
        operation,
        path: path.into(),
        kind,
        reason: None,
    }
}

impl ReadFiles for Simulated {
    fn read(&self, path: &Path, most_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
        self.check_running(path)?;
        match self.content(path) {
            Some(bytes) if bytes.len() > most_bytes => {
                Err(failed(Operation::Read, path, io::ErrorKind::FileTooLarge))
            }
            content => Ok(content),
        }
    }
}

impl Files for Simulated {
    type Lock = ();

    fn read_at(&self, path: &Path, offset: u64, out: &mut [u8]) -> Result<(), FileError> {
        self.check_running(path)?;
        let content = self
            .content(path)
            .ok_or_else(|| failed(Operation::Read, path, io::ErrorKind::NotFound))?;
        let (start, end) = (offset as usize, offset as usize + out.len());
        let bytes = content.get(start..end);
        out.copy_from_slice(
            bytes.ok_or_else(|| failed(Operation::Read, path, io::ErrorKind::UnexpectedEof))?,
        );
        Ok(())
    }

    fn length(&self, path: &Path) -> Result<Option<u64>, FileError> {
        self.check_running(path)?;
        let is_folder = self.0.borrow().folders.contains(path);
        Ok(self
            .content(path)
            .map(|bytes| bytes.len() as u64)
            .or(is_folder.then_some(0)))
    }

    fn names(&self, folder: &Path) -> Result<Vec<OsString>, FileError> {
        self.check_running(folder)?;
        let state = self.0.borrow();
        let all = state.names.keys().chain(&state.folders);
        let inside = all.filter(|path| path.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| path.file_name().map(OsString::from))
            .collect())
    }

    fn create_folder(&self, folder: &Path) -> Result<(), FileError> {
        self.change(Operation::CreateFolder, folder)?;
        let mut state = self.0.borrow_mut();
        assert!(
            folder
                .parent()
                .is_some_and(|above| state.folders.contains(above)),
            "{folder:?}"
        );
        state.folders.insert(folder.into());
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let was_running = !self.has_stopped();
        let changed = self.change(Operation::Write, path);
        let torn = was_running && matches!(self.0.borrow().stops_at, Some((_, Crash::Torn)));
        if changed.is_ok() {
            assert!(
                self.0.borrow().folders.contains(super::parent(path)),
                "{path:?}"
            );
            self.put(path, bytes);
        } else if torn {
            self.put(path, &bytes[..bytes.len() / 2]);
        }
        changed
    }

    fn sync(&self, path: &Path) -> Result<(), FileError> {
        self.change(Operation::Sync, path)?;
        let mut state = self.0.borrow_mut();
        if let Some(at) = state.names.get(path).copied() {
            state.contents[at].on_disk = state.contents[at].now.clone();
            return Ok(());
        }
        assert!(state.folders.contains(path), "{path:?}");
        let inside = |other: &Path| other.parent() == Some(path);
        let State {
            names,
            names_on_disk,
            folders,
            folders_on_disk,
            ..
        } = &mut *state;
        names_on_disk.retain(|name, _| !inside(name));
        names_on_disk.extend(
            names
                .iter()
                .filter(|(name, _)| inside(name))
                .map(|(name, at)| (name.clone(), *at)),
        );
        folders_on_disk.extend(folders.iter().filter(|name| inside(name)).cloned());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.change(Operation::Rename, to)?;
        let mut state = self.0.borrow_mut();
        let at = state.names.remove(from).expect("a file that was written");
        state.names.insert(to.into(), at);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.change(Operation::Remove, path)?;
        self.0.borrow_mut().names.remove(path);
        Ok(())
    }

    fn lock(&self, path: &Path, _wait: bool) -> Result<Option<()>, FileError> {
        self.check_running(path).map(Some)
    }
}
