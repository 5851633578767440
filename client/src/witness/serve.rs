//! The server: `POST /add-checkpoint`, and `GET /<origin hash>/checkpoint` for those who want to see what was cosigned.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloister_transparency::witness::{
    AddCheckpoint, Answer, MAX_REQUEST_BYTES, Witness, WitnessStore,
};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request};

use crate::clock::now_s;
use crate::serving::reply::{BodyError, Content, Reply, read_body, whole};
use crate::serving::{self, Limits, Listener, Service, Stop};

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may last: longer than a signing command may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(180);

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
    listener: impl Into<Listener>,
    witness: Witness<S>,
    stop: &Stop,
    report: impl Fn(&Exchange) + Send + Sync + 'static,
) -> io::Result<()>
where
    S: WitnessStore + Send + 'static,
{
    let shared = Arc::new(Shared {
        witness: Mutex::new(witness),
        report,
    });
    // What is cut off at the end is no harm: the store has either checkpoint whole.
    let limits = Limits {
        connection_timeout: Some(CONNECTION_TIMEOUT),
        ..Limits::default()
    };
    serving::one_thread()?.block_on(serving::serve(listener.into(), shared, &limits, stop))
}

impl<S, R> Service for Shared<S, R>
where
    S: WitnessStore + Send + 'static,
    R: Fn(&Exchange) + Send + Sync + 'static,
{
    type Content = Content;
    type Connection = ();

    fn opened(self: &Arc<Self>, _: SocketAddr) -> Option<()> {
        Some(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: SocketAddr) -> Reply {
        let path = request.uri().path().to_owned();
        let monitored = path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix("/checkpoint"));
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        // The disk and a signing command are waited for: not in the thread that has all the connections.
        let reply = match (path.as_str(), monitored) {
            ("/add-checkpoint", _) if request.method() == Method::POST => {
                match read_body(request.into_body(), MAX_REQUEST_BYTES, BODY_TIMEOUT).await {
                    Ok(body) => {
                        tokio::task::spawn_blocking(move || self.add_checkpoint(&body)).await
                    }
                    Err(error) => Ok(refusal(error)),
                }
            }
            ("/add-checkpoint", _) => Ok(not_allowed("POST")),
            (_, Some(_)) if !is_get => Ok(not_allowed("GET, HEAD")),
            (_, Some(hash)) => {
                let hash = hash.to_owned();
                tokio::task::spawn_blocking(move || self.monitored(&hash)).await
            }
            _ => Ok(reply(404, TEXT, "no such page\n")),
        };
        reply.unwrap_or_else(|_| unusable())
    }
}

fn refusal(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge(_) => reply(413, TEXT, "the request is too large\n"),
        BodyError::Broken => reply(400, TEXT, "the request's body is broken\n"),
        BodyError::TooSlow(_) => reply(408, TEXT, "the request's body took too long\n"),
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

fn reply(status: u16, content_type: &'static str, body: &str) -> Reply {
    whole(status, content_type, body.to_owned())
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
