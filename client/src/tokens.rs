//! Anonymous tokens on the client's side: which to send, and where to get more.

mod issuer;
mod wallet;

use std::path::PathBuf;

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
    issuer: Option<IssuerClient>,
    /// Tokens at a time from the issuer.
    batch: usize,
    /// Without a wallet: what is left of the last batch, the server that asked for it first.
    held: Vec<(String, Token)>,
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
            issuer,
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
        if let Some(token) =
            refused.filter(|token| kind != TOKEN_SPENT && token.challenge_digest != digest)
        {
            self.forget(token)?;
        }
        if let Some(token) = self.take_for(&digest)? {
            return Ok(Some(token));
        }
        let Some(issuer) = &self.issuer else {
            return Err(self.without_issuer(&offer));
        };
        let mut tokens = issuer.fetch(&offer, self.batch)?;
        let first = tokens.pop();
        let expires_s = now_s().saturating_add(offer.max_age_s.unwrap_or(KEPT_S));
        match &self.wallet {
            Some(wallet) if !tokens.is_empty() => wallet.put(server, expires_s, &tokens)?,
            Some(_) => {}
            None => {
                let whose = |token| (server.to_owned(), token);
                self.held.extend(tokens.into_iter().map(whose));
            }
        }
        Ok(first)
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

/// The challenge of an answer that asks for a token, and the type of its problem.
fn read_challenge(answer: &bhttp::Response) -> Result<Option<(Offer, String)>, PurseError> {
    if answer.status != 401 {
        return Ok(None);
    }
    let kind = Problem::from_json(&answer.content).map_or(String::new(), |problem| problem.kind);
    if ![TOKEN_REQUIRED, TOKEN_INVALID, TOKEN_SPENT].contains(&kind.as_str()) {
        return Ok(None);
    }
    let field = answer.field("www-authenticate").unwrap_or_default();
    let offers = read_offers(field).map_err(|error| PurseError::Challenge(error.to_string()))?;
    let offer = offers.into_iter().next();
    let offer =
        offer.ok_or_else(|| PurseError::Challenge("it has no challenge of type 2".into()))?;
    Ok(Some((offer, kind)))
}
