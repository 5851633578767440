//! The listener of a command that serves, and what such a command says.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};

use serde_json::json;

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
