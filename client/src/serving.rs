//! What every server of this crate shares: connections with limits, replies, and an end that lets requests end first.

mod listen;
pub(crate) mod reply;
mod stall;
mod stop;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

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
    /// How long a request's head may take, which is also how long a connection may be idle.
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
    listener: TcpListener,
    service: Arc<S>,
    limits: &Limits,
    stop: &Stop,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = stop.stopped() => break,
            next = next => match next {
                (Ok(permit), Ok((stream, client))) => {
                    if let Some(held) = service.opened(client) {
                        connect(stream, client, &service, (held, permit), limits, &graceful);
                    }
                }
                // The client was gone before, or there are too many files open.
                _ => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    // What takes longer is cut off.
    let _ = timeout(limits.stop_timeout, graceful.shutdown()).await;
    Ok(())
}

fn connect<S: Service>(
    stream: TcpStream,
    client: SocketAddr,
    service: &Arc<S>,
    held: (S::Connection, OwnedSemaphorePermit),
    limits: &Limits,
    graceful: &GracefulShutdown,
) {
    // Small answers in several writes would wait for each other's acknowledgement. It is only slower where it fails.
    let _ = stream.set_nodelay(true);
    let service = Arc::clone(service);
    let answers = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request, client).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers)
        .serve_connection(
            TokioIo::new(Stalling::new(stream, limits.write_timeout)),
            answers,
        );
    let connection = graceful.watch(connection);
    let longest = limits.connection_timeout;
    tokio::spawn(async move {
        // A client that breaks off or is too slow is its own affair.
        match longest {
            Some(longest) => drop(timeout(longest, connection).await),
            None => drop(connection.await),
        }
        drop(held);
    });
}

#[cfg(test)]
mod tests;
