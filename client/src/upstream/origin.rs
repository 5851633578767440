//! Where the other server is, and the way there.

use std::fmt;
use std::io;
use std::str::FromStr;

use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The address of a server: `http://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Option<String>,
}

/// Why it is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not an address for this: {reason}; expected http://HOST[:PORT][/PATH]")]
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

    /// Opens a connection. This is where a scheme with TLS would do its handshake.
    pub(super) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
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
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong(
                    "TLS is not spoken here; what passes is sealed end to end by HPKE",
                ));
            }
            _ => return Err(wrong("the scheme is missing")),
        }
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
            // Brackets are for addresses; a resolver wants none.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
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
        write!(f, "http://{authority}{path}")
    }
}
