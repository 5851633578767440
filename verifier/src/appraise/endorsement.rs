//! Who vouches for the report: chain, signatures, and whether certificate and report speak of the same machine.

use super::{Appraiser, Finding, NO_CERTIFICATE, NO_REPORT};
use crate::appraisal::{CheckName, Outcome};
use crate::certificate::{AmdExtension, Certificate, Kind};
use crate::chain::{Chain, Root, intermediate_kind, leaf_kind};
use crate::crl::Crl;
use crate::product::Product;
use crate::reason::Reason;
use crate::report::{Report, SigningKey};
use crate::tcb::Tcb;
use crate::text::{Date, Safe};
use alloc::format;
use alloc::string::ToString;

impl Appraiser<'_> {
    pub(super) fn check_endorsement(&mut self) {
        self.on_report(CheckName::SigningKey, Self::signing_key);
        self.check_root();
        self.on_chain(CheckName::Chain, |_, chain| signatures(chain));
        self.check_dates();
        self.check_revocation();
        self.on_both(CheckName::ReportSignature, |_, report, chain| {
            report_signature(report, chain.leaf)
        });
        self.check_product();
        self.on_product(CheckName::CertificateTcb, certificate_tcb);
        self.on_product(CheckName::Chip, chip);
    }

    fn signing_key(&self, report: &Report) -> Finding {
        let Some(kind) = leaf_kind(report.key_info.signing_key) else {
            return Err(Reason::NotSigned);
        };
        if report.key_info.signing_key == SigningKey::Vlek && !self.policy.allow_vlek {
            return Err(Reason::VlekRefused);
        }
        match self.chain {
            Some(_) => Ok(kind.to_string()),
            None => Err(missing(kind, "the report")),
        }
    }

    fn check_root(&mut self) {
        self.on_chain(CheckName::Root, |_, chain| match chain.root {
            Some(Root::Trusted(root)) if root.is_emulated() => {
                Ok(format!("{}, EMULATED, trusted by flag", root.certificate()))
            }
            Some(Root::Trusted(root)) => Ok(format!("{}, AMD's, built in", root.certificate())),
            Some(Root::Carried(root)) if root.is_emulated() => Err(Reason::EmulatedRoot {
                name: root.name().into(),
            }),
            Some(Root::Carried(root)) => Err(Reason::UnknownRoot {
                name: root.name().into(),
            }),
            None => Err(match chain.intermediate {
                Some(issued) => missing(Kind::Ark, issued.name()),
                None => missing(intermediate_kind(chain.leaf.kind()), chain.leaf.name()),
            }),
        });
    }

    fn check_dates(&mut self) {
        let Some(now_s) = self.context.now_s else {
            return self.not_checked(CheckName::Dates, "the time is not known", false);
        };
        self.on_chain(CheckName::Dates, |_, chain| dates(chain, now_s));
    }

    /// AMD revokes intermediate certificates only.
    fn check_revocation(&mut self) {
        let required = self.policy.require_crl;
        let Some(Chain {
            intermediate: Some(intermediate),
            root: Some(root),
            ..
        }) = self.chain
        else {
            return self.not_checked(
                CheckName::Revocation,
                "there is no chain to a root",
                required,
            );
        };
        let lists = self.policy.crls.iter().chain(&self.evidence.carried.crls);
        let (mut current, mut seen) = (false, false);
        let mut outcome = None;
        for der in lists {
            let checked = Crl::parse(der)
                .map_err(Reason::Crl)
                .and_then(|crl| self.revocation(&crl, intermediate, root.certificate()));
            match checked {
                Ok(None) => {}
                Ok(Some(is_current)) => (current, seen) = (current || is_current, true),
                Err(reason) => outcome = outcome.or(Some(Outcome::Fail(reason))),
            }
        }
        let name = Safe(root.certificate().name());
        let outcome = outcome.unwrap_or_else(|| match (seen, current) {
            (_, true) => Outcome::Pass(format!("not on the list of {name}")),
            (true, false) => Outcome::Fail(Reason::CrlNotCurrent),
            (false, false) => Outcome::NotChecked {
                why: format!("no revocation list of {name} was given"),
                required,
            },
        });
        self.add(CheckName::Revocation, outcome);
    }

    /// Whether the list is in force; `None` if it is another root's. Without a clock every list is.
    fn revocation(
        &self,
        crl: &Crl,
        intermediate: &Certificate,
        root: &Certificate,
    ) -> Result<Option<bool>, Reason> {
        if !crl.names_as_issuer(root) {
            return Ok(None);
        }
        if !crl.is_signed_by(root) {
            return Err(Reason::CrlSignature);
        }
        // What was revoked once stays so, also after the list is out of date.
        if crl.revokes(intermediate) {
            return Err(Reason::Revoked {
                certificate: intermediate.kind(),
            });
        }
        Ok(Some(
            self.context.now_s.is_none_or(|now_s| crl.is_current(now_s)),
        ))
    }

    fn check_product(&mut self) {
        match (self.product(), self.chain) {
            (Some(product), Some(chain)) => {
                let report = self.report.ok();
                self.found(
                    CheckName::Product,
                    same_product(product, chain.leaf, report),
                );
                let allowed = if self.policy.products.contains(&product) {
                    Ok(product.to_string())
                } else {
                    Err(Reason::ProductRefused(product))
                };
                self.found(CheckName::ProductAllowed, allowed);
            }
            (None, Some(chain)) => {
                let name = chain.leaf.amd().product_name.clone();
                self.found(CheckName::Product, Err(Reason::CertificateProduct { name }));
                self.not_checked(CheckName::ProductAllowed, "the product is not known", true);
            }
            (_, None) => {
                self.not_checked(CheckName::Product, NO_CERTIFICATE, true);
                self.not_checked(CheckName::ProductAllowed, NO_CERTIFICATE, true);
            }
        }
    }

    /// A check of report and certificate that depends on the product.
    fn on_product(
        &mut self,
        name: CheckName,
        check: impl FnOnce(Product, &Report, &Certificate) -> Finding,
    ) {
        match (self.report, self.chain, self.product()) {
            (Ok(report), Some(chain), Some(product)) => {
                self.found(name, check(product, report, chain.leaf));
            }
            (Err(_), _, _) => self.not_checked(name, NO_REPORT, true),
            (_, None, _) => self.not_checked(name, NO_CERTIFICATE, true),
            (_, _, None) => self.not_checked(name, "the product is not known", true),
        }
    }
}

fn missing(kind: Kind, signs: &str) -> Reason {
    Reason::MissingCertificate {
        kind,
        signs: signs.into(),
    }
}

/// Every signature up to the root, the root's own included.
fn signatures(chain: Chain<'_>) -> Finding {
    let Some(intermediate) = chain.intermediate else {
        return Err(missing(
            intermediate_kind(chain.leaf.kind()),
            chain.leaf.name(),
        ));
    };
    signed_by(chain.leaf, intermediate)?;
    let Some(root) = chain.root else {
        return Err(missing(Kind::Ark, intermediate.name()));
    };
    let root = root.certificate();
    signed_by(intermediate, root)?;
    signed_by(root, root)?;
    Ok(format!("{} <- {} <- {}", chain.leaf, intermediate, root))
}

fn signed_by(issued: &Certificate, issuer: &Certificate) -> Result<(), Reason> {
    if !issued.names_as_issuer(issuer) {
        return Err(Reason::Issuer {
            certificate: issued.kind(),
            named: issued.issuer_name().into(),
            found: issuer.name().into(),
        });
    }
    if !issued.is_signed_by(issuer) {
        return Err(Reason::CertificateSignature {
            certificate: issued.kind(),
            issuer: issuer.name().into(),
        });
    }
    Ok(())
}

fn dates(chain: Chain<'_>, now_s: u64) -> Finding {
    let root = chain.root.map(Root::certificate);
    let mut ends_s = u64::MAX;
    for certificate in [Some(chain.leaf), chain.intermediate, root]
        .into_iter()
        .flatten()
    {
        let (from_s, until_s) = certificate.validity_s();
        let certificate = certificate.kind();
        if now_s < from_s {
            return Err(Reason::NotYetValid {
                certificate,
                from_s,
            });
        }
        if now_s > until_s {
            return Err(Reason::Expired {
                certificate,
                until_s,
            });
        }
        ends_s = ends_s.min(until_s);
    }
    Ok(format!("valid until {}", Date(ends_s)))
}

fn report_signature(report: &Report, leaf: &Certificate) -> Finding {
    match leaf.report_key() {
        Some(key) if report.is_signed_by(key) => Ok(format!("ECDSA P-384 by {leaf}")),
        _ => Err(Reason::ReportSignature),
    }
}

fn same_product(root: Product, leaf: &Certificate, report: Option<&Report>) -> Finding {
    let Some(found) = leaf.product() else {
        let name = leaf.amd().product_name.clone();
        return Err(Reason::CertificateProduct { name });
    };
    if found != root {
        let what = "certificate";
        return Err(Reason::ProductMismatch { what, root, found });
    }
    let Some(cpuid) = report.and_then(|report| report.cpuid) else {
        return Ok(format!("{root}; the report names no processor"));
    };
    match Product::from_cpuid(cpuid) {
        Some(found) if found == root => Ok(format!(
            "{root}, family {:#x} model {:#x} stepping {}",
            cpuid.family, cpuid.model, cpuid.stepping
        )),
        Some(found) => Err(Reason::ProductMismatch {
            what: "report",
            root,
            found,
        }),
        None => Err(Reason::UnknownProcessor {
            family: cpuid.family,
            model: cpuid.model,
        }),
    }
}

/// A missing extension is a failure: without it the certificate would fit any TCB version.
fn certificate_tcb(product: Product, report: &Report, leaf: &Certificate) -> Finding {
    let layout = product.tcb_layout();
    let certificate = leaf.amd().tcb(layout).map_err(Reason::MissingExtension)?;
    if certificate != report.reported_tcb {
        return Err(Reason::TcbMismatch {
            certificate,
            report: report.reported_tcb,
        });
    }
    Ok(match Tcb::decode(certificate, layout) {
        Some(tcb) => tcb.to_string(),
        None => "equal".into(),
    })
}

/// A VCEK is one chip's. A VLEK is a provider's, and good for any of its chips.
fn chip(product: Product, report: &Report, leaf: &Certificate) -> Finding {
    let amd = leaf.amd();
    if leaf.kind() == Kind::Vlek {
        return match (&amd.hwid, &amd.csp_id) {
            (Some(_), _) => Err(Reason::VlekNamesChip),
            (None, None) => Err(Reason::MissingExtension(AmdExtension::CspId)),
            (None, Some(provider)) => {
                Ok(format!("a VLEK names no chip; provider {}", Safe(provider)))
            }
        };
    }
    let hwid = amd
        .hwid
        .as_deref()
        .ok_or(Reason::MissingExtension(AmdExtension::HwId))?;
    if hwid.len() != product.chip_id_bytes() {
        return Err(Reason::HwIdLength { found: hwid.len() });
    }
    if report.key_info.mask_chip_key || report.chip_id == [0; 64] {
        return Err(Reason::ChipIdMasked);
    }
    let (chip_id, rest) = report.chip_id.split_at(hwid.len());
    if chip_id != hwid || rest.iter().any(|byte| *byte != 0) {
        return Err(Reason::ChipIdMismatch);
    }
    Ok("the certificate is this chip's".into())
}
