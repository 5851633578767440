//! What every server of this crate shares: connections with limits, replies, and an end that lets requests end first.

pub(crate) mod reply;
mod stop;

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use reply::Reply;
pub use stop::Stop;
pub(crate) use stop::runtime;

/// After the system had no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server puts up with.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most connections at once; others wait to be accepted.
    pub(crate) connections: usize,
    /// The most bytes of a request's head.
    pub(crate) head_bytes: usize,
    /// The most header fields of a request.
    pub(crate) headers: usize,
    /// How long a request's head may take, which is also how long a connection may be idle.
    pub(crate) head_timeout: Duration,
    /// How long a connection may last.
    pub(crate) connection_timeout: Duration,
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
            connection_timeout: Duration::from_secs(180),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// What answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Serves until it is time to stop; then takes no more connections, and waits for requests that have begun.
///
/// # Errors
/// Where the listener cannot be used.
pub(crate) fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: &Limits,
    stop: &Stop,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    runtime()?.block_on(accept_until_stopped(listener, service, limits, stop))
}

async fn accept_until_stopped<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    limits: &Limits,
    stop: &Stop,
) -> io::Result<()> {
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
                (Ok(permit), Ok((stream, _))) => connect(stream, permit, &service, limits, &graceful),
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
    permit: OwnedSemaphorePermit,
    service: &Arc<S>,
    limits: &Limits,
    graceful: &GracefulShutdown,
) {
    let service = Arc::clone(service);
    let answers = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(stream), answers);
    let connection = graceful.watch(connection);
    let longest = limits.connection_timeout;
    tokio::spawn(async move {
        // A client that breaks off or is too slow is its own affair.
        let _ = timeout(longest, connection).await;
        drop(permit);
    });
}
