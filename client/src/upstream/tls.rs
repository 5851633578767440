//! The handshake with a server, for connections that do not block.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{KeyDigest, ShownKey, client_config, server_name};

/// Why there is no TLS. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it does not speak TLS there: {0}; is its address one with http://?")]
    NotTls(Error),
    #[error("it speaks no TLS 1.3: {0}")]
    Version(Error),
    #[error("the TLS handshake with it failed: {0}")]
    Failed(io::Error),
    #[error("its TLS key is not the expected one, but has the SHA-256 {0}; nothing was sent")]
    OtherKey(KeyDigest),
}

/// TLS 1.3 over `stream`, and the server's key: the one with the digest `expected`, or any where there is none.
///
/// # Errors
/// [`HandshakeError`].
pub(super) async fn handshake(
    stream: TcpStream,
    expected: Option<KeyDigest>,
) -> Result<(TlsStream<TcpStream>, KeyDigest), HandshakeError> {
    let shown = ShownKey::expecting(expected);
    let other = |error: Error| HandshakeError::Failed(io::Error::other(error));
    let config = client_config(shown.clone()).map_err(other)?;
    let name = server_name().map_err(HandshakeError::Failed)?;
    let connector = TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(stream) => match shown.first() {
            Some(key) => Ok((stream, KeyDigest::of(&key))),
            // A handshake without a certificate: we offer none.
            None => Err(other(Error::NoCertificatesPresented)),
        },
        Err(error) => Err(shown
            .refused()
            .map_or_else(|| failure(error), HandshakeError::OtherKey)),
    }
}

fn failure(error: io::Error) -> HandshakeError {
    let below = error
        .get_ref()
        .and_then(|below| below.downcast_ref::<Error>());
    match below.cloned() {
        Some(error @ Error::InvalidMessage(_)) => HandshakeError::NotTls(error),
        Some(
            error @ (Error::PeerIncompatible(_)
            | Error::AlertReceived(AlertDescription::ProtocolVersion)),
        ) => HandshakeError::Version(error),
        _ => HandshakeError::Failed(error),
    }
}
