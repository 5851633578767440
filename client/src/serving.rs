//! What every server of this crate shares: connections with limits, replies, and an end that lets requests end first.

mod identity;
mod listen;
pub(crate) mod reply;
mod stall;
mod stop;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use identity::{TlsIdentity, TlsIdentityError};
pub use listen::Listener;
pub(crate) use listen::{ListenError, listen, say};
use stall::Stalling;
pub use stop::Stop;
pub(crate) use stop::{one_thread, threads};

/// After the system had no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server puts up with.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most connections at once; others wait to be accepted.
    pub(crate) connections: usize,
    /// The most bytes of a request's head; more is answered 431.
    pub(crate) head_bytes: usize,
    /// The most header fields of a request; more is answered 431.
    pub(crate) headers: usize,
    /// How long a TLS handshake may take, and a request's head, which is also how long a connection may be idle.
    pub(crate) head_timeout: Duration,
    /// How long a client may take nothing of an answer that is there.
    pub(crate) write_timeout: Duration,
    /// How long a connection may last; without it, as long as its requests do.
    pub(crate) connection_timeout: Option<Duration>,
    /// How long requests that have begun may take once the server is asked to stop.
    pub(crate) stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 << 10,
            headers: 64,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            connection_timeout: None,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// What answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// The content of answers.
    type Content: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Held as long as a connection is open.
    type Connection: Send + 'static;

    /// A connection begins; without anything to hold it is closed at once.
    fn opened(self: &Arc<Self>, client: SocketAddr) -> Option<Self::Connection>;

    /// Answers one request. Dropped in the middle when the client leaves.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> impl Future<Output = Response<Self::Content>> + Send;
}

/// Serves until it is time to stop; then takes no more connections, and waits for requests that have begun.
///
/// # Errors
/// Where the listener cannot be used.
pub(crate) async fn serve<S: Service>(
    listener: Listener,
    service: Arc<S>,
    limits: &Limits,
    stop: &Stop,
) -> io::Result<()> {
    let Listener { socket, identity } = listener;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let free = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, socket.accept().await)
        };
        tokio::select! {
            () = stop.stopped() => break,
            next = next => match next {
                (Ok(permit), Ok((stream, client))) => {
                    if let Some(held) = service.opened(client) {
                        let connection = Connection {
                            client,
                            service: Arc::clone(&service),
                            limits: limits.clone(),
                            watcher: graceful.watcher(),
                            _held: (held, permit),
                        };
                        tokio::spawn(connection.run(stream, identity.clone(), stop.clone()));
                    }
                }
                // The client was gone before, or there are too many files open.
                _ => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(socket);
    // What takes longer is cut off.
    let _ = timeout(limits.stop_timeout, graceful.shutdown()).await;
    Ok(())
}

/// A client's, from its beginning to its end.
struct Connection<S: Service> {
    client: SocketAddr,
    service: Arc<S>,
    limits: Limits,
    watcher: Watcher,
    _held: (S::Connection, OwnedSemaphorePermit),
}

impl<S: Service> Connection<S> {
    async fn run(self, stream: TcpStream, identity: Option<TlsIdentity>, stop: Stop) {
        // Small answers in several writes would wait for each other's acknowledgement. It is only slower where it fails.
        let _ = stream.set_nodelay(true);
        let longest = self.limits.connection_timeout;
        let served = async move {
            let Some(identity) = identity else {
                let stream = Stalling::new(stream, self.limits.write_timeout);
                return self.answer(stream).await;
            };
            // Nothing has been asked before there is an inside.
            let stream = tokio::select! {
                () = stop.stopped() => None,
                stream = identity.accept(stream, &self.limits) => stream,
            };
            if let Some(stream) = stream {
                self.answer(stream).await;
            }
        };
        // A client that breaks off or is too slow is its own affair.
        match longest {
            Some(longest) => drop(timeout(longest, served).await),
            None => served.await,
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let (service, client) = (self.service, self.client);
        let answers = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(service.answer(request, client).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.head_bytes)
            .max_headers(self.limits.headers)
            .serve_connection(TokioIo::new(stream), answers);
        // Its errors are the client's affair too.
        drop(self.watcher.watch(connection).await);
    }
}

#[cfg(test)]
mod tests;
