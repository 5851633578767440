//! Asking an issuer for tokens (RFC 9578, sections 4 to 6).

use std::time::Duration;

use cloister_tokens::directory::{self, Directory, DirectoryError};
use cloister_tokens::field::Offer;
use cloister_tokens::request::{FinalizeError, Pending, REQUEST_TYPE, RESPONSE_TYPE};
use cloister_tokens::{Token, TokenKey};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use zeroize::Zeroizing;

use crate::tls::Authorities;
use crate::transport::{Answer, Transport, TransportError};

/// The most tokens that are asked for at one time.
const MAX_BATCH: usize = 100;

/// An issuer, and what it lets us in by.
pub struct IssuerClient {
    transport: Transport,
    authorization: Zeroizing<String>,
}

/// Why the issuer gave no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// It cannot be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It answered something else.
    #[error("{url}: {problem}")]
    Answer {
        /// Which URL.
        url: String,
        /// What it said.
        problem: String,
    },
    /// Its directory is none.
    #[error("{url}: {error}")]
    Directory {
        /// The issuer.
        url: String,
        /// What is wrong.
        error: DirectoryError,
    },
    /// It is not the issuer that the server asks for tokens of.
    #[error(
        "{url}: the issuer's directory does not have the token key that the server names ({challenge})"
    )]
    OtherKey {
        /// The issuer.
        url: String,
        /// What the server asks for.
        challenge: String,
    },
    /// The requests would go elsewhere.
    #[error(
        "{url}: the directory sends requests to {request_uri}, which is not a path at this issuer"
    )]
    RequestUri {
        /// The issuer.
        url: String,
        /// Where it sends them.
        request_uri: String,
    },
    /// The key in the server's challenge cannot be used.
    #[error("the token key that the server names cannot be used")]
    Key,
    /// The signature is not by the key.
    #[error("{url}: {error}")]
    Finalize {
        /// The issuer.
        url: String,
        /// What is wrong.
        error: FinalizeError,
    },
}

impl IssuerClient {
    /// The issuer at `url` (`http://HOST:PORT`, or `https` where one of the operating system's authorities vouches for it),
    /// which knows this client by `credential`. `timeout` bounds each exchange.
    ///
    /// # Errors
    /// [`IssuerError::Transport`] for an address that is none, or one with `https` on a system without authorities.
    pub fn new(url: &str, credential: &str, timeout: Duration) -> Result<Self, IssuerError> {
        Self::vouched_by(&Authorities::default(), url, credential, timeout)
    }

    /// The same for an issuer that these authorities vouch for, if its address is one with `https`.
    ///
    /// # Errors
    /// As [`IssuerClient::new`].
    pub fn vouched_by(
        authorities: &Authorities,
        url: &str,
        credential: &str,
        timeout: Duration,
    ) -> Result<Self, IssuerError> {
        Ok(Self {
            transport: Transport::new(url, timeout, authorities)?,
            authorization: Zeroizing::new(format!("Bearer {credential}")),
        })
    }

    /// Gets up to `count` tokens for a server's challenge; at least one. The issuer's directory must have the key that
    /// the server names: it is the same for everybody who looks, so that nobody is given a key of their own.
    ///
    /// # Errors
    /// [`IssuerError`], if there is not even one.
    pub fn fetch(&self, offer: &Offer, count: usize) -> Result<Vec<Token>, IssuerError> {
        let path = self.request_path(&offer.token_key, offer)?;
        let mut tokens = Vec::new();
        for _ in 0..count.clamp(1, MAX_BATCH) {
            match self.fetch_one(&path, offer) {
                Ok(token) => tokens.push(token),
                // What came before the quota was used up is good.
                Err(_) if !tokens.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(tokens)
    }

    fn fetch_one(&self, path: &str, offer: &Offer) -> Result<Token, IssuerError> {
        let mut rng = UnwrapErr(SysRng);
        let begun = Pending::new(&offer.token_key, &offer.challenge, &mut rng);
        let (request, pending) = begun.ok_or(IssuerError::Key)?;
        let authorization = Some(self.authorization.as_str());
        let answer =
            self.transport
                .post_as(path, REQUEST_TYPE, &request.encode(), authorization)?;
        self.expect(path, &answer, RESPONSE_TYPE)?;
        let token = pending.finalize(&answer.body);
        token.map_err(|error| IssuerError::Finalize {
            url: self.url(),
            error,
        })
    }

    /// Where requests go, if the issuer has the key.
    fn request_path(&self, key: &TokenKey, offer: &Offer) -> Result<String, IssuerError> {
        let answer = self.transport.get(directory::PATH)?;
        self.expect(directory::PATH, &answer, directory::MEDIA_TYPE)?;
        let directory = Directory::from_json(&answer.body);
        let directory = directory.map_err(|error| IssuerError::Directory {
            url: self.url(),
            error,
        })?;
        if !directory.token_keys.contains(key) {
            return Err(IssuerError::OtherKey {
                url: self.url(),
                challenge: offer.challenge.to_string(),
            });
        }
        let uri = directory.request_uri;
        // The credential goes to this issuer, and to nobody else.
        let path = uri.strip_prefix(self.transport.base()).unwrap_or(&uri);
        match path.starts_with('/') && !path.starts_with("//") {
            true => Ok(path.to_owned()),
            false => Err(IssuerError::RequestUri {
                url: self.url(),
                request_uri: uri,
            }),
        }
    }

    fn expect(&self, path: &str, answer: &Answer, media_type: &str) -> Result<(), IssuerError> {
        if answer.status == 200 && answer.media_type == media_type {
            return Ok(());
        }
        let problem = cloister_protocol::api::problem::Problem::from_json(&answer.body);
        let detail = problem.ok().and_then(|problem| problem.detail);
        let problem = match detail {
            Some(detail) if answer.status != 200 => {
                let detail: String = detail.chars().filter(|c| !c.is_control()).collect();
                format!("the issuer answered {}: {detail}", answer.status)
            }
            _ => format!(
                "the answer is {} `{}`, expected `{media_type}`; is this an issuer of tokens?",
                answer.status, answer.media_type
            ),
        };
        Err(IssuerError::Answer {
            url: format!("{}{path}", self.transport.base()),
            problem,
        })
    }

    fn url(&self) -> String {
        self.transport.base().to_owned()
    }
}
