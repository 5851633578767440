//! What a relay says while it works.

use std::fmt;

use crate::tls::KeyDigest;

/// What a relay tells of itself; nothing of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The gateway gives no answers, after it did, or from the start.
    GatewayFails {
        /// Why.
        reason: String,
    },
    /// The gateway has another TLS key than it has to have; it gets no requests.
    GatewayKey {
        /// The key that it has shown.
        shown: KeyDigest,
    },
    /// The gateway answers again.
    GatewayAnswers,
}

impl Event {
    pub(super) fn failure(reason: &impl fmt::Display) -> Self {
        Self::GatewayFails {
            reason: reason.to_string(),
        }
    }

    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GatewayFails { .. } => "gateway-fails",
            Self::GatewayKey { .. } => "gateway-key",
            Self::GatewayAnswers => "gateway-answers",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GatewayFails { reason } => write!(f, "the gateway gives no answers: {reason}"),
            Self::GatewayKey { shown } => write!(
                f,
                "the gateway gets no requests: its TLS key is another one than it has to be, with the SHA-256 {shown}"
            ),
            Self::GatewayAnswers => f.write_str("the gateway answers again"),
        }
    }
}
