//! Anonymous tokens on the client's side: which to send, and where to get more.

mod issuer;
mod wallet;

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::now_s;
use cloister_protocol::api::problem::{Problem, TOKEN_INVALID, TOKEN_REQUIRED, TOKEN_SPENT};
use cloister_protocol::bhttp::{self, BhttpError};
use cloister_tokens::Token;
use cloister_tokens::field::{Offer, read_offers, write_token};

pub use issuer::{IssuerClient, IssuerError};
pub use wallet::{Wallet, WalletError};

/// How long tokens are kept where the server does not say how long it takes them: an hour.
const KEPT_S: u64 = 3600;

/// Tokens for requests: those in a wallet, and those that an issuer gives. Without either it has none.
#[derive(Default)]
pub struct Purse {
    wallet: Option<Wallet>,
    issuer: Option<Arc<IssuerClient>>,
    /// What a server asked for last.
    asked: Option<Asked>,
    /// Tokens at a time from the issuer.
    batch: usize,
    /// Without a wallet: what is left of the last batch, the server that asked for it first.
    held: Vec<(String, Token)>,
}

/// What a server asked for.
#[derive(Clone)]
struct Asked {
    offer: Offer,
    /// Unix time in seconds until which it takes the tokens.
    expires_s: u64,
}

/// More tokens are needed soon.
pub(crate) struct Shortage {
    issuer: Arc<IssuerClient>,
    asked: Asked,
    count: usize,
}

/// Tokens that were fetched.
pub(crate) struct Fetched {
    asked: Asked,
    tokens: Vec<Token>,
}

impl Shortage {
    /// Fetches them. It may wait for the issuer.
    pub(crate) fn fetch(&self) -> Result<Fetched, PurseError> {
        Ok(Fetched {
            tokens: self.issuer.fetch(&self.asked.offer, self.count)?,
            asked: self.asked.clone(),
        })
    }
}

/// There is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PurseError {
    /// The wallet cannot be used.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The issuer gives none.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The server's challenge cannot be read.
    #[error("the server asks for a token, and its challenge cannot be read: {0}")]
    Challenge(String),
    /// A token cannot be put into the request.
    #[error("a token cannot be put into the request: {0}")]
    Field(#[from] BhttpError),
    /// There is neither a token nor an issuer to get one from.
    #[error(
        "the server asks for {challenge}, and there is none: name its issuer with --issuer and --credential"
    )]
    None {
        /// What is asked for.
        challenge: String,
    },
    /// The wallet is empty, and there is no issuer.
    #[error(
        "the server asks for {challenge}, and there is none in {wallet}: name its issuer with --issuer and --credential"
    )]
    Empty {
        /// What is asked for.
        challenge: String,
        /// The wallet's file.
        wallet: PathBuf,
    },
}

impl Purse {
    /// Tokens of this wallet; more from this issuer, `batch` at a time, if it is given.
    #[must_use]
    pub fn new(wallet: Option<Wallet>, issuer: Option<IssuerClient>, batch: usize) -> Self {
        Self {
            wallet,
            issuer: issuer.map(Arc::new),
            asked: None,
            batch: batch.max(1),
            held: Vec::new(),
        }
    }

    /// A token that this server may take. It is gone from the wallet.
    ///
    /// # Errors
    /// [`PurseError::Wallet`].
    pub fn take(&mut self, server: &str) -> Result<Option<Token>, PurseError> {
        if let Some(wallet) = &self.wallet {
            return Ok(wallet.take(server, now_s())?);
        }
        let found = self.held.iter().rposition(|(whose, _)| whose == server);
        Ok(found.map(|at| self.held.remove(at).1))
    }

    /// The token that an answer of the server asks for; `None` if it does not ask for one. `refused` is the token that
    /// the server did not take, if one was sent.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn meet(
        &mut self,
        server: &str,
        answer: &bhttp::Response,
        refused: Option<&Token>,
    ) -> Result<Option<Token>, PurseError> {
        let Some((offer, kind)) = read_challenge(answer)? else {
            return Ok(None);
        };
        let digest = offer.challenge.digest();
        let asked = Asked {
            expires_s: now_s().saturating_add(offer.max_age_s.unwrap_or(KEPT_S)),
            offer,
        };
        self.asked = Some(asked.clone());
        if let Some(token) =
            refused.filter(|token| kind != TOKEN_SPENT && token.challenge_digest != digest)
        {
            self.forget(token)?;
        }
        if let Some(token) = self.take_for(&digest)? {
            return Ok(Some(token));
        }
        let Some(issuer) = &self.issuer else {
            return Err(self.without_issuer(&asked.offer));
        };
        let mut tokens = issuer.fetch(&asked.offer, self.batch)?;
        let first = tokens.pop();
        self.put(server, Fetched { asked, tokens })?;
        Ok(first)
    }

    /// What to fetch where less than half a batch is left of what a server asked for last.
    ///
    /// # Errors
    /// [`PurseError::Wallet`].
    pub(crate) fn shortage(&self) -> Result<Option<Shortage>, PurseError> {
        let (Some(issuer), Some(asked)) = (&self.issuer, &self.asked) else {
            return Ok(None);
        };
        let now_s = now_s();
        let digest = asked.offer.challenge.digest();
        let answers = |(_, token): &&(String, Token)| token.challenge_digest == digest;
        let left = match &self.wallet {
            Some(wallet) => wallet.count_for(&digest, now_s)?,
            None => self.held.iter().filter(answers).count(),
        };
        let is_short = left < self.batch.div_ceil(2) && asked.expires_s > now_s;
        Ok(is_short.then(|| Shortage {
            issuer: Arc::clone(issuer),
            asked: asked.clone(),
            count: self.batch,
        }))
    }

    /// Keeps tokens that were fetched for this server.
    ///
    /// # Errors
    /// [`PurseError::Wallet`].
    pub(crate) fn put(&mut self, server: &str, fetched: Fetched) -> Result<(), PurseError> {
        self.keep(server, fetched.asked.expires_s, fetched.tokens)
    }

    /// Takes back tokens of which nothing was sent. How long they are good is not known any more; the server says so.
    ///
    /// # Errors
    /// [`PurseError::Wallet`].
    pub(crate) fn give_back(&mut self, server: &str, tokens: Vec<Token>) -> Result<(), PurseError> {
        self.keep(server, now_s().saturating_add(KEPT_S), tokens)
    }

    fn keep(&mut self, server: &str, expires_s: u64, tokens: Vec<Token>) -> Result<(), PurseError> {
        if tokens.is_empty() {
            return Ok(());
        }
        if let Some(wallet) = &self.wallet {
            return Ok(wallet.put(server, expires_s, &tokens)?);
        }
        let whose = |token| (server.to_owned(), token);
        self.held.extend(tokens.into_iter().map(whose));
        Ok(())
    }

    fn take_for(&mut self, digest: &[u8; 32]) -> Result<Option<Token>, PurseError> {
        if let Some(wallet) = &self.wallet {
            return Ok(wallet.take_for(digest, now_s())?);
        }
        let answers = |(_, token): &(String, Token)| token.challenge_digest == *digest;
        let found = self.held.iter().rposition(answers);
        Ok(found.map(|at| self.held.remove(at).1))
    }

    /// Forgets the tokens that have the challenge of one that was not taken.
    fn forget(&mut self, token: &Token) -> Result<(), PurseError> {
        let digest = token.challenge_digest;
        self.held
            .retain(|(_, held)| held.challenge_digest != digest);
        match &self.wallet {
            Some(wallet) => Ok(wallet.forget(&digest)?),
            None => Ok(()),
        }
    }

    fn without_issuer(&self, offer: &Offer) -> PurseError {
        let challenge = offer.challenge.to_string();
        match &self.wallet {
            Some(wallet) => PurseError::Empty {
                challenge,
                wallet: wallet.path().into(),
            },
            None => PurseError::None { challenge },
        }
    }
}

/// The same request with a token.
pub(crate) fn with_token(
    request: &bhttp::Request,
    token: &Token,
) -> Result<bhttp::Request, PurseError> {
    let request = request.clone();
    Ok(request.with_header("authorization", write_token(token))?)
}

/// Whether an answer asks for a token.
pub(crate) fn is_about_tokens(answer: &bhttp::Response) -> bool {
    token_problem(answer).is_some()
}

/// The type of the problem of an answer that asks for a token.
fn token_problem(answer: &bhttp::Response) -> Option<String> {
    let is_one =
        |kind: &String| [TOKEN_REQUIRED, TOKEN_INVALID, TOKEN_SPENT].contains(&kind.as_str());
    let problem = Problem::from_json(&answer.content).ok();
    let kind = problem.filter(|_| answer.status == 401)?.kind;
    Some(kind).filter(is_one)
}

/// The challenge of an answer that asks for a token, and the type of its problem.
fn read_challenge(answer: &bhttp::Response) -> Result<Option<(Offer, String)>, PurseError> {
    let Some(kind) = token_problem(answer) else {
        return Ok(None);
    };
    let field = answer.field("www-authenticate").unwrap_or_default();
    let offers = read_offers(field).map_err(|error| PurseError::Challenge(error.to_string()))?;
    let offer = offers.into_iter().next();
    let offer =
        offer.ok_or_else(|| PurseError::Challenge("it has no challenge of type 2".into()))?;
    Ok(Some((offer, kind)))
}
