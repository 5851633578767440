//! Arguments of commands that serve with TLS.

use std::io;
use std::path::PathBuf;

use crate::serving::{TlsIdentity, TlsIdentityError, say};

#[derive(Debug, clap::Args)]
pub(crate) struct TlsArguments {
    /// Serve https with this certificate: PEM, the server's own first, then those of the authorities between. At SIGHUP it
    /// is read again, with the key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's private key, PEM, without a passphrase.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsArgumentError {
    #[error(transparent)]
    Identity(#[from] TlsIdentityError),
    #[error("cannot wait for SIGHUP: {0}")]
    Signal(io::Error),
}

impl TlsArguments {
    /// What is shown to those who connect; without the arguments there is no TLS. The files are read, and again at each
    /// SIGHUP: what came of that is said.
    pub(crate) fn identity(
        &self,
        command: &'static str,
        is_json: bool,
    ) -> Result<Option<TlsIdentity>, TlsArgumentError> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let identity = TlsIdentity::load(certificate, key)?;
        let report = move |outcome: Result<(), TlsIdentityError>| match outcome {
            Ok(()) => say(
                command,
                is_json,
                "tls-reloaded",
                "the certificate was read again",
            ),
            Err(error) => {
                let text = format!("the certificate stays what it was: {error}");
                say(command, is_json, "tls-not-reloaded", &text);
            }
        };
        let waiting = identity.reload_at_hangup(report);
        waiting.map_err(TlsArgumentError::Signal)?;
        Ok(Some(identity))
    }

    /// The scheme of what is served.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls_certificate {
            Some(_) => "https",
            None => "http",
        }
    }
}
