//! The server: `GET /.well-known/private-token-issuer-directory` and `POST /token-request`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloister_tokens::directory::{self, Directory};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::request::{REQUEST_BYTES, REQUEST_TYPE, RESPONSE_TYPE, TokenRequest};
use getrandom::SysRng;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request};
use rand_core::UnwrapErr;

use super::clients::bearer;
use crate::clock::now_s;
use crate::serving::reply::{Content, Reply, not_allowed, problem, read_body, whole};
use crate::serving::{self, Limits, Listener, Service, Stop};

/// Where requests for tokens go.
pub const REQUEST_PATH: &str = "/token-request";

/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients may keep the directory: a day.
const DIRECTORY_MAX_AGE: &str = "max-age=86400";

/// Who may have a token.
pub trait Admission: Send + 'static {
    /// Lets whoever shows this credential have one token, and counts it. Gives words about the client for the operator,
    /// in which the credential does not stand.
    ///
    /// # Errors
    /// [`Denied`].
    fn admit(&mut self, credential: Option<&str>, now_s: u64) -> Result<String, Denied>;
}

/// Why a client gets no token.
#[derive(Debug)]
#[non_exhaustive]
pub enum Denied {
    /// There is no credential, or it is not one that is known.
    Unknown,
    /// The quota is used up.
    Quota {
        /// Seconds until there is another.
        retry_after_s: u64,
    },
    /// That it was given out cannot be kept.
    State(io::Error),
}

/// What was done with a request for a token; nothing in it says which token it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status.
    pub status: u16,
    /// The words of the [`Admission`], or why there is no token.
    pub words: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.words)
    }
}

/// What is served.
pub struct Issuer<A> {
    /// The keys, the preferred one first: more than one while images with another are still in use.
    pub keys: Vec<IssuerKey>,
    /// Who may have a token.
    pub admission: A,
}

struct Shared<A, R> {
    keys: Vec<IssuerKey>,
    directory: Vec<u8>,
    admission: Mutex<A>,
    report: R,
}

/// Serves an issuer until it is asked to stop. `report` hears of every request for a token.
///
/// # Errors
/// Where the listener cannot be used.
pub fn serve<A: Admission>(
    listener: impl Into<Listener>,
    issuer: Issuer<A>,
    stop: &Stop,
    report: impl Fn(&Outcome) + Send + Sync + 'static,
) -> io::Result<()> {
    let directory = Directory {
        request_uri: REQUEST_PATH.into(),
        token_keys: issuer.keys.iter().map(|key| key.public().clone()).collect(),
    };
    let shared = Arc::new(Shared {
        keys: issuer.keys,
        directory: directory.to_json(),
        admission: Mutex::new(issuer.admission),
        report,
    });
    let limits = Limits::default();
    let served = serving::serve(listener.into(), shared, &limits, stop);
    serving::one_thread()?.block_on(served)
}

impl<A, R> Service for Shared<A, R>
where
    A: Admission,
    R: Fn(&Outcome) + Send + Sync + 'static,
{
    type Content = Content;
    type Connection = ();

    fn opened(self: &Arc<Self>, _: SocketAddr) -> Option<()> {
        Some(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, _: SocketAddr) -> Reply {
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            directory::PATH if is_get => self.directory(),
            directory::PATH => not_allowed("GET, HEAD"),
            REQUEST_PATH if request.method() == Method::POST => self.token(request).await,
            REQUEST_PATH => not_allowed("POST"),
            _ => problem(404, "there is nothing at this path"),
        }
    }
}

impl<A, R> Shared<A, R>
where
    A: Admission,
    R: Fn(&Outcome) + Send + Sync + 'static,
{
    fn directory(&self) -> Reply {
        let mut reply = whole(200, directory::MEDIA_TYPE, self.directory.clone());
        let max_age = HeaderValue::from_static(DIRECTORY_MAX_AGE);
        reply.headers_mut().insert(CACHE_CONTROL, max_age);
        reply
    }

    async fn token(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        if text(&head.headers, CONTENT_TYPE.as_str()) != Some(REQUEST_TYPE) {
            return problem(415, format!("the content must be {REQUEST_TYPE}"));
        }
        let body = match read_body(body, REQUEST_BYTES, BODY_TIMEOUT).await {
            Ok(body) => body,
            Err(error) => return error.reply(),
        };
        // The signature takes a while, and the counts go to the disk: not in the thread that has all the connections.
        let issued = tokio::task::spawn_blocking(move || {
            let field = text(&head.headers, AUTHORIZATION.as_str());
            self.issue(&body, field.and_then(bearer))
        });
        issued
            .await
            .unwrap_or_else(|_| problem(500, "the issuer cannot be used"))
    }

    fn issue(&self, body: &[u8], credential: Option<&str>) -> Reply {
        let (reply, words) = match self.sign(body, credential) {
            Ok((signature, words)) => (whole(200, RESPONSE_TYPE, signature.to_vec()), words),
            Err(refused) => refused.answer(),
        };
        let status = reply.status().as_u16();
        (self.report)(&Outcome { status, words });
        reply
    }

    /// The signature, and words about the client. What cannot be signed does not count.
    fn sign(&self, body: &[u8], credential: Option<&str>) -> Result<(Signature, String), Refused> {
        let request = TokenRequest::decode(body).ok_or(Refused::Request(
            "the content is no request for a token of type 2",
        ))?;
        let named =
            |key: &&IssuerKey| key.public().truncated_id() == request.truncated_token_key_id;
        let key = self.keys.iter().find(named);
        let key = key.ok_or(Refused::Request(
            "the request is for another key; see the directory",
        ))?;
        if request.blinded_message[..] >= *key.public().modulus() {
            return Err(Refused::Request(
                "the blinded message is not below the key's modulus",
            ));
        }
        let words = {
            // Where a thread panicked while it had the counts, they are at most one too high.
            let admission = self.admission.lock();
            let mut admission = admission.unwrap_or_else(PoisonError::into_inner);
            admission
                .admit(credential, now_s())
                .map_err(Refused::Client)?
        };
        match key.issue(&request, &mut UnwrapErr(SysRng)) {
            Ok(signature) => Ok((signature, words)),
            Err(_) => Err(Refused::Request("the request cannot be signed")),
        }
    }
}

type Signature = [u8; cloister_tokens::RSA_BYTES];

/// Why there is no signature.
enum Refused {
    /// The request is none (RFC 9578, section 6.2).
    Request(&'static str),
    /// The client may not have one.
    Client(Denied),
}

impl Refused {
    /// The answer, and words for the operator.
    fn answer(self) -> (Reply, String) {
        match self {
            Self::Request(words) => (problem(422, words), words.into()),
            Self::Client(Denied::Unknown) => {
                let words = "no credential that is known";
                let mut reply = problem(401, words);
                let bearer = HeaderValue::from_static("Bearer");
                reply.headers_mut().insert(WWW_AUTHENTICATE, bearer);
                (reply, words.into())
            }
            Self::Client(Denied::Quota { retry_after_s }) => {
                let words = "the quota of tokens is used up";
                let mut reply = problem(429, words);
                reply
                    .headers_mut()
                    .insert(RETRY_AFTER, retry_after_s.into());
                (reply, words.into())
            }
            Self::Client(Denied::State(error)) => (
                problem(500, "the issuer cannot keep count"),
                format!("the counts cannot be written: {error}"),
            ),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
