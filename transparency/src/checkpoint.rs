//! Checkpoints (C2SP tlog-checkpoint): what a log is at a size, as a signed note.

use crate::decimal;
use crate::key::VerifierKey;
use crate::merkle::Hash;
use crate::note::{Note, NoteError, Signature};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

#[cfg(test)]
mod tests;

/// The most bytes of an origin line.
pub const MAX_ORIGIN_BYTES: usize = 255;

/// The most extension lines.
pub const MAX_EXTENSION_LINES: usize = 16;

/// Why a text is not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is not even a signed note.
    Note(NoteError),
    /// There are fewer than three lines, or an empty one.
    Format,
    /// The origin is longer than the limit.
    OriginTooLong {
        /// Bytes of the origin.
        bytes: usize,
    },
    /// The size is not a number without leading zeroes, or is above the limit.
    Size,
    /// The root hash is not 32 bytes in canonical base 64.
    Root,
    /// There are more extension lines than the limit.
    TooManyExtensions,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(error) => write!(f, "{error}"),
            Self::Format => write!(
                f,
                "a checkpoint is an origin, a size and a root, each a line"
            ),
            Self::OriginTooLong { bytes } => {
                write!(f, "an origin of {bytes} bytes is over {MAX_ORIGIN_BYTES}")
            }
            Self::Size => write!(f, "the size is not a decimal number below 2^63"),
            Self::Root => write!(f, "the root is not base 64 of 32 bytes"),
            Self::TooManyExtensions => write!(f, "over {MAX_EXTENSION_LINES} extension lines"),
        }
    }
}

impl core::error::Error for CheckpointError {}

impl From<NoteError> for CheckpointError {
    fn from(error: NoteError) -> Self {
        Self::Note(error)
    }
}

/// A log's tree at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Leaves of the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// Lines of the log's own, without newlines. Witnesses sign them and say nothing about them.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// Without extension lines.
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self {
            origin: origin.into(),
            size,
            root,
            extensions: Vec::new(),
        }
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Format)?;
        let mut lines = lines.split('\n');
        let mut line = || {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or(CheckpointError::Format)
        };
        let (origin, size, root) = (line()?, line()?, line()?);
        if origin.len() > MAX_ORIGIN_BYTES {
            return Err(CheckpointError::OriginTooLong {
                bytes: origin.len(),
            });
        }
        let mut extensions = Vec::new();
        for line in lines {
            if line.is_empty() {
                return Err(CheckpointError::Format);
            }
            if extensions.len() == MAX_EXTENSION_LINES {
                return Err(CheckpointError::TooManyExtensions);
            }
            extensions.push(line.into());
        }
        Ok(Self {
            origin: origin.into(),
            size: decimal::parse(size).ok_or(CheckpointError::Size)?,
            root: Hash::from_base64(root).ok_or(CheckpointError::Root)?,
            extensions,
        })
    }
}

/// The text that is signed, with its last newline.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)?;
        self.extensions
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A checkpoint and the note that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a signed note that is a checkpoint. What is read is written by `to_string` byte for byte.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self { checkpoint, note })
    }

    /// A checkpoint without signatures yet.
    ///
    /// # Errors
    /// [`CheckpointError`] where its fields do not make a checkpoint.
    pub fn unsigned(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let note = Note::new(&alloc::format!("{checkpoint}"))?;
        let read = Checkpoint::parse(note.text())?;
        // A newline in a field would make a line of its own.
        if read != *checkpoint {
            return Err(CheckpointError::Format);
        }
        Ok(Self {
            checkpoint: read,
            note,
        })
    }

    /// The checkpoint. It says nothing until [`Self::verify_log`] holds.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The note, to add signatures to.
    pub fn note_mut(&mut self) -> &mut Note {
        &mut self.note
    }

    /// The same checkpoint with other signatures, as many as a note can have.
    pub(crate) fn with_signatures(&self, signatures: Vec<Signature>) -> Self {
        let note = self.note.with_signatures(signatures);
        Self {
            checkpoint: self.checkpoint.clone(),
            note,
        }
    }

    /// Checks that the log signed: one of `keys` at least, and none of them wrongly. A log's key is named as its origin;
    /// keys of other names do not count.
    ///
    /// # Errors
    /// [`NoteError::NoTrustedSignature`] and [`NoteError::InvalidSignature`].
    pub fn verify_log<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<(), NoteError> {
        let named = keys
            .into_iter()
            .filter(|key| key.name() == self.checkpoint.origin);
        self.note.verify(named).map(|_| ())
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}
