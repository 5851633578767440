//! The listener of a server, and what a command that serves says.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};

use serde_json::json;

use super::identity::TlsIdentity;

/// A socket that takes connections, and what is shown to them where they speak TLS.
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) identity: Option<TlsIdentity>,
}

impl From<TcpListener> for Listener {
    /// For HTTP in the clear.
    fn from(socket: TcpListener) -> Self {
        Self::new(socket, None)
    }
}

impl Listener {
    /// With an identity for TLS 1.3, and for nothing else.
    pub fn new(socket: TcpListener, identity: Option<TlsIdentity>) -> Self {
        Self { socket, identity }
    }
}

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}")]
pub(crate) struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// A listener, and its address: with the port that the system chose, where none was given.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|source| ListenError { address, source })
}

/// Says on standard error what has come to pass: a line of text, or one of JSON. Nobody may be reading; that is no reason to
/// stop.
pub(crate) fn say(command: &str, is_json: bool, event: &str, text: &str) {
    let mut err = io::stderr().lock();
    let _ = match is_json {
        true => writeln!(err, "{}", json!({ "event": event, "message": text })),
        false => writeln!(err, "cloister {command}: {text}"),
    };
}
