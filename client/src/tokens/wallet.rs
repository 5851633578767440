//! Unspent tokens in a file. A token is out of the file, and that is on the disk, before it is given to anyone: whatever
//! happens then, no token is sent twice.
//!
//! The file is written whole and put in place of the old one, with mode 0600, under a lock on `FILE.lock`, so that several
//! programs can share it. Whoever can read it can spend the tokens.

use base64ct::{Base64Url, Encoding};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cloister_tokens::{DIGEST_BYTES, Token};

/// The most tokens in a wallet; the oldest are forgotten for more.
const MAX_TOKENS: usize = 4096;
/// The most bytes of the file.
const MAX_BYTES: u64 = 8 << 20;
/// The longest address of a server in it, in bytes.
const MAX_SERVER_BYTES: usize = 1024;

/// Tokens in a file, which need not be there yet.
#[derive(Clone, Debug)]
pub struct Wallet {
    path: PathBuf,
}

/// Why the wallet cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It is no wallet. It is left as it is.
    #[error("{path} is no wallet of tokens: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others than its owner can read or write it.
    #[error("{path}: others can read or write these tokens; chmod 600 it")]
    Permissions {
        /// The file.
        path: PathBuf,
    },
}

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// In the order in which they came.
    tokens: Vec<Held>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    /// The server that asked for it.
    server: String,
    /// Unix time in seconds after which it is not taken any more.
    expires_s: u64,
    /// The token, base64url.
    token: String,
}

impl Held {
    fn token(&self) -> Option<Token> {
        Token::decode(&Base64Url::decode_vec(&self.token).ok()?)
    }
}

impl Wallet {
    /// The wallet in this file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the newest token that this server asked for. It is no longer in the file then.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn take(&self, server: &str, now_s: u64) -> Result<Option<Token>, WalletError> {
        self.take_where(now_s, |held, _| held.server == server)
    }

    /// Takes a token that answers this challenge, whoever asked for it. It is no longer in the file then.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn take_for(
        &self,
        challenge_digest: &[u8; DIGEST_BYTES],
        now_s: u64,
    ) -> Result<Option<Token>, WalletError> {
        self.take_where(now_s, |_, token| {
            token.challenge_digest == *challenge_digest
        })
    }

    /// Adds tokens that a server asked for and takes until `expires_s` (Unix time).
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn put(&self, server: &str, expires_s: u64, tokens: &[Token]) -> Result<(), WalletError> {
        if server.len() > MAX_SERVER_BYTES {
            return Err(self.format("the address of the server is too long"));
        }
        self.change(|document| {
            document.tokens.extend(tokens.iter().map(|token| Held {
                server: server.to_owned(),
                expires_s,
                token: Base64Url::encode_string(&token.encode()),
            }));
            let excess = document.tokens.len().saturating_sub(MAX_TOKENS);
            document.tokens.drain(..excess);
            true
        })
    }

    /// Forgets the tokens for a challenge, which nobody takes any more.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn forget(&self, challenge_digest: &[u8; DIGEST_BYTES]) -> Result<(), WalletError> {
        self.change(|document| {
            let before = document.tokens.len();
            let is_other = |token: Token| token.challenge_digest != *challenge_digest;
            document
                .tokens
                .retain(|held| held.token().is_some_and(is_other));
            document.tokens.len() < before
        })
    }

    /// Tokens that are still good.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn count(&self, now_s: u64) -> Result<usize, WalletError> {
        let _lock = self.lock()?;
        let good = |held: &&Held| held.expires_s > now_s;
        Ok(self.read()?.tokens.iter().filter(good).count())
    }

    /// Tokens for a challenge that are still good.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn count_for(
        &self,
        challenge_digest: &[u8; DIGEST_BYTES],
        now_s: u64,
    ) -> Result<usize, WalletError> {
        let _lock = self.lock()?;
        let tokens = self.read()?.tokens.into_iter();
        let good = tokens.filter(|held| held.expires_s > now_s);
        let good = good.filter_map(|held| held.token());
        Ok(good
            .filter(|token| token.challenge_digest == *challenge_digest)
            .count())
    }

    fn take_where(
        &self,
        now_s: u64,
        wanted: impl Fn(&Held, &Token) -> bool,
    ) -> Result<Option<Token>, WalletError> {
        let mut taken = None;
        self.change(|document| {
            let before = document.tokens.len();
            document.tokens.retain(|held| held.expires_s > now_s);
            let found = document.tokens.iter().rposition(|held| {
                let token = held.token();
                let is_wanted = token.as_ref().is_some_and(|token| wanted(held, token));
                if is_wanted {
                    taken = token;
                }
                is_wanted
            });
            if let Some(at) = found {
                document.tokens.remove(at);
            }
            document.tokens.len() < before
        })?;
        Ok(taken)
    }

    /// Reads, changes and writes the file, unless nothing was changed, while nobody else does.
    fn change(&self, change: impl FnOnce(&mut Document) -> bool) -> Result<(), WalletError> {
        let _lock = self.lock()?;
        let mut document = self.read()?;
        match change(&mut document) {
            true => self.write(&document),
            false => Ok(()),
        }
    }

    fn lock(&self) -> Result<Lock, WalletError> {
        let path = self.beside(".lock");
        let lock = || {
            let file = owned()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock()?;
            Ok(Lock(file))
        };
        lock().map_err(|source| WalletError::Io { path, source })
    }

    fn read(&self) -> Result<Document, WalletError> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            file => file.map_err(self.io())?,
        };
        let about = file.metadata().map_err(self.io())?;
        if about.mode() & 0o077 != 0 {
            return Err(WalletError::Permissions {
                path: self.path.clone(),
            });
        }
        let mut bytes = Vec::new();
        let mut limited = file.take(MAX_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(self.io())?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(self.format("it has too many bytes"));
        }
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| self.format(&format!("{error}")))?;
        match document.tokens.iter().all(|held| held.token().is_some()) {
            true => Ok(document),
            false => Err(self.format("one of its tokens is none")),
        }
    }

    /// After a crash the file has the old content or this one, and this one once it is on the disk.
    fn write(&self, document: &Document) -> Result<(), WalletError> {
        let bytes =
            serde_json::to_vec(document).expect("strings and numbers always have a JSON form");
        let temporary = self.beside(".tmp");
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let write = || {
            // One that a crash left has the mode that it had.
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = owned().create_new(true).write(true).open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(self.io())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    fn io(&self) -> impl Fn(io::Error) -> WalletError {
        |source| WalletError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn format(&self, reason: &str) -> WalletError {
        WalletError::Format {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

/// Files that only their owner can read.
fn owned() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough where another process is being started. Where this fails, it is what is left.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests;
