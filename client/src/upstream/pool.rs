//! Connections to one server, each used by one request at a time and kept for the next one.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::origin::{DialError, Origin, Wire};
use crate::serving::reply::Content;
use crate::tls::{Authorities, AuthoritiesError, HandshakeError, KeyDigest};

/// How long a connection may take to become free after its answer has ended.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);
/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The most header fields of an answer.
const MAX_HEADERS: usize = 64;

/// What a pool puts up with.
#[derive(Clone, Debug)]
pub(crate) struct PoolLimits {
    /// The most requests at once, and so the most connections.
    pub(crate) requests: usize,
    /// How long a request may wait for one of them.
    pub(crate) queue_timeout: Duration,
    /// How long a connection may take to be made.
    pub(crate) connect_timeout: Duration,
    /// How long it may take until an answer's head is there.
    pub(crate) answer_timeout: Duration,
    /// How long a connection is kept for the next request: less than the server keeps it.
    pub(crate) idle_timeout: Duration,
}

/// What a pool tells while it works.
pub(crate) trait PoolNews: Send + Sync {
    /// A connection was made.
    fn connected(&self) {}
    /// A request goes over a connection that was there.
    fn reused(&self) {}
    /// That connection had ended: not a byte of the request was sent over it.
    fn unsent(&self) {}
}

impl PoolNews for () {}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("too many requests are under way; none of them ended within {} s", .0.as_secs())]
    Busy(Duration),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("it took no connection within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    #[error("it did not answer within {} s", .0.as_secs())]
    AnswerTimeout(Duration),
    #[error("the connection to it ended before its answer, or the answer is not HTTP: {0}")]
    Broken(String),
}

impl UpstreamError {
    /// The key that the server has shown, where that is not the one that it had to show. Nothing was sent then.
    pub(crate) fn other_key(&self) -> Option<KeyDigest> {
        match self {
            Self::Dial(DialError::Handshake(HandshakeError::OtherKey(shown))) => Some(*shown),
            _ => None,
        }
    }
}

/// The connections.
pub(crate) struct Pool {
    origin: Origin,
    /// Who vouches for it, if it is no guest and speaks TLS.
    authorities: Option<Arc<ClientConfig>>,
    limits: PoolLimits,
    free: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// Connections without a request, the one that was used last at the end.
#[derive(Default)]
struct Idle(Mutex<Vec<(Connection, Instant)>>);

impl Idle {
    fn put(&self, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, _)| !connection.sender.is_closed());
        idle.push((connection, Instant::now()));
    }

    /// Those that are too old, or have another key than they should by now, are closed.
    fn take(&self, longest: Duration, key: Option<KeyDigest>) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| {
            !connection.sender.is_closed() && since.elapsed() < longest && connection.has(key)
        });
        idle.pop().map(|(connection, _)| connection)
    }
}

/// Closed when it is dropped, whatever is under way.
struct Connection {
    sender: SendRequest<Content>,
    wire: Wire,
    task: AbortHandle,
    /// The server's, if it is a guest with TLS.
    key: Option<KeyDigest>,
}

impl Connection {
    /// Whether requests for a server with this key, if there has to be one, may go over it.
    fn has(&self, expected: Option<KeyDigest>) -> bool {
        expected.is_none() || self.key.is_none() || self.key == expected
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection whose answer is being read. Dropped, it closes the connection.
pub(crate) struct Lease {
    connection: Connection,
    idle: Arc<Idle>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The answer was read to its end: the connection is free for the next request.
    pub(crate) fn give_back(self) {
        self.idle.put(self.connection);
    }
}

impl Pool {
    /// To a guest: with TLS, it is known by its key.
    pub(crate) fn new(origin: Origin, limits: PoolLimits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.requests)),
            origin,
            authorities: None,
            limits,
            idle: Arc::default(),
        }
    }

    /// The same to a server that is no guest: with TLS, these have to vouch for it, and no key is asked for.
    pub(crate) fn vouched_by(
        mut self,
        authorities: &Authorities,
    ) -> Result<Self, AuthoritiesError> {
        if self.origin.is_tls() {
            self.authorities = Some(authorities.client_config()?);
        }
        Ok(self)
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Sends a request whose target is in origin form, and gives the answer once its head is there. The request is tried
    /// again on another connection only where not a byte of it was sent. With TLS it goes to a guest with this `key`, or with
    /// any where there is none.
    pub(crate) async fn send(
        &self,
        mut request: Request<Content>,
        key: Option<KeyDigest>,
        news: &dyn PoolNews,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let wait = self.limits.queue_timeout;
        let permit = timeout(wait, Arc::clone(&self.free).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(UpstreamError::Busy(wait));
        };
        loop {
            let (mut connection, is_fresh) = match self.settled(key).await {
                Some(connection) => (connection, false),
                None => (self.connect(key).await?, true),
            };
            match is_fresh {
                true => news.connected(),
                false => news.reused(),
            }
            let answer = connection.sender.try_send_request(request);
            let longest = self.limits.answer_timeout;
            match timeout(longest, answer).await {
                Ok(Ok(response)) => {
                    let idle = Arc::clone(&self.idle);
                    let lease = Lease {
                        connection,
                        idle,
                        _permit: permit,
                    };
                    return Ok((response, lease));
                }
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) if !is_fresh => {
                        news.unsent();
                        request = unsent;
                    }
                    _ => return Err(UpstreamError::Broken(reason(error.error()))),
                },
                Err(_) => return Err(UpstreamError::AnswerTimeout(longest)),
            }
        }
    }

    /// A connection that is there and free.
    async fn settled(&self, key: Option<KeyDigest>) -> Option<Connection> {
        loop {
            let mut connection = self.idle.take(self.limits.idle_timeout, key)?;
            // Its task may not have run since the answer ended.
            let ready = timeout(SETTLE_TIMEOUT, connection.sender.ready()).await;
            // Nor may it have heard that the server closed: a request sent now would be lost.
            if matches!(ready, Ok(Ok(()))) && connection.wire.is_quiet() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self, key: Option<KeyDigest>) -> Result<Connection, UpstreamError> {
        let longest = self.limits.connect_timeout;
        let dialing = self.origin.dial(self.authorities.as_ref(), key);
        let dialed = match timeout(longest, dialing).await {
            Ok(dialed) => dialed?,
            Err(_) => return Err(UpstreamError::ConnectTimeout(longest)),
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| UpstreamError::Broken(reason(&error)))?;
        // Its errors are those of its request.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection {
            sender,
            wire: dialed.wire,
            task: task.abort_handle(),
            key: dialed.key,
        })
    }
}

/// An error with what lies below it.
fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text += ": ";
        text += &error.to_string();
        below = error.source();
    }
    text
}
