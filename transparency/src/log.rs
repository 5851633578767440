//! A tile log on a directory (C2SP tlog-tiles): any static web server can serve it.
//!
//! Two folders: that of the log, which is served, and that of its state, which is not, and which holds the last checkpoint
//! that was signed. A log that is set back to an older copy, or put in the place of another one, is found out by what the
//! state says.
//!
//! An append writes in this order, and waits for the disk between the steps: what will be there once it is done (the
//! intent), entries, tiles, the signed checkpoint into the state, the checkpoint into the log. Nothing that a signed
//! checkpoint covers is ever written again. So wherever it stops, the next one that opens the log either takes back what
//! no checkpoint covers, or publishes the checkpoint that the state has.

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::files::{self, Disk, FileError, Files, ReadFiles, Writer};
use crate::key::{KeyType, VerifierKey};
use crate::merkle::{Hash, MAX_TREE_SIZE};
use crate::note::{MAX_NOTE_BYTES, Signature};
use crate::signer;
use crate::tiles::Tile;
use crate::witness::AddCheckpoint;
use edge::Edge;
use index::Index;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

mod edge;
mod error;
mod index;
mod intent;
mod new_entries;
mod reader;
#[cfg(test)]
mod tests;

pub use error::LogError;
pub use new_entries::{CheckedEntry, MAX_NEW_ENTRIES, NewEntries};
pub use reader::{LogReader, VerifiedLog};

/// Of a log: its checkpoint; of its state: the last one that was signed.
const CHECKPOINT: &str = "checkpoint";

/// Of the state: locked by the one who writes.
const LOCK: &str = "lock";

/// Where a log and its state are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFolders {
    /// What is served.
    pub log: PathBuf,
    /// What is not: outside the other folder.
    pub state: PathBuf,
}

/// What to do while another one writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// Wait until it is done.
    Wait,
    /// Give up with [`LogError::Locked`].
    Fail,
}

/// Who signs checkpoints. The key is of type Ed25519, and its name is the log's origin.
pub use crate::signer::Signer as LogSigner;

/// Where an entry is, once it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its index.
    pub index: u64,
    /// Whether it was there already, before or further up in the same batch, and was not appended again.
    pub duplicate: bool,
}

/// A log that is open for writing. Nobody else writes until it is dropped.
pub struct TileLog<F: Files = Disk> {
    files: F,
    folders: LogFolders,
    signer: Box<dyn LogSigner>,
    /// What the state has: the last checkpoint that was signed.
    signed: SignedCheckpoint,
    edge: Edge,
    index: Index,
    /// After an error the disk may be ahead of what is known here.
    failed: bool,
    _lock: F::Lock,
}

impl TileLog {
    /// Makes an empty log on the disk; see [`TileLog::init_in`].
    ///
    /// # Errors
    /// [`LogError`].
    pub fn init(folders: LogFolders, signer: Box<dyn LogSigner>) -> Result<Self, LogError> {
        Self::init_in(Disk, folders, signer)
    }

    /// Opens a log on the disk; see [`TileLog::open_in`].
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(
        folders: LogFolders,
        signer: Box<dyn LogSigner>,
        locking: Locking,
    ) -> Result<Self, LogError> {
        Self::open_in(Disk, folders, signer, locking)
    }
}

impl<F: Files> TileLog<F> {
    /// Makes an empty log with a signed checkpoint of size 0.
    ///
    /// # Errors
    /// [`LogError::Exists`] where either folder has a checkpoint or the log has tiles, and others.
    pub fn init_in(
        files: F,
        folders: LogFolders,
        signer: Box<dyn LogSigner>,
    ) -> Result<Self, LogError> {
        check_key(signer.verifier())?;
        check_folders(&folders)?;
        files::create_folders(&files, &folders.log)?;
        files::create_folders(&files, &folders.state)?;
        let lock = files
            .lock(&folders.state.join(LOCK), false)?
            .ok_or(LogError::Locked)?;
        let there = [
            &folders.log.join(CHECKPOINT),
            &folders.log.join("tile"),
            &folders.state.join(CHECKPOINT),
        ];
        for path in there {
            if files.length(path)?.is_some() {
                return Err(LogError::Exists { path: path.clone() });
            }
        }
        let empty = Checkpoint::new(signer.verifier().name(), 0, Hash::empty_tree());
        let signed = sign(&*signer, &empty)?;
        write_checkpoint(&files, &folders.state, &signed)?;
        drop(lock);
        Self::open_in(files, folders, signer, Locking::Fail)
    }

    /// Opens a log: checks that the state's checkpoint is by this key, that the tiles lead to its root, that what the log
    /// publishes is the same or a beginning of it, and finishes or takes back what was interrupted.
    ///
    /// # Errors
    /// [`LogError`]; nothing is signed where the state is missing or not that of this log.
    pub fn open_in(
        files: F,
        folders: LogFolders,
        signer: Box<dyn LogSigner>,
        locking: Locking,
    ) -> Result<Self, LogError> {
        let key = signer.verifier();
        check_key(key)?;
        check_folders(&folders)?;
        if files.length(&folders.state.join(CHECKPOINT))?.is_none() {
            return Err(LogError::StateMissing);
        }
        let wait = locking == Locking::Wait;
        let lock = files
            .lock(&folders.state.join(LOCK), wait)?
            .ok_or(LogError::Locked)?;
        let signed = read_checkpoint(&files, &folders.state)?.ok_or(LogError::StateMissing)?;
        signed
            .verify_log([key])
            .map_err(|error| LogError::State(CheckpointError::Note(error)))?;
        let tree = signed.checkpoint().clone();
        // Before anything is removed: with an older state it would be what a newer one had signed.
        let published = read_published(&files, &folders, key, tree.size)?;
        intent::take_back(&files, &folders, tree.size)?;
        let mut reader = LogReader::new_in(&files, &folders.log);
        let edge = Edge::read(&mut reader, tree.size)?;
        let computed = edge.root();
        if computed != tree.root {
            return Err(LogError::TilesMismatch {
                size: tree.size,
                computed,
            });
        }
        finish_publishing(&files, &folders, published.as_ref(), &signed)?;
        let index = Index::open(
            &files,
            &folders.state,
            &mut LogReader::new_in(&files, &folders.log),
            tree.size,
        )?;
        Ok(Self {
            files,
            folders,
            signer,
            signed,
            edge,
            index,
            failed: false,
            _lock: lock,
        })
    }

    /// The last checkpoint that was signed.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// A reader of the same folder.
    pub fn reader(&self) -> LogReader<'_, F> {
        LogReader::new_in(&self.files, &self.folders.log)
    }

    /// [`Self::stage`] and [`Self::publish`] without cosignatures.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn append<E: AsRef<[u8]>>(&mut self, entries: &[E]) -> Result<Vec<Appended>, LogError> {
        let appended = self.stage(entries)?;
        self.publish(&[])?;
        Ok(appended)
    }

    /// Appends entries and signs a checkpoint, which is not published yet, so that witnesses can cosign it first. Where
    /// all entries are there already, the last checkpoint stays.
    ///
    /// After an error the log has to be opened again, but for [`LogError::EntryTooLarge`], which changes nothing.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn stage<E: AsRef<[u8]>>(&mut self, entries: &[E]) -> Result<Vec<Appended>, LogError> {
        self.check_usable()?;
        for (entry, bytes) in entries.iter().map(|entry| entry.as_ref().len()).enumerate() {
            if bytes > crate::appraise::MAX_ENTRY_BYTES {
                return Err(LogError::EntryTooLarge { entry, bytes });
            }
        }
        self.failed = true;
        let appended = self.write_entries(entries)?;
        self.failed = false;
        Ok(appended)
    }

    fn write_entries<E: AsRef<[u8]>>(&mut self, entries: &[E]) -> Result<Vec<Appended>, LogError> {
        let hashes: Vec<Hash> = entries
            .iter()
            .map(|entry| Hash::leaf(entry.as_ref()))
            .collect();
        let old_size = self.edge.size();
        let (appended, new) = self.find(&hashes)?;
        let size = old_size + new.len() as u64;
        if new.is_empty() {
            return Ok(appended);
        }
        if size > MAX_TREE_SIZE {
            return Err(LogError::Full);
        }
        intent::declare(&self.files, &self.folders, size)?;
        let mut writer = Writer::new(&self.files, &self.folders.log);
        for at in &new {
            let entry = entries[*at].as_ref();
            self.edge.push(entry, hashes[*at]);
            // Bundles are large: they are written as soon as they are full.
            put_all(&mut writer, self.edge.take_full_bundle())?;
        }
        put_all(&mut writer, self.edge.take_files())?;
        writer.finish()?;
        let origin = self.signed.checkpoint().origin.as_str();
        let signed = sign(
            &*self.signer,
            &Checkpoint::new(origin, size, self.edge.root()),
        )?;
        write_checkpoint(&self.files, &self.folders.state, &signed)?;
        self.signed = signed;
        intent::fulfil(&self.files, &self.folders)?;
        let leaves = new.iter().map(|at| hashes[*at]).collect();
        self.index.add(&self.files, leaves)?;
        Ok(appended)
    }

    /// Where each entry is or will be, and which of them are new.
    fn find(&self, hashes: &[Hash]) -> Result<(Vec<Appended>, Vec<usize>), LogError> {
        let known = self.index.find(&self.files, hashes)?;
        let (mut appended, mut new) = (Vec::new(), Vec::new());
        let mut in_batch = BTreeMap::new();
        let mut reader = self.reader();
        for (at, hash) in hashes.iter().enumerate() {
            let known = known.get(hash).or(in_batch.get(hash)).copied();
            if let Some(index) = known.filter(|index| *index < self.edge.size()) {
                // The index is only a hint: the tile says what is there.
                if reader.leaf(index, self.edge.size())? != *hash {
                    return Err(LogError::IndexDamaged);
                }
            }
            let index = known.unwrap_or(self.edge.size() + new.len() as u64);
            if known.is_none() {
                in_batch.insert(*hash, index);
                new.push(at);
            }
            appended.push(Appended {
                index,
                duplicate: known.is_some(),
            });
        }
        Ok((appended, new))
    }

    /// Publishes the last checkpoint that was signed, with cosignatures, which the caller has checked. They take the place
    /// of earlier ones by the same keys.
    ///
    /// # Errors
    /// [`LogError`]; too many signatures for a note change nothing, after other errors the log has to be opened again.
    pub fn publish(&mut self, cosignatures: &[Signature]) -> Result<(), LogError> {
        self.check_usable()?;
        // A witness's newer cosignature takes the place of its older one: else they would add up with every publishing.
        let is_renewed = |old: &Signature| {
            let same = |new: &Signature| (&new.name, new.key_id) == (&old.name, old.key_id);
            cosignatures.iter().any(same)
        };
        let kept = self.signed.note().signatures().iter();
        let kept = kept.filter(|line| !is_renewed(line)).cloned().collect();
        let mut signed = self.signed.with_signatures(kept);
        for line in cosignatures {
            let added = signed.note_mut().add(line.clone());
            added.map_err(|error| LogError::State(CheckpointError::Note(error)))?;
        }
        self.failed = true;
        if signed != self.signed {
            write_checkpoint(&self.files, &self.folders.state, &signed)?;
            self.signed = signed;
        }
        write_checkpoint(&self.files, &self.folders.log, &self.signed)?;
        self.failed = false;
        Ok(())
    }

    /// What to send to a witness whose last checkpoint is of `old_size`, so that it cosigns the last one that was signed.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn witness_request(&self, old_size: u64) -> Result<AddCheckpoint, LogError> {
        let proof = self
            .reader()
            .consistency_proof(old_size, self.signed.checkpoint().size)?;
        Ok(AddCheckpoint {
            old_size,
            proof,
            checkpoint: self.signed.clone(),
        })
    }

    fn check_usable(&self) -> Result<(), LogError> {
        if self.failed {
            Err(LogError::NeedsReopening)
        } else {
            Ok(())
        }
    }
}

impl<F: Files> fmt::Debug for TileLog<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TileLog")
            .field("folders", &self.folders)
            .field("signed", &self.signed)
            .finish_non_exhaustive()
    }
}

/// What the log publishes, which has to be by the log's key and not ahead of the `signed` leaves of the state.
fn read_published<F: Files>(
    files: &F,
    folders: &LogFolders,
    key: &VerifierKey,
    signed: u64,
) -> Result<Option<SignedCheckpoint>, LogError> {
    let published = match read_checkpoint(files, &folders.log) {
        Err(LogError::State(error)) => return Err(LogError::Published(error)),
        published => published?,
    };
    let Some(published) = published else {
        return Ok(None);
    };
    let verified = published.verify_log([key]);
    verified.map_err(|error| LogError::Published(CheckpointError::Note(error)))?;
    let size = published.checkpoint().size;
    if size > signed {
        return Err(LogError::NotAncestor {
            published: size,
            signed,
        });
    }
    Ok(Some(published))
}

/// Compares what the log publishes with the state's checkpoint, and publishes that where it is ahead.
fn finish_publishing<F: Files>(
    files: &F,
    folders: &LogFolders,
    published: Option<&SignedCheckpoint>,
    signed: &SignedCheckpoint,
) -> Result<(), LogError> {
    if published == Some(signed) {
        return Ok(());
    }
    if let Some(published) = published {
        let (old, new) = (published.checkpoint(), signed.checkpoint());
        if !LogReader::new_in(files, &folders.log).is_ancestor(old, new)? {
            return Err(LogError::NotAncestor {
                published: old.size,
                signed: new.size,
            });
        }
    }
    write_checkpoint(files, &folders.log, signed)
}

/// A checkpoint with the log's signature.
fn sign(signer: &dyn LogSigner, checkpoint: &Checkpoint) -> Result<SignedCheckpoint, LogError> {
    let mut signed = SignedCheckpoint::unsigned(checkpoint).map_err(LogError::State)?;
    let signature = signer::sign(signer, signed.note().text(), 0).map_err(LogError::NotSigned)?;
    let added = signed.note_mut().add(signature);
    added.map_err(|error| LogError::State(CheckpointError::Note(error)))?;
    Ok(signed)
}

fn check_key(key: &VerifierKey) -> Result<(), LogError> {
    if key.key_type() == KeyType::Ed25519 {
        Ok(())
    } else {
        Err(LogError::NotALogKey)
    }
}

fn check_folders(folders: &LogFolders) -> Result<(), LogError> {
    if folders.state.starts_with(&folders.log) {
        Err(LogError::StateInsideLog)
    } else {
        Ok(())
    }
}

fn write_checkpoint<F: Files>(
    files: &F,
    folder: &Path,
    signed: &SignedCheckpoint,
) -> Result<(), LogError> {
    let text = signed.to_string();
    Ok(files::replace(
        files,
        &folder.join(CHECKPOINT),
        text.as_bytes(),
    )?)
}

fn read_checkpoint<F: ReadFiles>(
    files: &F,
    folder: &Path,
) -> Result<Option<SignedCheckpoint>, LogError> {
    let bytes = files.read(&folder.join(CHECKPOINT), MAX_NOTE_BYTES)?;
    let read = bytes.map(|bytes| SignedCheckpoint::parse(&bytes));
    read.transpose().map_err(LogError::State)
}

fn put_all<F: Files>(
    writer: &mut Writer<'_, F>,
    tiles: impl IntoIterator<Item = (Tile, Vec<u8>)>,
) -> Result<(), FileError> {
    tiles
        .into_iter()
        .try_for_each(|(tile, bytes)| writer.put(&tile.to_string(), &bytes))
}
