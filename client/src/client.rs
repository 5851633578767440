//! The way of a request, seen from the client: evidence, policy, encapsulation, answer.

use std::time::Duration;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::summarize::{Limits, Request, RequestError, Response};
use cloister_protocol::api::{JsonError, media, models, paths};
use cloister_protocol::bhttp::{self, BhttpError};
use cloister_protocol::evidence::{self, Evidence, EvidenceError};
use cloister_protocol::keyconfig::{self, KeyConfigError};
use cloister_protocol::ohttp::{self, OhttpError};
use getrandom::SysRng;
use rand_core::{TryRng, UnwrapErr};

use crate::policy::{Attestation, Policy, Refusal};
use crate::tokens::{Purse, PurseError, with_token};
use crate::transport::{Answer, Transport, TransportError};

/// A server whose evidence passed the policy.
pub struct Client {
    transport: Transport,
    policy: Policy,
    attestation: Attestation,
    keys: ohttp::Client,
    purse: Purse,
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
    /// The answer is not an HTTP message.
    #[error("the server's answer is not binary HTTP: {0}")]
    Message(#[from] BhttpError),
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
    /// Fetches fresh evidence from the server at `url` (`http://HOST:PORT`) and appraises it. `timeout` bounds each
    /// exchange; an emulated guest may need many minutes for an answer.
    pub fn connect(url: &str, timeout: Duration, policy: Policy) -> Result<Self, ClientError> {
        let transport = Transport::new(url, timeout)?;
        let (attestation, keys) = fetch_keys(&transport, &policy)?;
        Ok(Self {
            transport,
            policy,
            attestation,
            keys,
            purse: Purse::default(),
        })
    }

    /// The same client with anonymous tokens, for servers that ask for them. They are sent inside the encapsulation.
    #[must_use]
    pub fn with_tokens(mut self, purse: Purse) -> Self {
        self.purse = purse;
        self
    }

    /// What is known about the server.
    pub fn attestation(&self) -> &Attestation {
        &self.attestation
    }

    /// Asks for a summary.
    pub fn summarize(&mut self, request: &Request) -> Result<Response, ClientError> {
        request.check(&Limits {
            output_tokens: u32::MAX,
            ..Limits::DEFAULT
        })?;
        let mut json = request.to_json();
        let message = bhttp::Request::new("POST", paths::SUMMARIZE);
        let message = message.with_content(media::JSON, std::mem::take(&mut *json))?;
        Ok(Response::from_json(&self.exchange(&message)?)?)
    }

    /// Asks which model the server has.
    pub fn models(&mut self) -> Result<models::Models, ClientError> {
        let content = self.exchange(&bhttp::Request::new("GET", paths::MODELS))?;
        Ok(models::Models::from_json(&content)?)
    }

    /// Sends one inner request and returns the content of the answer to it, with a token if there is one. A server that
    /// asks for another gets it, once.
    fn exchange(&mut self, message: &bhttp::Request) -> Result<Vec<u8>, ClientError> {
        let makes_work = message.method == "POST";
        let token = match makes_work {
            true => self.purse.take(self.transport.base())?,
            false => None,
        };
        let mut response = match &token {
            Some(token) => self.send_anew(&with_token(message, token)?)?,
            None => self.send_anew(message)?,
        };
        let server = self.transport.base();
        if let Some(token) = self.purse.meet(server, &response, token.as_ref())? {
            response = self.send_anew(&with_token(message, &token)?)?;
        }
        match response.status {
            200 => Ok(std::mem::take(&mut *response.content)),
            status => {
                let problem = Problem::from_json(&response.content)
                    .unwrap_or_else(|_| Problem::from_status(status));
                Err(ClientError::Problem {
                    problem,
                    sealed: true,
                })
            }
        }
    }

    /// Sends one inner request. A key that the server no longer has is fetched anew, once, and its evidence is appraised
    /// like the first; a token in the request was not seen by anyone then.
    fn send_anew(&mut self, message: &bhttp::Request) -> Result<bhttp::Response, ClientError> {
        let padded = message.encode_padded()?;
        match self.send(&padded) {
            Err(ClientError::Problem {
                problem,
                sealed: false,
            }) if problem.is_key_problem() => {
                (self.attestation, self.keys) = fetch_keys(&self.transport, &self.policy)?;
                self.send(&padded)
            }
            outcome => outcome,
        }
    }

    fn send(&self, padded: &[u8]) -> Result<bhttp::Response, ClientError> {
        let (sealed, opener) = self.keys.encapsulate(&mut UnwrapErr(SysRng), padded)?;
        let answer = self
            .transport
            .post(paths::OHTTP_GATEWAY, media::OHTTP_REQUEST, &sealed)?;
        if answer.status != 200 {
            return Err(ClientError::Problem {
                problem: outer_problem(&answer),
                sealed: false,
            });
        }
        expect_type(
            &self.transport,
            "POST",
            paths::OHTTP_GATEWAY,
            &answer,
            media::OHTTP_RESPONSE,
        )?;
        let opened = opener.open(&answer.body)?;
        Ok(bhttp::Response::decode(&opened, &bhttp::Limits::DEFAULT)?)
    }
}

fn fetch_keys(
    transport: &Transport,
    policy: &Policy,
) -> Result<(Attestation, ohttp::Client), ClientError> {
    let (evidence, nonce) = fetch_evidence(transport)?;
    // The keys come out of the evidence itself, so they are the ones that it speaks for.
    let keys = keyconfig::decode_list(&evidence.key_configs)?;
    let attestation = policy.appraise(&evidence, &keys, &nonce)?;
    Ok((attestation, ohttp::Client::new(keys.preferred())))
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
        return Err(ClientError::Problem {
            problem: outer_problem(&answer),
            sealed: false,
        });
    }
    expect_type(transport, "GET", paths::EVIDENCE, &answer, media::CMW_CBOR)?;
    Ok((Evidence::decode(&answer.body)?, nonce))
}

/// What an answer in the clear says went wrong; its status alone when it says nothing.
fn outer_problem(answer: &Answer) -> Problem {
    let said = (answer.media_type == media::PROBLEM_JSON)
        .then(|| Problem::from_json(&answer.body).ok())
        .flatten();
    let mut problem = said.unwrap_or_else(|| Problem::from_status(answer.status));
    problem.status = answer.status;
    problem
}

fn expect_type(
    transport: &Transport,
    method: &'static str,
    path: &str,
    answer: &Answer,
    expected: &'static str,
) -> Result<(), TransportError> {
    if answer.media_type == expected {
        return Ok(());
    }
    let url = format!("{}{path}", transport.base());
    Err(TransportError::MediaType {
        method,
        url,
        found: answer.media_type.clone(),
        expected,
    })
}
