//! Arguments for anonymous tokens.

use std::path::PathBuf;
use std::time::Duration;

use crate::keys::{self, KeyArgumentError};
use crate::tls::Authorities;
use crate::tokens::{IssuerClient, IssuerError, Purse, Wallet};

/// How long the issuer may take for one answer.
const ISSUER_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArguments {
    /// File of unspent anonymous tokens, for a server that asks for them; it is made if it is not there. Without it, tokens
    /// are kept in memory.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Issuer of more tokens: https://HOST[:PORT], or http:// where nobody on the way can read your credential.
    #[arg(long, value_name = "URL", requires = "credential")]
    issuer: Option<String>,
    /// File whose first line is what the issuer lets you in by.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    credential: Option<PathBuf>,
    /// Tokens to get at one time where they are kept, in a file or by the proxy: the fewer visits, the less the issuer sees of when you ask.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    token_batch: u8,
}

/// Why there are no tokens to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenArgumentError {
    #[error(transparent)]
    Credential(#[from] KeyArgumentError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// How long a purse is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// What it holds in memory would be lost after that one.
    OneRequest,
    ManyRequests,
}

impl TokenArguments {
    /// The purse that they describe. Nothing is sent.
    pub(crate) fn purse(
        &self,
        lasting: Lasting,
        authorities: &Authorities,
    ) -> Result<Purse, TokenArgumentError> {
        let credential = keys::read_passphrase(self.credential.as_deref())?;
        let issuer = match (&self.issuer, &credential) {
            (Some(url), Some(credential)) => {
                let timeout = ISSUER_TIMEOUT;
                Some(IssuerClient::vouched_by(
                    authorities,
                    url,
                    credential,
                    timeout,
                )?)
            }
            _ => None,
        };
        let batch = match (&self.tokens, lasting) {
            (None, Lasting::OneRequest) => 1,
            _ => self.token_batch.into(),
        };
        let wallet = self.tokens.as_deref().map(Wallet::new);
        Ok(Purse::new(wallet, issuer, batch))
    }
}
