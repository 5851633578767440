//! What a client accepts as proof that it talks to the right program on the right machine.

use crate::clock;
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, NONCE_BYTES};
use cloister_protocol::keyconfig::KeyConfigList;
use cloister_verifier::carrier::{Carried, CarrierError};
use cloister_verifier::{Appraisal, Check, Claims, Context, LogView, Release, appraise};

/// What is accepted.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Servers without any evidence too. Whoever runs such a server can read what is sent to it.
    pub accept_unattested: bool,
    /// What SEV-SNP evidence must show. By default nothing is accepted, since there is neither a reference value nor a
    /// log that the image must be in.
    pub snp: cloister_verifier::Policy,
    /// Certificates beside those that come with the evidence.
    pub certificates: Carried,
    /// What is known from reading the log itself ([`crate::log_view::read_log_view`]); without it nobody asks whether the
    /// release is withdrawn. It is as old as the reading: a client that lives long needs a new one now and then.
    pub log_view: Option<LogView>,
}

/// What an accepted server has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attestation {
    /// Nothing; it was accepted because the policy says so.
    None,
    /// An SEV-SNP report that passed each of these checks.
    SevSnp(Box<Appraisal>),
}

impl Attestation {
    /// The kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SevSnp(appraisal) if appraisal.is_emulated() => "sev-snp-emulated",
            Self::SevSnp(_) => "sev-snp",
        }
    }

    /// Whether a hardware root vouches for the server.
    pub fn is_attested(&self) -> bool {
        match self {
            Self::None => false,
            Self::SevSnp(appraisal) => !appraisal.is_emulated(),
        }
    }

    /// What every output says.
    pub fn notice(&self) -> String {
        let (mut notice, appraisal) = (self.machine_notice().to_owned(), self.appraisal());
        if appraisal.is_some_and(Appraisal::has_test_witnesses) {
            notice += "; TEST WITNESSES: the log that has this image is one for tests";
        } else if appraisal.is_some_and(|appraisal| !appraisal.is_logged()) {
            notice +=
                "; NOT IN A LOG (--without-log): nothing shows that others can check this image";
        }
        notice
    }

    fn machine_notice(&self) -> &'static str {
        match self {
            Self::None => {
                "NOT ATTESTED (--insecure-no-attestation): nothing proves which program answered; \
                 whoever runs the server can read the messages"
            }
            Self::SevSnp(appraisal) if appraisal.is_emulated() => {
                "EMULATED ATTESTATION (--trust-emulated-root): every check was made, and none of them proves anything \
                 about a machine; whoever runs the server can read the messages"
            }
            Self::SevSnp(_) => {
                "Attested by SEV-SNP: the evidence was accepted before anything was sent"
            }
        }
    }

    /// The checks, if there was evidence to check.
    pub fn appraisal(&self) -> Option<&Appraisal> {
        match self {
            Self::None => None,
            Self::SevSnp(appraisal) => Some(appraisal),
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
    /// The connection ends somewhere else than in the server that the evidence is of.
    #[error(
        "refused: the TLS connection's key is not the one that the server's evidence names; nothing was sent"
    )]
    TlsKey,
    /// A check of the evidence failed, or could not be made.
    #[error(
        "refused: the server's evidence is not acceptable; nothing was sent.\n{}See every check with \
         `cloister verify --server URL` and the same policy.",
        unacceptable(.0)
    )]
    Evidence(Box<Appraisal>),
    /// What should be certificates beside the evidence is something else.
    #[error(
        "refused: the certificates with the server's evidence cannot be read: {0}; nothing was sent"
    )]
    Certificates(CarrierError),
    /// A kind that this client cannot judge.
    #[error("refused: this client cannot judge evidence of kind `{0}`; nothing was sent")]
    UnknownKind(&'static str),
}

fn unacceptable(appraisal: &Appraisal) -> String {
    let failed = |check: &&Check| !check.outcome.is_acceptable();
    let lines = appraisal.checks().iter().filter(failed);
    lines.map(|check| format!("  {check}\n")).collect()
}

impl Policy {
    /// Judges evidence that was asked for with `nonce` and carries `keys`. `tls_public_key` is the one that the connection
    /// has shown (SubjectPublicKeyInfo, DER), if it is one of TLS: it has to be the guest's.
    pub fn appraise(
        &self,
        evidence: &Evidence,
        keys: &KeyConfigList,
        nonce: &[u8; NONCE_BYTES],
        tls_public_key: Option<&[u8]>,
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
            Kind::None if self.accept_unattested => match tls_public_key {
                Some(shown) if shown != evidence.tls_public_key => Err(Refusal::TlsKey),
                _ => Ok(Attestation::None),
            },
            Kind::None => Err(Refusal::Unattested),
            Kind::SevSnp(report) => {
                let appraisal = Box::new(self.appraise_snp(
                    evidence,
                    &report[..],
                    Some(nonce),
                    tls_public_key,
                )?);
                match appraisal.is_accepted() {
                    true => Ok(Attestation::SevSnp(appraisal)),
                    false => Err(Refusal::Evidence(appraisal)),
                }
            }
            other => Err(Refusal::UnknownKind(other.name())),
        }
    }

    /// Checks an SEV-SNP report, and that it speaks for the keys that came with it.
    pub(crate) fn appraise_snp(
        &self,
        evidence: &Evidence,
        report: &[u8],
        nonce: Option<&[u8; NONCE_BYTES]>,
        tls_public_key: Option<&[u8]>,
    ) -> Result<Appraisal, Refusal> {
        let mut carried = self.certificates.clone();
        carried
            .add_file(&evidence.enclosures.certificates)
            .map_err(Refusal::Certificates)?;
        let claims = Claims {
            epoch: evidence.epoch,
            key_configs: evidence.key_configs.clone(),
            tls_public_key: evidence.tls_public_key.clone(),
            nonce: evidence.nonce,
        };
        let shown = cloister_verifier::Evidence {
            report: report.to_vec(),
            carried,
            claims: Some(claims),
            release: release(&evidence.enclosures),
        };
        let context = Context {
            now_s: clock::known_s(),
            nonce,
            key_configs: Some(&evidence.key_configs),
            tls_public_key,
            log_view: self.log_view.as_ref(),
        };
        Ok(appraise(&shown, &self.snp, &context))
    }
}

/// The release that came with evidence, if any of it did.
fn release(enclosures: &Enclosures) -> Option<Release> {
    let Enclosures {
        release_note,
        release_proof,
        ..
    } = enclosures;
    let is_there = !release_note.is_empty() || !release_proof.is_empty();
    is_there.then(|| Release {
        note: release_note.clone(),
        proof: release_proof.clone(),
    })
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
        appraise_over(None, accept_unattested, nonce, epoch)
    }

    fn appraise_over(
        tls_public_key: Option<&[u8]>,
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
            tls_public_key: b"key".to_vec(),
            enclosures: Enclosures::default(),
        };
        let keys = decode_list(&evidence.key_configs).expect("just encoded");
        let policy = Policy {
            accept_unattested,
            ..Policy::default()
        };
        policy.appraise(&evidence, &keys, &NONCE, tls_public_key)
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
    fn a_connection_that_ends_somewhere_else_is_refused_even_with_the_flag() {
        let over = |key: &[u8]| appraise_over(Some(key), true, Some(NONCE), EPOCH);
        assert_eq!(over(b"key"), Ok(Attestation::None));
        assert_eq!(over(b"other"), Err(Refusal::TlsKey));
    }

    #[test]
    fn the_default_is_to_refuse() {
        assert!(!Policy::default().accept_unattested);
    }
}
