//! The keys of a deployment in one folder: `ROLE.key`, or `ROLE.command` where something else holds the key and signs.
//!
//! `ROLE.key` is a private key with mode 0600, with or without a passphrase. `ROLE.command` is one line for a shell: it
//! gets what is to be signed on standard input and writes the Ed25519 signature, so that a security module can hold the
//! key. Beside either, with `.vkey` after its name, is the verifier key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cloister_transparency::command_signer::CommandSigner;
use cloister_transparency::key_file::{self, KeyFileError};
use cloister_transparency::log::LogSigner;
use cloister_transparency::{KeyType, VerifierKey};

/// Who signs releases.
pub const RELEASE: &str = "release";
/// Who signs the log's checkpoints.
pub const LOG: &str = "log";

/// Longest command of a signer, in bytes.
const MAX_COMMAND_BYTES: u64 = 4096;

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither a key nor a command is there.
    #[error(
        "{folder}: there is no {role}.key and no {role}.command; make keys with: cargo xtask log init --keys {folder}"
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// Whose key.
        role: String,
    },
    /// The key's file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The command is empty, too long, or more than a line.
    #[error("{path}: expected one line of at most {MAX_COMMAND_BYTES} bytes, a command for sh")]
    Command {
        /// Which file.
        path: PathBuf,
    },
}

/// A folder with keys, and the passphrase of those that have one.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    folder: PathBuf,
    passphrase: Option<zeroize::Zeroizing<String>>,
}

impl KeyFolder {
    /// A folder, which need not be there yet.
    pub fn new(folder: &Path, passphrase: Option<zeroize::Zeroizing<String>>) -> Self {
        Self {
            folder: folder.to_owned(),
            passphrase,
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a key of this role is in the folder itself.
    pub fn has_key(&self, role: &str) -> bool {
        self.key_path(role).is_file()
    }

    fn key_path(&self, role: &str) -> PathBuf {
        self.folder.join(format!("{role}.key"))
    }

    fn command_path(&self, role: &str) -> PathBuf {
        self.folder.join(format!("{role}.command"))
    }

    /// Makes a key if the role has none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn generate(
        &self,
        role: &str,
        name: &str,
        key_type: KeyType,
    ) -> Result<VerifierKey, KeyError> {
        if self.has_key(role) || self.command_path(role).is_file() {
            return self.verifier(role);
        }
        let passphrase = self.passphrase.as_ref().map(|text| text.as_str());
        Ok(key_file::generate(
            &self.key_path(role),
            name,
            key_type,
            passphrase,
        )?)
    }

    /// The verifier key of a role.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn verifier(&self, role: &str) -> Result<VerifierKey, KeyError> {
        let there = [self.key_path(role), self.command_path(role)]
            .into_iter()
            .find(|path| path.is_file());
        let path = there.ok_or_else(|| self.missing(role))?;
        Ok(key_file::load_verifier(&path)?)
    }

    /// Who signs for a role.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn signer(&self, role: &str) -> Result<Box<dyn LogSigner>, KeyError> {
        if self.has_key(role) {
            return Ok(Box::new(self.signing_key(role)?));
        }
        let path = self.command_path(role);
        if !path.is_file() {
            return Err(self.missing(role));
        }
        let command = read_command(&path)?;
        let verifier = key_file::load_verifier(&path)?;
        Ok(Box::new(CommandSigner::new(verifier, &command)))
    }

    /// The key of a role that is in the folder.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn signing_key(&self, role: &str) -> Result<cloister_transparency::SigningKey, KeyError> {
        let passphrase = self.passphrase.as_ref().map(|text| text.as_str());
        Ok(key_file::load(&self.key_path(role), passphrase)?)
    }

    fn missing(&self, role: &str) -> KeyError {
        KeyError::Missing {
            folder: self.folder.clone(),
            role: role.to_owned(),
        }
    }
}

fn read_command(path: &Path) -> Result<String, KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let unfit = || KeyError::Command {
        path: path.to_owned(),
    };
    if fs::metadata(path).map_err(io)?.len() > MAX_COMMAND_BYTES {
        return Err(unfit());
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let command = text.trim();
    match command.is_empty() || command.contains('\n') {
        true => Err(unfit()),
        false => Ok(command.to_owned()),
    }
}
