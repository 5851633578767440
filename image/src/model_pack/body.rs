//! Writes a pack's body section by section while hashing its chunks; the head comes last, in front.

use super::Error;
use cloister_engine::pack::format::{CHUNK_BYTES, PAGE_BYTES};
use cloister_engine::pack::write::Plan;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A pack that is being written beside its final place.
pub(super) struct Body<'f> {
    file: File,
    partial: PathBuf,
    out: PathBuf,
    hasher: Sha256,
    /// Bytes hashed of the current chunk.
    filled: usize,
    digests: Vec<[u8; 32]>,
    written: u64,
    total: u64,
    progress: &'f mut dyn FnMut(u64, u64),
}

impl<'f> Body<'f> {
    /// Begins a file, leaving room for the head.
    pub(super) fn create(
        out: &Path,
        head_bytes: usize,
        total: u64,
        progress: &'f mut dyn FnMut(u64, u64),
    ) -> Result<Self, Error> {
        let partial = out.with_extension("partial");
        let create = || {
            let mut file = File::create(&partial)?;
            file.seek(SeekFrom::Start(head_bytes as u64))?;
            Ok(file)
        };
        let file = create().map_err(|source| Error::Write {
            path: partial.clone(),
            source,
        })?;
        Ok(Self {
            file,
            partial,
            out: out.to_owned(),
            hasher: Sha256::new(),
            filled: 0,
            digests: Vec::new(),
            written: head_bytes as u64,
            total,
            progress,
        })
    }

    /// Appends a section and zeros up to the next page.
    pub(super) fn section(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let padding = bytes.len().next_multiple_of(PAGE_BYTES) - bytes.len();
        self.append(bytes)
            .and_then(|()| self.append(&[0; PAGE_BYTES][..padding]))
            .map_err(|error| self.failed(error))
    }

    /// Writes the head and moves the file to its place. Returns the head.
    pub(super) fn finish(mut self, plan: &Plan) -> Result<Vec<u8>, Error> {
        if self.filled > 0 {
            self.end_chunk();
        }
        let head = plan.head(&self.digests)?;
        let mut write = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&head)?;
            self.file.sync_all()?;
            fs::rename(&self.partial, &self.out)
        };
        write().map_err(|error| self.failed(error))?;
        (self.progress)(self.total, self.total);
        Ok(head)
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.filled));
            self.hasher.update(now);
            self.file.write_all(now)?;
            self.filled += now.len();
            self.written += now.len() as u64;
            if self.filled == CHUNK_BYTES {
                self.end_chunk();
                (self.progress)(self.written, self.total);
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        self.digests.push(self.hasher.finalize_reset().into());
        self.filled = 0;
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.partial.clone(),
            source,
        }
    }
}
