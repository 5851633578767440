//! What a client accepts as proof that it talks to the right program on the right machine.

use cloister_protocol::evidence::{Evidence, Kind, NONCE_BYTES};
use cloister_protocol::keyconfig::KeyConfigList;

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
    /// The evidence speaks for another epoch than the keys that it carries.
    #[error(
        "refused: the server's evidence names key epoch {evidence}, but the keys in it belong to epoch {keys}; \
         nothing was sent"
    )]
    Epoch {
        /// Epoch in the evidence.
        evidence: u64,
        /// Epoch in the key config list.
        keys: u64,
    },
    /// A kind that this client cannot judge.
    #[error("refused: this client cannot judge evidence of kind `{0}`; nothing was sent")]
    UnknownKind(&'static str),
}

impl Policy {
    /// Judges evidence that was asked for with `nonce` and carries `keys`.
    pub fn appraise(
        &self,
        evidence: &Evidence,
        keys: &KeyConfigList,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<Attestation, Refusal> {
        if evidence.nonce.as_ref() != Some(nonce) {
            return Err(Refusal::Stale);
        }
        match keys.epoch() {
            Some(epoch) if epoch.number != evidence.epoch => {
                return Err(Refusal::Epoch {
                    evidence: evidence.epoch,
                    keys: epoch.number,
                });
            }
            _ => {}
        }
        match &evidence.kind {
            Kind::None if self.accept_unattested => Ok(Attestation::None),
            Kind::None => Err(Refusal::Unattested),
            other => Err(Refusal::UnknownKind(other.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_protocol::keyconfig::{Epoch, decode_list};
    use cloister_protocol::ohttp::Gateway;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];
    /// The epoch that the keys belong to.
    const EPOCH: u64 = 5;

    fn appraise(
        accept_unattested: bool,
        nonce: Option<[u8; NONCE_BYTES]>,
        epoch: u64,
    ) -> Result<Attestation, Refusal> {
        let keys = Gateway::generate_for_epoch(
            &mut UnwrapErr(SysRng),
            Epoch {
                number: EPOCH,
                start_s: 0,
                end_s: 3600,
            },
        );
        let evidence = Evidence {
            kind: Kind::None,
            key_configs: keys.key_configs(),
            epoch,
            nonce,
        };
        let keys = decode_list(&evidence.key_configs).expect("just encoded");
        Policy { accept_unattested }.appraise(&evidence, &keys, &NONCE)
    }

    #[test]
    fn a_server_without_evidence_needs_the_flag() {
        assert_eq!(
            appraise(false, Some(NONCE), EPOCH),
            Err(Refusal::Unattested)
        );
        assert_eq!(appraise(true, Some(NONCE), EPOCH), Ok(Attestation::None));
        assert!(!Attestation::None.is_attested());
    }

    #[test]
    fn old_evidence_is_refused_even_with_the_flag() {
        assert_eq!(appraise(true, None, EPOCH), Err(Refusal::Stale));
        assert_eq!(
            appraise(true, Some([8; NONCE_BYTES]), EPOCH),
            Err(Refusal::Stale)
        );
    }

    #[test]
    fn evidence_of_another_epoch_than_its_keys_is_refused() {
        let (evidence, keys) = (EPOCH + 1, EPOCH);
        assert_eq!(
            appraise(true, Some(NONCE), evidence),
            Err(Refusal::Epoch { evidence, keys })
        );
    }

    #[test]
    fn the_default_is_to_refuse() {
        assert!(!Policy::default().accept_unattested);
    }
}
