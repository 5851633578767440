//! The server: `POST /add-checkpoint`, and `GET /<origin hash>/checkpoint` for those who want to see what was cosigned.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloister_transparency::witness::{
    AddCheckpoint, Answer, MAX_REQUEST_BYTES, Witness, WitnessStore,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::stop::{Stop, runtime};

/// The most connections at once; others wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// The most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The most header fields of a request.
const MAX_HEADERS: usize = 64;
/// How long a request's head may take, which is also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may last: longer than a signing command may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(180);
/// How long requests that have begun may take once the server is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// After the system had no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The HTTP status.
    pub status: u16,
    /// The log's origin and the checkpoint's size, where the log is one that is witnessed.
    pub checkpoint: Option<(String, u64)>,
    /// What was done, or why it was not.
    pub outcome: String,
}

/// A line.
impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.outcome)?;
        match &self.checkpoint {
            Some((origin, size)) => write!(f, ": {origin}, size {size}"),
            None => Ok(()),
        }
    }
}

/// What every connection shares.
struct Shared<S, R> {
    witness: Mutex<Witness<S>>,
    report: R,
}

/// Serves a witness until it is asked to stop. `report` hears of every answer to `add-checkpoint`.
///
/// # Errors
/// Where the listener cannot be used.
pub fn serve<S>(
    listener: TcpListener,
    witness: Witness<S>,
    stop: &Stop,
    report: impl Fn(&Exchange) + Send + Sync + 'static,
) -> io::Result<()>
where
    S: WitnessStore + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let shared = Arc::new(Shared {
        witness: Mutex::new(witness),
        report,
    });
    runtime()?.block_on(accept_until_stopped(listener, shared, stop))
}

async fn accept_until_stopped<S, R>(
    listener: TcpListener,
    shared: Arc<Shared<S, R>>,
    stop: &Stop,
) -> io::Result<()>
where
    S: WitnessStore + Send + 'static,
    R: Fn(&Exchange) + Send + Sync + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = stop.stopped() => break,
            next = next => match next {
                (Ok(permit), Ok((stream, _))) => connect(stream, permit, &shared, &graceful),
                // The client was gone before, or there are too many files open.
                _ => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    // What takes longer is cut off: the store has either checkpoint whole.
    let _ = timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

fn connect<S, R>(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    shared: &Arc<Shared<S, R>>,
    graceful: &GracefulShutdown,
) where
    S: WitnessStore + Send + 'static,
    R: Fn(&Exchange) + Send + Sync + 'static,
{
    let shared = Arc::clone(shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // A client that breaks off or is too slow is its own affair.
        let _ = timeout(CONNECTION_TIMEOUT, connection).await;
        drop(permit);
    });
}

type Reply = Response<Full<Bytes>>;

async fn answer<S, R>(request: Request<Incoming>, shared: Arc<Shared<S, R>>) -> Reply
where
    S: WitnessStore + Send + 'static,
    R: Fn(&Exchange) + Send + Sync + 'static,
{
    let path = request.uri().path().to_owned();
    let monitored = path
        .strip_prefix('/')
        .and_then(|path| path.strip_suffix("/checkpoint"));
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    // The disk and a signing command are waited for: not in the thread that has all the connections.
    let reply = match (path.as_str(), monitored) {
        ("/add-checkpoint", _) if request.method() == Method::POST => {
            match read_body(request.into_body()).await {
                Ok(body) => tokio::task::spawn_blocking(move || shared.add_checkpoint(&body)).await,
                Err(refusal) => Ok(refusal),
            }
        }
        ("/add-checkpoint", _) => Ok(not_allowed("POST")),
        (_, Some(_)) if !is_get => Ok(not_allowed("GET, HEAD")),
        (_, Some(hash)) => {
            let hash = hash.to_owned();
            tokio::task::spawn_blocking(move || shared.monitored(&hash)).await
        }
        _ => Ok(reply(404, TEXT, "no such page\n")),
    };
    reply.unwrap_or_else(|_| unusable())
}

async fn read_body(body: Incoming) -> Result<Bytes, Reply> {
    let limited = Limited::new(body, MAX_REQUEST_BYTES).collect();
    match timeout(BODY_TIMEOUT, limited).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(reply(413, TEXT, "the request is too large\n"))
        }
        Ok(Err(_)) => Err(reply(400, TEXT, "the request's body is broken\n")),
        Err(_) => Err(reply(408, TEXT, "the request's body took too long\n")),
    }
}

impl<S: WitnessStore, R: Fn(&Exchange)> Shared<S, R> {
    fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let Ok(mut witness) = self.witness.lock() else {
            return unusable();
        };
        let answer = witness.add_checkpoint(body, now_s());
        // Until it is reported nobody else is answered, so that reports are in order.
        (self.report)(&exchange(body, &answer));
        reply(answer.status(), answer.content_type(), &answer.body())
    }

    fn monitored(&self, hash: &str) -> Reply {
        let Ok(mut witness) = self.witness.lock() else {
            return unusable();
        };
        match witness.monitored(hash) {
            Ok(Some(checkpoint)) => reply(200, TEXT, &checkpoint.to_string()),
            Ok(None) => reply(404, TEXT, "no checkpoint of such a log\n"),
            Err(answer) => reply(answer.status(), answer.content_type(), &answer.body()),
        }
    }
}

fn exchange<E: fmt::Debug>(body: &[u8], answer: &Answer<E>) -> Exchange {
    // Anyone can write anything into a request of a log that is not known.
    let is_known = matches!(
        answer,
        Answer::Cosigned(_)
            | Answer::OldSizeAbove { .. }
            | Answer::Conflict { .. }
            | Answer::Inconsistent(_)
            | Answer::Store(_)
            | Answer::NotSigned(_)
            | Answer::StateDamaged
    );
    let request = AddCheckpoint::parse(body).ok().filter(|_| is_known);
    let outcome = match answer {
        Answer::Cosigned(_) => "cosigned".to_owned(),
        Answer::Conflict { size } => format!("the last size is {size}, not the request's"),
        Answer::Store(error) => format!("the state cannot be used: {error:?}"),
        Answer::NotSigned(error) => error.to_string(),
        other => other.body().trim_end().to_owned(),
    };
    Exchange {
        status: answer.status(),
        checkpoint: request.map(|request| {
            let checkpoint = request.checkpoint.checkpoint();
            (checkpoint.origin.clone(), checkpoint.size)
        }),
        outcome,
    }
}

fn now_s() -> u64 {
    // A clock before 1970 is 0, which the witness refuses.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn reply(status: u16, content_type: &'static str, body: &str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = reply(405, TEXT, "another method is needed\n");
    let methods = HeaderValue::from_static(methods);
    reply.headers_mut().insert(ALLOW, methods);
    reply
}

/// Where a thread panicked while it had the witness.
fn unusable() -> Reply {
    reply(500, TEXT, "the witness cannot be used\n")
}
