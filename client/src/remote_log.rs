//! A transparency log, wherever it is: in a folder, or behind a web server that serves such a folder.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use cloister_transparency::files::{Disk, FileError, Operation, ReadFiles};
use cloister_transparency::log::LogReader;
use cloister_transparency::tiles::TILE_BYTES;

use crate::tls::Authorities;
use crate::transport::{self, Transport, TransportError};

/// The most tiles of one log that are kept in memory: 32 MiB.
const MAX_CACHED_TILES: usize = (32 << 20) / TILE_BYTES;

/// How long one file of a log may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLocation {
    /// A folder.
    Directory(PathBuf),
    /// Behind a web server.
    Http {
        /// The prefix of its URLs: `http://HOST[:PORT][/PATH]`, or the same with `https`.
        url: String,
        /// Who has to vouch for a server with `https`.
        authorities: Authorities,
    },
}

impl LogLocation {
    /// The same, where these authorities have to vouch for a server with `https`.
    #[must_use]
    pub fn vouched_by(mut self, given: &Authorities) -> Self {
        if let Self::Http { authorities, .. } = &mut self {
            authorities.clone_from(given);
        }
        self
    }
}

impl FromStr for LogLocation {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, TransportError> {
        let wrong = |reason: &str| TransportError::Url {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        match text.split_once("://") {
            Some(("http" | "https", _)) => {
                transport::check(text)?;
                Ok(Self::Http {
                    url: text.trim_end_matches('/').to_owned(),
                    authorities: Authorities::default(),
                })
            }
            Some(_) => Err(wrong("a log is in a folder or behind http or https")),
            None if text.is_empty() => Err(wrong("it is empty")),
            None => Ok(Self::Directory(text.into())),
        }
    }
}

impl fmt::Display for LogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(folder) => write!(f, "{}", folder.display()),
            Self::Http { url, .. } => f.write_str(url),
        }
    }
}

/// A log that can be read.
#[derive(Debug)]
pub struct LogSource {
    files: LogFiles,
    folder: PathBuf,
}

impl LogSource {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// [`TransportError::Url`], [`TransportError::Authorities`].
    pub fn new(location: &LogLocation) -> Result<Self, TransportError> {
        Self::with_timeout(location, REQUEST_TIMEOUT)
    }

    /// The same with another time limit for each request than [`REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// [`TransportError::Url`], [`TransportError::Authorities`].
    pub fn with_timeout(location: &LogLocation, timeout: Duration) -> Result<Self, TransportError> {
        Ok(match location {
            LogLocation::Directory(folder) => Self {
                files: LogFiles::Disk(Disk),
                folder: folder.clone(),
            },
            LogLocation::Http { url, authorities } => Self {
                files: LogFiles::Http(Box::new(HttpFiles {
                    transport: Transport::new(url, timeout, authorities)?,
                    tiles: Mutex::default(),
                })),
                folder: PathBuf::new(),
            },
        })
    }

    /// Reads it.
    pub fn reader(&self) -> LogReader<'_, LogFiles> {
        LogReader::new_in(&self.files, &self.folder)
    }
}

/// Where a log's files come from.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogFiles {
    /// The file system.
    Disk(Disk),
    /// A web server.
    Http(Box<HttpFiles>),
}

impl ReadFiles for LogFiles {
    fn read(&self, path: &Path, most_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
        match self {
            Self::Disk(disk) => disk.read(path, most_bytes),
            Self::Http(http) => http.read(path, most_bytes),
        }
    }
}

/// Files below a URL. Full tiles of hashes, which never change, are kept in memory.
pub struct HttpFiles {
    transport: Transport,
    tiles: Mutex<HashMap<String, Vec<u8>>>,
}

impl fmt::Debug for HttpFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpFiles")
            .field(&self.transport.base())
            .finish()
    }
}

impl ReadFiles for HttpFiles {
    fn read(&self, path: &Path, most_bytes: usize) -> Result<Option<Vec<u8>>, FileError> {
        let path = path.to_string_lossy();
        let cached = is_full_tile(&path);
        if let Some(tile) = self.cached(&path).filter(|_| cached) {
            return Ok(Some(tile));
        }
        let failed = |reason: String| FileError {
            operation: Operation::Read,
            path: format!("{}/{path}", self.transport.base()).into(),
            kind: io::ErrorKind::Other,
            reason: Some(reason),
        };
        let answer = self
            .transport
            .get_within(&format!("/{path}"), most_bytes as u64);
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(failed(format!("the server answered {status}"))),
        }
        if cached {
            self.keep(&path, &answer.body);
        }
        Ok(Some(answer.body))
    }
}

impl HttpFiles {
    fn cached(&self, path: &str) -> Option<Vec<u8>> {
        self.tiles.lock().ok()?.get(path).cloned()
    }

    fn keep(&self, path: &str, tile: &[u8]) {
        let Ok(mut tiles) = self.tiles.lock() else {
            return;
        };
        if tiles.len() >= MAX_CACHED_TILES {
            tiles.clear();
        }
        if tile.len() == TILE_BYTES {
            tiles.insert(path.to_owned(), tile.to_owned());
        }
    }
}

/// Whether a path is that of a tile of hashes that will grow no more; bundles are large, and each is read once.
fn is_full_tile(path: &str) -> bool {
    path.starts_with("tile/") && !path.starts_with("tile/entries/") && !path.contains(".p/")
}
