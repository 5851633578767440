//! Keys and their passphrases as arguments name them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cloister_transparency::VerifierKey;
use cloister_transparency::key_file::{self, KeyFileError};
use zeroize::Zeroizing;

/// Largest file that is read; policies and passphrases are far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why an argument is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyArgumentError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is too large for a key or a policy.
    #[error("{0}: over {MAX_FILE_BYTES} bytes")]
    TooLarge(PathBuf),
    /// A file has no passphrase.
    #[error("{0}: the first line is no passphrase")]
    Passphrase(PathBuf),
}

/// A verifier key: its text, or the file that it is in.
pub(crate) fn parse(text: &str) -> Result<VerifierKey, String> {
    if text.ends_with(".vkey") && !text.contains('+') {
        let key = key_file::load_verifier(Path::new(text));
        return key.map_err(|error: KeyFileError| error.to_string());
    }
    VerifierKey::parse(text).map_err(|error| error.to_string())
}

/// The first line of a file.
pub(crate) fn read_passphrase(
    path: Option<&Path>,
) -> Result<Option<Zeroizing<String>>, KeyArgumentError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(read(path)?);
    let line = bytes.split(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let line = line.filter(|line| !line.is_empty());
    let line = line.ok_or_else(|| KeyArgumentError::Passphrase(path.into()))?;
    Ok(Some(Zeroizing::new(line.to_owned())))
}

/// Reads a file of a sensible size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, KeyArgumentError> {
    let io = |source| KeyArgumentError::Io {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len().min(MAX_FILE_BYTES);
    // One allocation: what grows would leave copies behind.
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(KeyArgumentError::TooLarge(path.into()));
    }
    Ok(bytes)
}
