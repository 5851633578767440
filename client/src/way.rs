//! The way to a server: directly, or through a relay that keeps from it who asks.

use std::fmt;
use std::time::Duration;

use crate::tls::Authorities;
use crate::transport::{Transport, TransportError};

/// Which server is asked, and through what.
///
/// A relay learns who asks, and the server what is asked; neither learns both. Nothing that is checked of the server depends
/// on the way to it: its evidence says which program on which machine has the keys, and names no address.
#[derive(Clone, Debug, clap::Args)]
pub struct Way {
    /// Address of the server: http://HOST:PORT, or https://HOST:PORT where it speaks TLS, with the key that its evidence
    /// binds. Requests are sealed before they leave this program.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// Send through this Oblivious HTTP relay, so that the server does not learn who asks: https://HOST:PORT
    /// of a `cloister relay`, or of any other with the path of its resource; http:// too. Nothing is sent to --server then.
    #[arg(long, value_name = "URL")]
    pub relay: Option<String>,
    /// Fetch evidence from --server itself, for relays that pass on nothing but requests. The server then learns the address
    /// of whoever is about to ask.
    #[arg(long, requires = "relay")]
    pub evidence_direct: bool,
    /// Who has to vouch for a relay with `https`; never for the server.
    #[command(flatten)]
    pub authorities: Authorities,
}

impl Way {
    /// The server itself.
    pub fn direct(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            relay: None,
            evidence_direct: false,
            authorities: Authorities::default(),
        }
    }

    /// The connections of a client.
    pub(crate) fn transport(&self, timeout: Duration) -> Result<Transport, TransportError> {
        match &self.relay {
            None => Transport::to_guest(&self.server, timeout),
            Some(relay) => Transport::through(
                &self.server,
                relay,
                self.evidence_direct,
                timeout,
                &self.authorities,
            ),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.relay {
            None => f.write_str(&self.server),
            Some(relay) => write!(f, "{} through the relay {relay}", self.server),
        }
    }
}
