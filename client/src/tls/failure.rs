//! What goes wrong in a handshake, and what to do.

use std::io;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::KeyDigest;

const DAY_S: u64 = 86_400;

/// Why there is no TLS. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("it does not speak TLS there: {0}; is its address one with http://?")]
    NotTls(Error),
    #[error("it speaks no TLS 1.3: {0}")]
    Version(Error),
    #[error(
        "its certificate has expired{}: whoever runs it has to renew it, unless this machine's clock is wrong",
        of_days(*.0, " ago")
    )]
    Expired(Option<Duration>),
    #[error("its certificate is not valid yet{}: is this machine's clock right?", of_days(*.0, " to go"))]
    NotYetValid(Option<Duration>),
    #[error(
        "no authority that is trusted here has signed its certificate; if it is the right server, name the file with its authority's certificate (--ca-certificate FILE)"
    )]
    UnknownAuthority,
    #[error("its certificate is for another name{0}: ask it by one that is in its certificate")]
    OtherName(String),
    #[error(
        "the TLS handshake with it failed: a signature does not hold; either it does not have the key of its certificate, or an authority of the same name and another key is trusted here"
    )]
    Signature,
    #[error("the TLS handshake with it failed: {0}")]
    Failed(io::Error),
    #[error("its TLS key is not the expected one, but has the SHA-256 {0}; nothing was sent")]
    OtherKey(KeyDigest),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let below = error
            .get_ref()
            .and_then(|below| below.downcast_ref::<Error>());
        match below.cloned() {
            Some(error @ Error::InvalidMessage(_)) => Self::NotTls(error),
            Some(
                error @ (Error::PeerIncompatible(_)
                | Error::AlertReceived(AlertDescription::ProtocolVersion)),
            ) => Self::Version(error),
            Some(Error::InvalidCertificate(reason)) => {
                Self::of_certificate(reason).unwrap_or(Self::Failed(error))
            }
            _ => Self::Failed(error),
        }
    }
}

impl HandshakeError {
    /// What an authority's verdict means, where there is more to say than the verdict.
    fn of_certificate(reason: CertificateError) -> Option<Self> {
        Some(match reason {
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired(Some(between(not_after, time)))
            }
            CertificateError::NotValidYet => Self::NotYetValid(None),
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid(Some(between(time, not_before)))
            }
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::BadSignature => Self::Signature,
            CertificateError::NotValidForName => Self::OtherName(String::new()),
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                let names = format!(" than `{}` ({})", expected.to_str(), presented.join(", "));
                // Whoever made the certificate may have written anything.
                Self::OtherName(names.chars().filter(|c| !c.is_control()).collect())
            }
            _ => return None,
        })
    }
}

fn between(early: UnixTime, late: UnixTime) -> Duration {
    Duration::from_secs(late.as_secs().saturating_sub(early.as_secs()))
}

fn of_days(time: Option<Duration>, words: &str) -> String {
    time.map_or_else(String::new, |time| {
        let days = time.as_secs() as f64 / DAY_S as f64;
        format!(" ({days:.1} days{words})")
    })
}
