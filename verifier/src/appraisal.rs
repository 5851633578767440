//! What came of every check, and how it is shown.

use crate::reason::Reason;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One of the checks, in the order of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckName {
    /// The report has a known version and form.
    ReportForm,
    /// Every certificate can be read.
    Certificates,
    /// The report is signed by a kind of key that is accepted.
    SigningKey,
    /// The chain ends in a root of the policy.
    Root,
    /// Every certificate is signed by the next.
    Chain,
    /// Every certificate is valid now.
    Dates,
    /// No certificate is revoked.
    Revocation,
    /// The report is signed by the chip's or the provider's key.
    ReportSignature,
    /// Root, certificate and report are of one product.
    Product,
    /// The product is accepted.
    ProductAllowed,
    /// The certificate's TCB version is the reported one.
    CertificateTcb,
    /// The certificate is for the report's chip.
    Chip,
    /// No TCB version is below the floor.
    TcbFloor,
    /// The guest itself asked, at the highest privilege level.
    Vmpl,
    /// The guest policy has no unknown bits.
    PolicyBits,
    /// No debugging by the host.
    Debug,
    /// No migration agent.
    Migration,
    /// SMT is as the policy says.
    Smt,
    /// The machine checked its memory for aliases.
    AliasCheck,
    /// Ciphertext is hidden from the host.
    CiphertextHiding,
    /// The guest runs an image that is asked for.
    Measurement,
    /// A release key has signed that this is a released image.
    Release,
    /// The release is valid now.
    ReleaseDates,
    /// No TCB version is below what the release asks for.
    ReleaseTcb,
    /// The guest was launched with no permission that the release does not give.
    ReleasePolicy,
    /// That release is in the log.
    Log,
    /// The log does not withdraw it.
    Withdrawn,
    /// The report is bound to the keys that will be used.
    KeyBinding,
    /// The TLS connection ends in the guest: its key is the one that the report is bound to.
    TlsKey,
    /// The keys' epoch is current.
    Epoch,
    /// The evidence was made for the nonce that was sent.
    Nonce,
}

impl CheckName {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReportForm => "report form",
            Self::Certificates => "certificates",
            Self::SigningKey => "signing key",
            Self::Root => "root certificate",
            Self::Chain => "certificate chain",
            Self::Dates => "certificate dates",
            Self::Revocation => "revocation",
            Self::ReportSignature => "report signature",
            Self::Product => "product",
            Self::ProductAllowed => "product allowed",
            Self::CertificateTcb => "certificate TCB",
            Self::Chip => "chip id",
            Self::TcbFloor => "TCB floor",
            Self::Vmpl => "VMPL",
            Self::PolicyBits => "guest policy",
            Self::Debug => "no debug",
            Self::Migration => "no migration agent",
            Self::Smt => "SMT",
            Self::AliasCheck => "memory alias check",
            Self::CiphertextHiding => "ciphertext hiding",
            Self::Measurement => "measurement",
            Self::Release => "release",
            Self::ReleaseDates => "release dates",
            Self::ReleaseTcb => "release TCB",
            Self::ReleasePolicy => "release policy",
            Self::Log => "measurement in log",
            Self::Withdrawn => "not withdrawn",
            Self::KeyBinding => "key binding",
            Self::TlsKey => "TLS key",
            Self::Epoch => "epoch",
            Self::Nonce => "nonce",
        }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds; the text says what was seen.
    Pass(String),
    /// It does not hold.
    Fail(Reason),
    /// It could not be checked.
    NotChecked {
        /// Why not.
        why: String,
        /// Whether the evidence is refused for that.
        required: bool,
    },
}

impl Outcome {
    /// `PASS`, `FAIL` or `NOT CHECKED`.
    pub const fn status(&self) -> &'static str {
        match self {
            Self::Pass(_) => "PASS",
            Self::Fail(_) => "FAIL",
            Self::NotChecked { .. } => "NOT CHECKED",
        }
    }

    /// Whether evidence with this outcome can be accepted.
    pub const fn is_acceptable(&self) -> bool {
        matches!(
            self,
            Self::Pass(_)
                | Self::NotChecked {
                    required: false,
                    ..
                }
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(seen) => f.write_str(seen),
            Self::Fail(reason) => write!(f, "{reason}"),
            Self::NotChecked {
                why,
                required: true,
            } => write!(f, "{why} (required)"),
            Self::NotChecked { why, .. } => f.write_str(why),
        }
    }
}

/// A check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which check.
    pub name: CheckName,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.outcome.status();
        write!(f, "{status:<11}  {:<19}  {}", self.name, self.outcome)
    }
}

/// What no appraisal can tell, whatever the evidence.
pub const NEVER_CHECKED: [&str; 6] = [
    "physical attacks on the machine: memory interposers (Battering RAM, WireTap, TEE.fail), glitching, probing",
    "side channels: caches, branch predictors, ciphertext, power, page faults, timing",
    "AMD: its keys, its firmware, its design, and holes in them that no TCB level names yet",
    "revocation of single VCEK and VLEK certificates, for which AMD has no list",
    "what the image does: the measurement says which program runs, not that it is free of errors",
    "the network: who sees addresses, times and sizes of messages, and whether answers arrive",
];

const EMULATED: &str =
    "EMULATED EVIDENCE: its root is not AMD's, and it proves nothing about any machine.";

const TEST_WITNESSES: &str = "TEST WITNESSES: the log and its witnesses are for tests, and show no one that others see the same log.";

const WITHOUT_LOG: &str = "NOT IN A LOG (--without-log): nothing shows that this image was published for others to check.";

/// Every check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    pub(crate) checks: Vec<Check>,
    pub(crate) emulated: bool,
    pub(crate) test_witnesses: bool,
}

impl Appraisal {
    /// The checks, in the order of the output; each once.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether nothing that is required failed or was left unchecked.
    pub fn is_accepted(&self) -> bool {
        !self.checks.is_empty()
            && self
                .checks
                .iter()
                .all(|check| check.outcome.is_acceptable())
    }

    /// Whether the evidence is that of an emulated platform, trusted or not. It proves nothing about a machine.
    pub fn is_emulated(&self) -> bool {
        self.emulated
    }

    /// Whether the image's release is shown to be in a log that the policy names.
    pub fn is_logged(&self) -> bool {
        matches!(self.outcome(CheckName::Log), Some(Outcome::Pass(_)))
    }

    /// Whether the policy says of its log and witnesses that they are for tests.
    pub fn has_test_witnesses(&self) -> bool {
        self.test_witnesses
    }

    /// What stands above all else in every output: that the evidence is worth less than it looks.
    pub fn notices(&self) -> impl Iterator<Item = &'static str> {
        let log = self.outcome(CheckName::Log);
        let without_log = matches!(
            log,
            Some(Outcome::NotChecked {
                required: false,
                ..
            })
        );
        [
            (self.emulated, EMULATED),
            (self.test_witnesses, TEST_WITNESSES),
            (without_log, WITHOUT_LOG),
        ]
        .into_iter()
        .filter_map(|(applies, notice)| applies.then_some(notice))
    }

    /// Why the evidence is refused, in the order of the checks.
    pub fn reasons(&self) -> impl Iterator<Item = &Reason> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::Fail(reason) => Some(reason),
            _ => None,
        })
    }

    /// What came of one check.
    pub fn outcome(&self, name: CheckName) -> Option<&Outcome> {
        self.checks
            .iter()
            .find(|check| check.name == name)
            .map(|check| &check.outcome)
    }

    /// The verdict in one line.
    pub fn verdict(&self) -> &'static str {
        match (self.is_accepted(), self.emulated) {
            (true, false) if self.test_witnesses => {
                "ACCEPTED WITH TEST WITNESSES: the log proves nothing, for tests only"
            }
            (true, false) => "ACCEPTED",
            (true, true) => "ACCEPTED AS EMULATED: protects nothing, for tests only",
            (false, false) => "REFUSED",
            (false, true) => "REFUSED (EMULATED)",
        }
    }
}

impl fmt::Display for Appraisal {
    /// The notices, one line for each check, what is never checked, the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for notice in self.notices() {
            writeln!(f, "{notice}")?;
        }
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        writeln!(f, "Never checked, whatever the evidence:")?;
        for item in NEVER_CHECKED {
            writeln!(f, "  - {item}")?;
        }
        let count = |status| {
            let with_status = |check: &&Check| check.outcome.status() == status;
            self.checks.iter().filter(with_status).count()
        };
        writeln!(
            f,
            "{} ({} passed, {} failed, {} not checked)",
            self.verdict(),
            count("PASS"),
            count("FAIL"),
            count("NOT CHECKED")
        )
    }
}
