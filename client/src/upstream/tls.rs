//! The handshake with a server, for connections that do not block.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{HandshakeError, KeyDigest, ShownKey, client_config, guest_name, host_name};

/// TLS 1.3 over `stream` to a guest, and its key: the one with the digest `expected`, or any where there is none.
///
/// # Errors
/// [`HandshakeError`].
pub(super) async fn with_guest(
    stream: TcpStream,
    expected: Option<KeyDigest>,
) -> Result<(TlsStream<TcpStream>, KeyDigest), HandshakeError> {
    let shown = ShownKey::expecting(expected);
    let other = |error: Error| HandshakeError::Failed(io::Error::other(error));
    let config = client_config(shown.clone()).map_err(other)?;
    let name = guest_name().map_err(HandshakeError::Failed)?;
    let connector = TlsConnector::from(Arc::new(config));
    match connector.connect(name, stream).await {
        Ok(stream) => match shown.first() {
            Some(key) => Ok((stream, KeyDigest::of(&key))),
            // A handshake without a certificate: we offer none.
            None => Err(other(Error::NoCertificatesPresented)),
        },
        Err(error) => Err(shown
            .refused()
            .map_or_else(|| error.into(), HandshakeError::OtherKey)),
    }
}

/// TLS 1.3 over `stream` to a server of this name that the authorities in `config` vouch for.
///
/// # Errors
/// [`HandshakeError`].
pub(super) async fn with_host(
    stream: TcpStream,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, HandshakeError> {
    let name = host_name(host).map_err(HandshakeError::Failed)?;
    let connector = TlsConnector::from(Arc::clone(config));
    Ok(connector.connect(name, stream).await?)
}
