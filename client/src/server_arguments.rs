//! Arguments of every command that asks a server: which one, what it has to show, and what lets a client in.

use std::time::Duration;

use crate::command::CommandError;
use crate::policy_arguments::{PolicyArguments, PolicyError};
use crate::token_arguments::{Lasting, TokenArgumentError, TokenArguments};
use crate::tokens::Purse;
use crate::way::Way;
use crate::{Client, Policy};

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArguments {
    #[command(flatten)]
    pub(crate) way: Way,
    #[command(flatten)]
    policy: PolicyArguments,
    #[command(flatten)]
    tokens: TokenArguments,
    /// Accept a server that proves nothing about itself. Whoever runs it can read what is asked. For tests.
    #[arg(long)]
    insecure_no_attestation: bool,
}

impl ServerArguments {
    /// What the server has to show; files and the log are read.
    pub(crate) fn policy(&self) -> Result<Policy, PolicyError> {
        Ok(Policy {
            accept_unattested: self.insecure_no_attestation,
            ..self.policy.policy(&self.way.authorities)?
        })
    }

    /// What lets a client in. Nothing is sent.
    pub(crate) fn purse(&self, lasting: Lasting) -> Result<Purse, TokenArgumentError> {
        self.tokens.purse(lasting, &self.way.authorities)
    }

    /// A client for one request, once the server is accepted.
    pub(crate) fn client(&self, timeout: Duration) -> Result<Client, CommandError> {
        let (policy, purse) = (self.policy()?, self.purse(Lasting::OneRequest)?);
        Ok(Client::connect_by(&self.way, timeout, policy)?.with_tokens(purse))
    }
}
