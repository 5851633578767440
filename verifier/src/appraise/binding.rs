//! Whether the report speaks for the keys that will be used, and is fresh.

use super::{Appraiser, Claims, Finding};
use crate::appraisal::CheckName;
use crate::reason::Reason;
use crate::report::Report;
use crate::text::Date;
use alloc::format;
use cloister_protocol::evidence::report_data;
use cloister_protocol::keyconfig::{Epoch, decode_list};

const NO_CLAIMS: &str = "the report stands alone, without keys that it could be bound to";

impl Appraiser<'_> {
    pub(super) fn check_binding(&mut self) {
        let evidence = self.evidence;
        let Some(claims) = &evidence.claims else {
            let required = self.policy.require_binding;
            self.not_checked(CheckName::KeyBinding, NO_CLAIMS, required);
            self.not_checked(CheckName::TlsKey, NO_CLAIMS, false);
            for name in [CheckName::Epoch, CheckName::Nonce] {
                self.not_checked(name, NO_CLAIMS, required);
            }
            return;
        };
        self.on_report(CheckName::KeyBinding, |this, report| {
            this.key_binding(report, claims)
        });
        self.check_tls_key(claims);
        self.check_epoch(claims);
        self.check_nonce(claims);
    }

    fn key_binding(&self, report: &Report, claims: &Claims) -> Finding {
        let expected = report_data(
            claims.epoch,
            &claims.key_configs,
            &claims.tls_public_key,
            claims.nonce.as_ref(),
        );
        if report.report_data != expected {
            return Err(Reason::ReportData);
        }
        match self.context.key_configs {
            Some(used) if used != claims.key_configs => Err(Reason::KeyConfigsDiffer),
            _ => Ok("report data binds keys, epoch and nonce".into()),
        }
    }

    /// Secrecy does not rest on it: what is sent is sealed to a key that the report binds. A connection that claims to
    /// end in the guest has to.
    fn check_tls_key(&mut self, claims: &Claims) {
        const NAME: CheckName = CheckName::TlsKey;
        match (self.context.tls_public_key, &claims.tls_public_key[..]) {
            (None, b"") => self.not_checked(NAME, "no TLS, and none is bound", false),
            (None, _) => self.not_checked(
                NAME,
                "one is bound, but the evidence came without TLS",
                false,
            ),
            (Some(_), b"") => self.found(NAME, Err(Reason::TlsKeyMissing)),
            (Some(shown), bound) if shown != bound => self.found(NAME, Err(Reason::TlsKeyDiffers)),
            (Some(_), _) => self.found(NAME, Ok("the connection has the one that is bound".into())),
        }
    }

    /// Without a clock the epoch's numbers are compared, and its times are not. Then only a nonce shows that the
    /// evidence is new, so that either is required.
    fn check_epoch(&mut self, claims: &Claims) {
        let epoch = match epoch_of(claims) {
            Ok(epoch) => epoch,
            Err(reason) => return self.found(CheckName::Epoch, Err(reason)),
        };
        match self.context.now_s {
            Some(now_s) => {
                let skew_s = self.policy.clock_skew_s;
                self.found(CheckName::Epoch, is_current(epoch, now_s, skew_s));
            }
            None => self.not_checked(
                CheckName::Epoch,
                "the time is not known",
                self.context.nonce.is_none(),
            ),
        }
    }

    fn check_nonce(&mut self, claims: &Claims) {
        let Some(sent) = self.context.nonce else {
            let required = self.policy.require_nonce;
            return self.not_checked(CheckName::Nonce, "none was sent", required);
        };
        let finding = match &claims.nonce {
            None => Err(Reason::NonceMissing),
            Some(nonce) if nonce != sent => Err(Reason::NonceDiffers),
            Some(_) => Ok("the one that was sent".into()),
        };
        self.found(CheckName::Nonce, finding);
    }
}

/// The epoch that the keys are for, if it is the evidence's.
fn epoch_of(claims: &Claims) -> Result<Epoch, Reason> {
    let keys = decode_list(&claims.key_configs).map_err(Reason::KeyConfigs)?;
    let epoch = keys.epoch().ok_or(Reason::EpochMissing)?;
    if epoch.number != claims.epoch {
        return Err(Reason::EpochDiffers {
            evidence: claims.epoch,
            keys: epoch.number,
        });
    }
    Ok(epoch)
}

fn is_current(epoch: Epoch, now_s: u64, skew_s: u64) -> Finding {
    let (start_s, end_s) = (epoch.start_s, epoch.end_s);
    if now_s.saturating_add(skew_s) < start_s {
        return Err(Reason::EpochNotBegun { start_s });
    }
    if now_s > end_s.saturating_add(skew_s) {
        return Err(Reason::EpochOver { end_s });
    }
    Ok(format!("{}, until {}", epoch.number, Date(end_s)))
}
