//! The way from evidence to an appraisal: every check, whether or not the one before it failed.

mod binding;
mod endorsement;
mod launch;
mod release;

use crate::appraisal::{Appraisal, Check, CheckName, Outcome};
use crate::carrier::{Carried, CarrierError, MAX_CERTIFICATES};
use crate::certificate::Certificate;
use crate::chain::{Chain, Root};
use crate::policy::Policy;
use crate::product::Product;
use crate::reason::Reason;
use crate::release::{LogView, Release};
use crate::report::{Report, ReportError};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use cloister_protocol::evidence::NONCE_BYTES;
use cloister_transparency::release::ImageRelease;

/// What a guest shows of itself. None of it is believed until it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The attestation report.
    pub report: Vec<u8>,
    /// Certificates and revocation lists, in any order. The root need not be among them.
    pub carried: Carried,
    /// What the report is said to be bound to; none when a report is judged on its own.
    pub claims: Option<Claims>,
    /// The release of the image that the guest says it runs.
    pub release: Option<Release>,
}

impl Evidence {
    /// A report on its own, with certificates from files of any kind that [`Carried::add_file`] takes.
    ///
    /// # Errors
    /// [`CarrierError`], for the first file that cannot be taken apart.
    pub fn from_files<'a>(
        report: &[u8],
        files: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, CarrierError> {
        let mut carried = Carried::default();
        for file in files {
            carried.add_file(file)?;
        }
        Ok(Self {
            report: report.to_vec(),
            carried,
            claims: None,
            release: None,
        })
    }
}

/// What a report is said to be bound to; see [`cloister_protocol::evidence::report_data`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The epoch of the keys.
    pub epoch: u64,
    /// The encoded key config list.
    pub key_configs: Vec<u8>,
    /// The public key of the guest's TLS (SubjectPublicKeyInfo, DER); empty for none.
    pub tls_public_key: Vec<u8>,
    /// The nonce that the evidence was made for.
    pub nonce: Option<[u8; NONCE_BYTES]>,
}

/// What the one who asks knows of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    /// Seconds since 1970, UTC; none without a clock, and then nothing that needs one is checked.
    pub now_s: Option<u64>,
    /// The nonce that was sent.
    pub nonce: Option<&'a [u8; NONCE_BYTES]>,
    /// The encoded key config list that will be used, if it came another way than in the evidence.
    pub key_configs: Option<&'a [u8]>,
    /// The public key that the evidence's TLS connection has shown (SubjectPublicKeyInfo, DER); none without TLS.
    pub tls_public_key: Option<&'a [u8]>,
    /// What is known from reading the log itself.
    pub log_view: Option<&'a LogView>,
}

/// Appraises evidence. Never fails: what cannot be read is a failed check.
pub fn appraise(evidence: &Evidence, policy: &Policy, context: &Context<'_>) -> Appraisal {
    let report = Report::parse(&evidence.report);
    let (certificates, unreadable) = read_certificates(&evidence.carried.certificates);
    let chain = Chain::find(&certificates, policy.roots.all(), report.as_ref().ok());
    let release = release::read(evidence, policy);
    let mut appraiser = Appraiser {
        evidence,
        policy,
        context,
        report: report.as_ref(),
        chain,
        release: release.as_ref().map(Result::as_ref),
        checks: Vec::new(),
    };
    appraiser.check_report_form();
    appraiser.check_certificates(&certificates, unreadable);
    appraiser.check_endorsement();
    appraiser.check_launch();
    appraiser.check_release();
    appraiser.check_binding();
    Appraisal {
        emulated: appraiser.is_emulated(&certificates),
        test_witnesses: policy.log.as_ref().is_some_and(|log| log.test),
        checks: appraiser.checks,
    }
}

/// The certificates that can be read, and what is wrong with the first that cannot.
fn read_certificates(encoded: &[Vec<u8>]) -> (Vec<Certificate>, Option<Reason>) {
    let (mut certificates, mut unreadable) = (Vec::new(), None);
    if encoded.len() > MAX_CERTIFICATES {
        return (certificates, Some(Reason::TooManyCertificates));
    }
    for (index, der) in encoded.iter().enumerate() {
        match Certificate::parse(der) {
            Ok(certificate) => certificates.push(certificate),
            Err(error) if unreadable.is_none() => {
                unreadable = Some(Reason::Certificate { index, error });
            }
            Err(_) => {}
        }
    }
    (certificates, unreadable)
}

/// Why a check could not be made when the report cannot be read.
const NO_REPORT: &str = "the report cannot be read";

/// Why a check could not be made without a certificate for the report.
const NO_CERTIFICATE: &str = "there is no certificate for the report";

struct Appraiser<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    context: &'a Context<'a>,
    report: Result<&'a Report, &'a ReportError>,
    chain: Option<Chain<'a>>,
    /// What a release key signed, or why it is no release of an image; none without a release or a log policy.
    release: Option<Result<&'a ImageRelease, &'a Reason>>,
    checks: Vec<Check>,
}

/// What a check says: what was seen, or why not.
type Finding = Result<String, Reason>;

impl<'a> Appraiser<'a> {
    fn add(&mut self, name: CheckName, outcome: Outcome) {
        self.checks.push(Check { name, outcome });
    }

    fn found(&mut self, name: CheckName, finding: Finding) {
        self.add(name, finding.map_or_else(Outcome::Fail, Outcome::Pass));
    }

    fn not_checked(&mut self, name: CheckName, why: impl Into<String>, required: bool) {
        let why = why.into();
        self.add(name, Outcome::NotChecked { why, required });
    }

    /// A check of the report.
    fn on_report(&mut self, name: CheckName, check: impl FnOnce(&Self, &Report) -> Finding) {
        match self.report {
            Ok(report) => {
                let finding = check(self, report);
                self.found(name, finding);
            }
            Err(_) => self.not_checked(name, NO_REPORT, true),
        }
    }

    /// A check of the chain.
    fn on_chain(&mut self, name: CheckName, check: impl FnOnce(&Self, Chain<'a>) -> Finding) {
        match self.chain {
            Some(chain) => {
                let finding = check(self, chain);
                self.found(name, finding);
            }
            None => self.not_checked(name, NO_CERTIFICATE, true),
        }
    }

    /// A check of report and chain.
    fn on_both(
        &mut self,
        name: CheckName,
        check: impl FnOnce(&Self, &Report, Chain<'a>) -> Finding,
    ) {
        match (self.report, self.chain) {
            (Ok(report), Some(chain)) => {
                let finding = check(self, report, chain);
                self.found(name, finding);
            }
            (Err(_), _) => self.not_checked(name, NO_REPORT, true),
            (_, None) => self.not_checked(name, NO_CERTIFICATE, true),
        }
    }

    fn check_report_form(&mut self) {
        let finding = match self.report {
            Ok(report) => Ok(format!("version {}", report.version)),
            Err(error) => Err(Reason::Report(*error)),
        };
        self.found(CheckName::ReportForm, finding);
    }

    fn check_certificates(&mut self, certificates: &[Certificate], unreadable: Option<Reason>) {
        let finding = match unreadable {
            Some(reason) => Err(reason),
            None => Ok(format!("{} read", certificates.len())),
        };
        self.found(CheckName::Certificates, finding);
    }

    /// The product that the root vouches for, as each has its own; without a root, what the certificate says.
    fn product(&self) -> Option<Product> {
        let chain = self.chain?;
        chain.root.map_or(chain.leaf, Root::certificate).product()
    }

    /// Whether anything in the chain says that it is emulated, or its root is trusted as such.
    fn is_emulated(&self, certificates: &[Certificate]) -> bool {
        let root = self.chain.and_then(|chain| chain.root);
        matches!(root, Some(Root::Trusted(root)) if root.is_emulated())
            || certificates.iter().any(Certificate::is_emulated)
    }
}
