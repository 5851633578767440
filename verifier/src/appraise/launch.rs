//! What runs, and on what: firmware levels, privilege, guest policy, measurement.

use super::{Appraiser, Finding, release};
use crate::appraisal::CheckName;
use crate::product::Product;
use crate::reason::{Reason, WhichTcb};
use crate::report::{PolicyBit, Report};
use crate::tcb::{Component, Tcb};
use crate::text::Hex;
use alloc::format;

impl Appraiser<'_> {
    pub(super) fn check_launch(&mut self) {
        self.check_tcb_floor();
        self.on_report(CheckName::Vmpl, |_, report| match report.vmpl {
            0 => Ok("0".into()),
            found => Err(Reason::Vmpl { found }),
        });
        self.on_report(CheckName::PolicyBits, |_, report| policy_bits(report));
        self.on_report(CheckName::Debug, |_, report| {
            without(report, PolicyBit::Debug, Reason::Debug)
        });
        self.on_report(CheckName::Migration, |_, report| {
            without(report, PolicyBit::MigrationAgent, Reason::Migration)
        });
        self.on_report(CheckName::Smt, Self::smt);
        self.check_alias();
        self.check_ciphertext_hiding();
        self.on_report(CheckName::Measurement, Self::measurement);
    }

    fn check_tcb_floor(&mut self) {
        match self.product() {
            Some(product) => self.on_report(CheckName::TcbFloor, |this, report| {
                this.tcb_floor(product, report)
            }),
            None => self.not_checked(CheckName::TcbFloor, "the product is not known", true),
        }
    }

    /// The floor holds for the firmware that made the report's key, and for what ran at launch and runs now: the host
    /// may report less than it runs, and may have updated since the launch.
    fn tcb_floor(&self, product: Product, report: &Report) -> Finding {
        let floor = self
            .policy
            .floor(product, report.cpuid)
            .ok_or(Reason::NoTcbFloor(product))?;
        match first_below(product, report, &floor)? {
            None => Ok(format!("at least {floor}")),
            Some((tcb, component, found)) => Err(Reason::TcbBelowFloor {
                tcb,
                component,
                found,
                floor: floor.level(component),
            }),
        }
    }

    fn smt(&self, report: &Report) -> Finding {
        let (allowed, on) = (
            report.policy.has(PolicyBit::SmtAllowed),
            report.platform_info.smt(),
        );
        if !self.policy.allow_smt {
            if allowed {
                return Err(Reason::SmtAllowed);
            }
            if on {
                return Err(Reason::SmtOn);
            }
        }
        let yes_no = |yes| if yes { "yes" } else { "no" };
        Ok(format!(
            "allowed by the guest: {}, on now: {}",
            yes_no(allowed),
            yes_no(on)
        ))
    }

    fn check_alias(&mut self) {
        if self.policy.require_alias_check {
            self.on_report(CheckName::AliasCheck, |_, report| {
                match report.platform_info.alias_check_complete() {
                    true => Ok("complete".into()),
                    false => Err(Reason::AliasCheck),
                }
            });
        } else {
            self.not_checked(
                CheckName::AliasCheck,
                "the policy does not ask for it",
                false,
            );
        }
    }

    fn check_ciphertext_hiding(&mut self) {
        let name = CheckName::CiphertextHiding;
        if self.policy.require_ciphertext_hiding {
            self.on_report(name, |_, report| {
                match report.policy.has(PolicyBit::CiphertextHiding) {
                    true => Ok("required by the guest".into()),
                    false => Err(Reason::CiphertextHiding),
                }
            });
        } else {
            self.not_checked(name, "the policy does not ask for it", false);
        }
    }

    fn measurement(&self, report: &Report) -> Finding {
        let (found, wanted) = (report.measurement, &self.policy.measurements);
        if !wanted.is_empty() && !wanted.contains(&found) {
            return Err(Reason::Measurement { found });
        }
        match self.release {
            Some(Ok(image)) => release::launch_of(image, found),
            _ if wanted.is_empty() => Err(Reason::NoReferenceMeasurement),
            _ => Ok(format!("{}", Hex(&found))),
        }
    }
}

/// The first level of the report's TCB versions that is below `floor`: of which version, which one, and the level.
pub(super) fn first_below(
    product: Product,
    report: &Report,
    floor: &Tcb,
) -> Result<Option<(WhichTcb, Component, u8)>, Reason> {
    for (which, raw) in [
        (WhichTcb::Reported, report.reported_tcb),
        (WhichTcb::Committed, report.committed_tcb),
        (WhichTcb::Current, report.current_tcb),
        (WhichTcb::Launch, report.launch_tcb),
    ] {
        let tcb = Tcb::decode(raw, product.tcb_layout()).ok_or(Reason::TcbReserved(which))?;
        if let Some(component) = tcb.below(floor) {
            return Ok(Some((which, component, tcb.level(component))));
        }
    }
    Ok(None)
}

fn policy_bits(report: &Report) -> Finding {
    let policy = report.policy;
    if policy.unknown_bits() != 0 || !policy.has(PolicyBit::ReservedOne) {
        return Err(Reason::PolicyBits { bits: policy.0 });
    }
    let (major, minor) = policy.abi();
    Ok(format!("{:#x}, ABI at least {major}.{minor}", policy.0))
}

fn without(report: &Report, bit: PolicyBit, reason: Reason) -> Finding {
    if report.policy.has(bit) {
        Err(reason)
    } else {
        Ok("not in the guest policy".into())
    }
}
