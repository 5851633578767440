//! What a client accepts as proof that it talks to the right program on the right machine.

use cloister_protocol::evidence::{Evidence, Kind, NONCE_BYTES};

/// What is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Servers without any evidence too. Whoever runs such a server can read what is sent to it.
    pub accept_unattested: bool,
}

/// What an accepted server has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attestation {
    /// Nothing; it was accepted because the policy says so.
    None,
}

impl Attestation {
    /// The kind, in a word.
    pub fn kind(self) -> &'static str {
        match self {
            Self::None => Kind::None.name(),
        }
    }

    /// Whether a hardware root vouches for the server.
    pub fn is_attested(self) -> bool {
        match self {
            Self::None => false,
        }
    }

    /// What every output says.
    pub fn notice(self) -> &'static str {
        match self {
            Self::None => {
                "NOT ATTESTED (--insecure-no-attestation): nothing proves which program answered; \
                 whoever runs the server can read the messages"
            }
        }
    }
}

/// Why a server is not asked. Nothing was sent to it but the request for its evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no evidence.
    #[error(
        "refused: the server has no attestation evidence (kind `none`), so whoever runs it could read the messages; \
         nothing was sent.\nFor tests on platform `plain`, add --insecure-no-attestation."
    )]
    Unattested,
    /// The evidence is not an answer to our question: it may be an old one.
    #[error(
        "refused: the server's evidence does not repeat the nonce that was sent, so it may be old; nothing was sent"
    )]
    Stale,
    /// A kind that this client cannot judge.
    #[error("refused: this client cannot judge evidence of kind `{0}`; nothing was sent")]
    UnknownKind(&'static str),
}

impl Policy {
    /// Judges evidence that was asked for with `nonce`.
    pub fn appraise(
        &self,
        evidence: &Evidence,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<Attestation, Refusal> {
        if evidence.nonce.as_ref() != Some(nonce) {
            return Err(Refusal::Stale);
        }
        match evidence.kind {
            Kind::None if self.accept_unattested => Ok(Attestation::None),
            Kind::None => Err(Refusal::Unattested),
            other => Err(Refusal::UnknownKind(other.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

    fn appraise(
        accept_unattested: bool,
        nonce: Option<[u8; NONCE_BYTES]>,
    ) -> Result<Attestation, Refusal> {
        let evidence = Evidence {
            kind: Kind::None,
            key_configs: vec![],
            epoch: 1,
            nonce,
        };
        Policy { accept_unattested }.appraise(&evidence, &NONCE)
    }

    #[test]
    fn a_server_without_evidence_needs_the_flag() {
        assert_eq!(appraise(false, Some(NONCE)), Err(Refusal::Unattested));
        assert_eq!(appraise(true, Some(NONCE)), Ok(Attestation::None));
        assert!(!Attestation::None.is_attested());
    }

    #[test]
    fn old_evidence_is_refused_even_with_the_flag() {
        assert_eq!(appraise(true, None), Err(Refusal::Stale));
        assert_eq!(appraise(true, Some([8; NONCE_BYTES])), Err(Refusal::Stale));
    }

    #[test]
    fn the_default_is_to_refuse() {
        assert!(!Policy::default().accept_unattested);
    }
}
