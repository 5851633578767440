//! The way of a request, seen from the client: evidence, policy, encapsulation, answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Limits, Request, RequestError, Response};
use cloister_protocol::api::{JsonError, media, models, paths, rewrite};
use cloister_protocol::bhttp::{self, BhttpError};
use cloister_protocol::evidence::{self, Evidence, EvidenceError};
use cloister_protocol::keyconfig::{self, KeyConfigError, KeyConfigList};
use cloister_protocol::ohttp::{self, OhttpError};
use cloister_protocol::records::RecordError;
use cloister_tokens::Token;
use getrandom::SysRng;
use rand_core::{TryRng, UnwrapErr};
use zeroize::Zeroizing;

use crate::opening::OpeningError;
use crate::policy::{Attestation, Policy, Refusal};
use crate::stream::ReplyStream;
use crate::summary_stream::SummaryStream;
use crate::tls::KeyDigest;
use crate::tokens::{Purse, PurseError, with_token};
use crate::transport::{Answer, Transport, TransportError};
use crate::way::Way;

/// A server whose evidence passed the policy. Several threads may ask at one time.
pub struct Client {
    /// Its address, however it is reached: tokens are kept by it.
    server: String,
    policy: Policy,
    session: Mutex<Arc<Session>>,
    purse: Mutex<Purse>,
}

/// Keys, what they were accepted for, and the connections that the evidence came over.
struct Session {
    transport: Transport,
    attestation: Arc<Attestation>,
    keys: ohttp::Client,
}

/// A request failed. [`ClientError::Refused`] means that nothing of it was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's evidence is not acceptable.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server cannot be reached or does not speak the protocol.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The request is not one that a server takes; nothing was sent.
    #[error("the request is not valid: {0}")]
    Request(#[from] RequestError),
    /// The request does not fit the largest size that is sent; nothing was sent.
    #[error("the request is too large: {0}")]
    Encode(#[from] bhttp::EncodeError),
    /// The evidence cannot be read.
    #[error("the server's evidence cannot be read: {0}")]
    Evidence(#[from] EvidenceError),
    /// The keys cannot be used.
    #[error("the server's keys cannot be used: {0}")]
    Keys(#[from] KeyConfigError),
    /// The answer was made for another request, or was altered on its way.
    #[error("the server's answer cannot be opened: {0}")]
    Open(#[from] OhttpError),
    /// A piece of a streamed answer is not a record.
    #[error("the server's streamed answer cannot be read: {0}")]
    Record(#[from] RecordError),
    /// The answer is not an HTTP message.
    #[error("the server's answer is not binary HTTP: {0}")]
    Message(#[from] BhttpError),
    /// The events of a streamed answer cannot be read.
    #[error("the server's events cannot be read: {0}")]
    Events(std::io::Error),
    /// The answer is not the JSON that was asked for.
    #[error("the server's answer is not the JSON that was asked for: {0}")]
    Json(#[from] JsonError),
    /// The server asks for an anonymous token, and there is none.
    #[error(transparent)]
    Tokens(#[from] PurseError),
    /// The server says what went wrong.
    #[error("{}", describe(.problem, *.sealed))]
    Problem {
        /// The server's words.
        problem: Problem,
        /// Whether they came sealed, so that nobody on the way can have made them up.
        sealed: bool,
    },
    /// No randomness from the operating system.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl From<OpeningError> for ClientError {
    fn from(error: OpeningError) -> Self {
        match error {
            OpeningError::Chunks(error) => error.into(),
            OpeningError::Record(error) => error.into(),
            OpeningError::Message(error) => error.into(),
        }
    }
}

fn describe(problem: &Problem, sealed: bool) -> String {
    let detail = problem
        .detail
        .as_deref()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    let whose = if sealed {
        "the server"
    } else {
        "the server (or whoever is on the way to it)"
    };
    format!(
        "{whose} answered {} {}{detail}",
        problem.status, problem.title
    )
}

impl Client {
    /// Fetches fresh evidence from the server at `url` (`http://HOST:PORT`, or `https` where it
    /// speaks TLS) and appraises it. `timeout` bounds each
    /// exchange; an emulated guest may need many minutes for an answer.
    pub fn connect(url: &str, timeout: Duration, policy: Policy) -> Result<Self, ClientError> {
        Self::connect_by(&Way::direct(url), timeout, policy)
    }

    /// The same for a server that is reached as `way` says, through a relay for example.
    pub fn connect_by(way: &Way, timeout: Duration, policy: Policy) -> Result<Self, ClientError> {
        let session = Session::begin(way.transport(timeout)?, &policy)?;
        Ok(Self {
            server: way.server.trim_end_matches('/').to_owned(),
            policy,
            session: Mutex::new(Arc::new(session)),
            purse: Mutex::default(),
        })
    }

    /// The same client with anonymous tokens, for servers that ask for them. They are sent inside the encapsulation.
    #[must_use]
    pub fn with_tokens(self, purse: Purse) -> Self {
        Self {
            purse: Mutex::new(purse),
            ..self
        }
    }

    /// What is known about the server, as of the keys in use.
    pub fn attestation(&self) -> Arc<Attestation> {
        Arc::clone(&self.session().attestation)
    }

    /// Asks for a summary.
    pub fn summarize(&self, request: &Request) -> Result<Response, ClientError> {
        check_summarize(request)?;
        let response = self.ask(&post_json(paths::SUMMARIZE, request.to_json())?)?;
        Ok(Response::from_json(&response.content)?)
    }

    /// Asks for a summary that is shown while it is written.
    pub fn summarize_streamed(&self, request: &Request) -> Result<SummaryStream, ClientError> {
        check_summarize(request)?;
        let message = post_json(paths::SUMMARIZE, request.to_json_streamed())?;
        Ok(SummaryStream::new(self.stream(&message)?.expect_ok()?))
    }

    /// Asks for other wordings.
    pub fn rewrite(&self, request: &rewrite::Request) -> Result<rewrite::Response, ClientError> {
        request.check(Limits::DEFAULT.text_bytes)?;
        let response = self.ask(&post_json(paths::REWRITE, request.to_json())?)?;
        Ok(rewrite::Response::from_json(&response.content)?)
    }

    /// Asks which model the server has.
    pub fn models(&self) -> Result<models::Models, ClientError> {
        let response = self.ask(&bhttp::Request::new("GET", paths::MODELS))?;
        Ok(models::Models::from_json(&response.content)?)
    }

    /// What the server counts, in the form that Prometheus reads. It is not sealed, and relays do not pass it on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn metrics(&self) -> Result<String, ClientError> {
        let session = Arc::clone(&self.session());
        let answer = session.transport.get(paths::METRICS)?;
        match answer.status {
            200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
            _ => Err(outer_problem(&answer)),
        }
    }

    /// Sends any inner request, padded, and returns the answer to it, whatever its status. A key that the server no
    /// longer has, of HPKE or of TLS, is fetched anew, once, and its evidence is appraised like the first; a token in the
    /// request was not seen by anyone then. What makes work is sent with a token, if there is one, and once more with
    /// another if the server asks for that.
    ///
    /// # Errors
    /// [`ClientError`]; problems that the server tells inside the encapsulation are answers, not errors.
    pub fn send(&self, request: &bhttp::Request) -> Result<bhttp::Response, ClientError> {
        let token = self.token_for(request)?;
        let response = self.send_with(request, token.as_ref())?;
        let other = self.purse().meet(&self.server, &response, token.as_ref())?;
        match other {
            Some(other) => self.send_with(request, Some(&other)),
            None => Ok(response),
        }
    }

    /// Sends any inner request, padded, and returns the answer as it arrives, in records of one size at the server's
    /// ticks. Waits until status and fields of the answer are there. Keys are renewed and tokens spent as in
    /// [`Client::send`].
    ///
    /// # Errors
    /// [`ClientError`]; problems that the server tells inside the encapsulation are answers, not errors.
    pub fn stream(&self, request: &bhttp::Request) -> Result<ReplyStream, ClientError> {
        let token = self.token_for(request)?;
        let mut reply = self.stream_with(request, token.as_ref())?;
        if reply.status() != 401 {
            return Ok(reply);
        }
        // What kind of token is missing stands in the content.
        let refusal = reply.whole()?;
        let other = self.purse().meet(&self.server, &refusal, token.as_ref())?;
        match other {
            Some(other) => self.stream_with(request, Some(&other)),
            None => Ok(reply),
        }
    }

    fn send_with(
        &self,
        request: &bhttp::Request,
        token: Option<&Token>,
    ) -> Result<bhttp::Response, ClientError> {
        let padded = encode(request, token)?;
        self.with_session(|session| session.exchange(&padded))
    }

    fn stream_with(
        &self,
        request: &bhttp::Request,
        token: Option<&Token>,
    ) -> Result<ReplyStream, ClientError> {
        let padded = encode(request, token)?;
        self.with_session(|session| session.open_stream(&padded))
    }

    /// A token for a request that makes work.
    fn token_for(&self, request: &bhttp::Request) -> Result<Option<Token>, ClientError> {
        match request.method.as_str() {
            "POST" => Ok(self.purse().take(&self.server)?),
            _ => Ok(None),
        }
    }

    fn purse(&self) -> MutexGuard<'_, Purse> {
        // A token is out of it, or in it.
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to an inner request; a status other than 200 is an error.
    fn ask(&self, request: &bhttp::Request) -> Result<bhttp::Response, ClientError> {
        let response = self.send(request)?;
        match response.status {
            200 => Ok(response),
            status => Err(sealed_problem(status, &response.content)),
        }
    }

    fn session(&self) -> MutexGuard<'_, Arc<Session>> {
        // What is replaced is replaced as a whole.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries with the keys at hand, and once more with new ones if the server no longer has these.
    fn with_session<T>(
        &self,
        attempt: impl Fn(&Session) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let session = Arc::clone(&self.session());
        match attempt(&session) {
            Err(error) if session.is_outdated(&error) => {
                let new = Arc::new(Session::begin(session.transport.anew()?, &self.policy)?);
                *self.session() = Arc::clone(&new);
                attempt(&new)
            }
            outcome => outcome,
        }
    }
}

impl Session {
    fn begin(transport: Transport, policy: &Policy) -> Result<Self, ClientError> {
        let accepted = accepted_keys(&transport, policy)?;
        Ok(Self {
            transport,
            attestation: Arc::new(accepted.attestation),
            keys: ohttp::Client::new(accepted.keys.preferred()),
        })
    }

    /// Whether a request failed because the server has other keys now.
    fn is_outdated(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Problem { problem, sealed } => !sealed && problem.is_key_problem(),
            ClientError::Transport(_) => self.transport.has_other_key(),
            _ => false,
        }
    }

    fn exchange(&self, padded: &[u8]) -> Result<bhttp::Response, ClientError> {
        let (sealed, opener) = self.keys.encapsulate(&mut UnwrapErr(SysRng), padded)?;
        let answer = self
            .transport
            .post(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed)?;
        if answer.status != 200 {
            return Err(outer_problem(&answer));
        }
        expect_type(
            &self.transport,
            "POST",
            paths::OHTTP_GATEWAY,
            &answer.media_type,
            media::OHTTP_RESPONSE,
        )?;
        let opened = opener.open(&answer.body)?;
        Ok(bhttp::Response::decode(&opened, &bhttp::Limits::DEFAULT)?)
    }

    fn open_stream(&self, padded: &[u8]) -> Result<ReplyStream, ClientError> {
        let (sealed, opener) = self
            .keys
            .encapsulate_chunked(&mut UnwrapErr(SysRng), padded)?;
        let path = paths::OHTTP_GATEWAY;
        let answer = self
            .transport
            .post_streaming(path, media::OHTTP_CHUNKED_REQUEST, &sealed)?;
        if answer.status != 200 {
            return Err(outer_problem(&answer.whole()?));
        }
        let expected = media::OHTTP_CHUNKED_RESPONSE;
        expect_type(&self.transport, "POST", path, &answer.media_type, expected)?;
        ReplyStream::begin(answer, opener)
    }
}

/// A request with its token, padded.
fn encode(
    request: &bhttp::Request,
    token: Option<&Token>,
) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    Ok(match token {
        Some(token) => with_token(request, token)?.encode_padded()?,
        None => request.encode_padded()?,
    })
}

/// What the server's own limit on tokens is, only it knows.
fn check_summarize(request: &Request) -> Result<(), RequestError> {
    request.check(&Limits {
        output_tokens: u32::MAX,
        ..Limits::DEFAULT
    })
}

/// An inner request with a JSON text.
fn post_json(path: &str, mut json: Zeroizing<Vec<u8>>) -> Result<bhttp::Request, ClientError> {
    let message = bhttp::Request::new("POST", path);
    Ok(message.with_content(media::JSON, std::mem::take(&mut *json))?)
}

/// What an answer inside the encapsulation says went wrong; its status alone when it says nothing.
pub(crate) fn sealed_problem(status: u16, content: &[u8]) -> ClientError {
    let problem = Problem::from_json(content).unwrap_or_else(|_| Problem::from_status(status));
    ClientError::Problem {
        problem,
        sealed: true,
    }
}

/// What a policy has accepted of a server.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) attestation: Attestation,
    pub(crate) keys: KeyConfigList,
    /// Of the TLS key that the evidence binds; of no bytes, and so of no key, where it binds none.
    pub(crate) tls_key: KeyDigest,
}

/// Keys out of fresh evidence that the policy accepts.
pub(crate) fn accepted_keys(
    transport: &Transport,
    policy: &Policy,
) -> Result<Accepted, ClientError> {
    let (evidence, nonce) = fetch_evidence(transport)?;
    // The keys come out of the evidence itself, so they are the ones that it speaks for.
    let keys = keyconfig::decode_list(&evidence.key_configs)?;
    let tls_public_key = transport.tls_public_key();
    let attestation = policy.appraise(&evidence, &keys, &nonce, tls_public_key.as_deref())?;
    Ok(Accepted {
        attestation,
        keys,
        tls_key: KeyDigest::of(&evidence.tls_public_key),
    })
}

/// Evidence for a fresh nonce, and the nonce.
pub(crate) fn fetch_evidence(
    transport: &Transport,
) -> Result<(Evidence, [u8; evidence::NONCE_BYTES]), ClientError> {
    let mut nonce = [0; evidence::NONCE_BYTES];
    SysRng
        .try_fill_bytes(&mut nonce)
        .map_err(ClientError::Random)?;
    let path = format!(
        "{}?{}={}",
        paths::EVIDENCE,
        paths::NONCE_PARAMETER,
        evidence::to_hex(&nonce)
    );
    let answer = transport.get(&path)?;
    if answer.status != 200 {
        return Err(outer_problem(&answer));
    }
    expect_type(
        transport,
        "GET",
        paths::EVIDENCE,
        &answer.media_type,
        media::CMW_CBOR,
    )?;
    Ok((Evidence::decode(&answer.body)?, nonce))
}

/// What an answer in the clear says went wrong; its status alone when it says nothing.
fn outer_problem(answer: &Answer) -> ClientError {
    let said = (answer.media_type == media::PROBLEM_JSON)
        .then(|| Problem::from_json(&answer.body).ok())
        .flatten();
    let mut problem = said.unwrap_or_else(|| Problem::from_status(answer.status));
    problem.status = answer.status;
    ClientError::Problem {
        problem,
        sealed: false,
    }
}

fn expect_type(
    transport: &Transport,
    method: &'static str,
    path: &str,
    found: &str,
    expected: &'static str,
) -> Result<(), TransportError> {
    if found == expected {
        return Ok(());
    }
    let url = format!("{}{path}", transport.base());
    Err(TransportError::MediaType {
        method,
        url,
        found: found.to_owned(),
        expected,
    })
}
