//! Where the other server is, and the way there.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::tls;
use crate::tls::{HandshakeError, KeyDigest};

/// The address of a server: `http://HOST[:PORT][/PATH]`, or the same with `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    is_tls: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Option<String>,
}

/// Why it is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{url}` is not an address for this: {reason}; expected http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]"
)]
pub struct OriginError {
    url: String,
    reason: String,
}

impl Origin {
    /// The path, if there is one but `/`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What the field `host` of a request says.
    pub(crate) fn authority(&self) -> HeaderValue {
        self.authority.clone()
    }

    /// Whether TLS is spoken there.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Opens a connection. With TLS the server is one that `authorities` vouch for; where there are none, it has to show
    /// the key with the digest `expected`, or any.
    pub(super) async fn dial(
        &self,
        authorities: Option<&Arc<ClientConfig>>,
        expected: Option<KeyDigest>,
    ) -> Result<Dialed, DialError> {
        let stream = self.connect().await.map_err(DialError::Connect)?;
        let wire = Wire::of(&stream).map_err(DialError::Connect)?;
        let (stream, key): (Box<dyn Stream>, _) = match (self.is_tls, authorities) {
            (false, _) => (Box::new(stream), None),
            (true, Some(config)) => {
                let stream = tls::with_host(stream, &self.host, config).await?;
                (Box::new(stream), None)
            }
            (true, None) => {
                let (stream, key) = tls::with_guest(stream, expected).await?;
                (Box::new(stream), Some(key))
            }
        };
        Ok(Dialed { stream, wire, key })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// An open connection.
pub(super) struct Dialed {
    pub(super) stream: Box<dyn Stream>,
    pub(super) wire: Wire,
    /// The key that the server has; none without TLS, or where authorities vouch for it.
    pub(super) key: Option<KeyDigest>,
}

/// The socket below a connection, to look at and nothing else.
pub(super) struct Wire(std::net::TcpStream);

impl Wire {
    /// Its descriptor is one more for the same socket, which does not block.
    fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(stream.as_fd().try_clone_to_owned()?.into()))
    }

    /// Whether the other side has neither sent a byte that nobody has read yet, nor its end, nor broken the connection.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.0.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("it cannot be reached: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// A connection, of whatever scheme.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(url: &str) -> Result<Self, OriginError> {
        let wrong = |reason: &str| OriginError {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("the scheme is missing")),
        };
        if url.contains(['?', '#', '@']) {
            return Err(wrong("it has a user, a query or a fragment"));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            is_tls,
            // Brackets are for addresses; a resolver wants none.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority)
                .map_err(|_| wrong("its host is no name"))?,
            path: (!path.is_empty()).then(|| uri.path().to_owned()),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority.to_str().unwrap_or_default();
        let path = self.path.as_deref().unwrap_or_default();
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{authority}{path}")
    }
}
