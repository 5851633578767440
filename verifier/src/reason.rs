//! Why evidence is refused: one variant for each way to fail a check.

use crate::certificate::{AmdExtension, CertificateError, Kind};
use crate::crl::CrlError;
use crate::product::Product;
use crate::release::ReleaseReason;
use crate::report::ReportError;
use crate::tcb::{Component, RawTcb};
use crate::text::{Date, Hex, Safe};
use alloc::string::String;
use cloister_protocol::keyconfig::KeyConfigError;
use core::fmt;

/// One of the TCB versions of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichTcb {
    /// What the signing key was derived from.
    Reported,
    /// What the machine cannot go back behind.
    Committed,
    /// What the machine runs now.
    Current,
    /// What the machine ran when the guest was launched.
    Launch,
}

impl fmt::Display for WhichTcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reported => "reported",
            Self::Committed => "committed",
            Self::Current => "current",
            Self::Launch => "launch",
        })
    }
}

/// Why a check failed. The text says what was wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The report cannot be read.
    Report(ReportError),
    /// A certificate of the evidence cannot be read.
    Certificate {
        /// Which one, counted from zero.
        index: usize,
        /// Why not.
        error: CertificateError,
    },
    /// The evidence has more certificates than the limit.
    TooManyCertificates,
    /// A certificate that the chain needs is not there.
    MissingCertificate {
        /// What it would be.
        kind: Kind,
        /// What it would have signed; the report for a VCEK or VLEK.
        signs: String,
    },
    /// The report says that it is not signed.
    NotSigned,
    /// The report is signed by a VLEK, and the policy wants a VCEK.
    VlekRefused,
    /// The chain ends in a root that the policy does not name.
    UnknownRoot {
        /// The root's name.
        name: String,
    },
    /// The chain ends in a root of an emulated platform, and the policy does not name it.
    EmulatedRoot {
        /// The root's name.
        name: String,
    },
    /// A certificate names another issuer than the one that is there.
    Issuer {
        /// The certificate.
        certificate: Kind,
        /// The issuer that it names.
        named: String,
        /// The issuer that is there.
        found: String,
    },
    /// A certificate's signature is not its issuer's.
    CertificateSignature {
        /// The certificate.
        certificate: Kind,
        /// The issuer.
        issuer: String,
    },
    /// A certificate is not valid yet.
    NotYetValid {
        /// The certificate.
        certificate: Kind,
        /// From when.
        from_s: u64,
    },
    /// A certificate is not valid any more.
    Expired {
        /// The certificate.
        certificate: Kind,
        /// Until when.
        until_s: u64,
    },
    /// A revocation list cannot be read.
    Crl(CrlError),
    /// A revocation list names the root as its issuer, but is not signed by it.
    CrlSignature,
    /// Every revocation list of the root is out of date or not in force yet.
    CrlNotCurrent,
    /// A certificate is revoked.
    Revoked {
        /// The certificate.
        certificate: Kind,
    },
    /// The report's signature is not the certificate's key's.
    ReportSignature,
    /// The certificate's product is missing or unknown.
    CertificateProduct {
        /// The name that it has.
        name: Option<String>,
    },
    /// The report's processor is of no product that is known.
    UnknownProcessor {
        /// Family.
        family: u8,
        /// Model.
        model: u8,
    },
    /// Certificates and report are of different products.
    ProductMismatch {
        /// What disagrees with the root.
        what: &'static str,
        /// The product of the root.
        root: Product,
        /// The other product.
        found: Product,
    },
    /// The policy does not accept the product.
    ProductRefused(Product),
    /// The certificate lacks an extension that a check needs.
    MissingExtension(AmdExtension),
    /// The TCB version of the certificate is not the reported one.
    TcbMismatch {
        /// The certificate's, as a report would write it.
        certificate: RawTcb,
        /// The report's.
        report: RawTcb,
    },
    /// A TCB version of the report has a level where its product has none.
    TcbReserved(WhichTcb),
    /// The hwID has not the length that it has on this product.
    HwIdLength {
        /// Its bytes.
        found: usize,
    },
    /// The chip id is masked, so that the report cannot be told to be this chip's.
    ChipIdMasked,
    /// The chip of the certificate is not the chip of the report.
    ChipIdMismatch,
    /// A VLEK names a chip.
    VlekNamesChip,
    /// The policy has no floor for the product.
    NoTcbFloor(Product),
    /// A level is below the floor.
    TcbBelowFloor {
        /// Of which TCB version.
        tcb: WhichTcb,
        /// Which level.
        component: Component,
        /// The level.
        found: u8,
        /// The least that is accepted.
        floor: u8,
    },
    /// The report was not asked for at privilege level 0.
    Vmpl {
        /// The level; `u32::MAX` for the host.
        found: u32,
    },
    /// The guest policy has bits that are not known here, or lacks the one that must be set.
    PolicyBits {
        /// The bits.
        bits: u64,
    },
    /// The host may read and change the guest's memory.
    Debug,
    /// A migration agent may be associated with the guest.
    Migration,
    /// The guest may run on a machine with SMT.
    SmtAllowed,
    /// The guest may not, but the machine has SMT on.
    SmtOn,
    /// The machine has not looked for memory aliases.
    AliasCheck,
    /// The guest was launched without ciphertext hiding.
    CiphertextHiding,
    /// The policy has no reference value.
    NoReferenceMeasurement,
    /// The measurement is none of the reference values.
    Measurement {
        /// The measurement.
        found: [u8; 48],
    },
    /// The image's release does not count.
    Release(ReleaseReason),
    /// The report's data is not the hash of epoch, keys and nonce that came with it.
    ReportData,
    /// The keys in the evidence are not the keys that will be used.
    KeyConfigsDiffer,
    /// The evidence came over TLS, and binds no key of it.
    TlsKeyMissing,
    /// The connection's key is another one than the report is bound to.
    TlsKeyDiffers,
    /// The key config list cannot be read.
    KeyConfigs(KeyConfigError),
    /// The key config list names no epoch.
    EpochMissing,
    /// The key config list belongs to another epoch than the evidence.
    EpochDiffers {
        /// The evidence's.
        evidence: u64,
        /// The list's.
        keys: u64,
    },
    /// The epoch has not begun.
    EpochNotBegun {
        /// When it does.
        start_s: u64,
    },
    /// The epoch is over.
    EpochOver {
        /// Since when.
        end_s: u64,
    },
    /// A nonce was sent, and the evidence has none.
    NonceMissing,
    /// The evidence has another nonce than the one that was sent.
    NonceDiffers,
}

impl From<ReleaseReason> for Reason {
    fn from(reason: ReleaseReason) -> Self {
        Self::Release(reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_certificates(f)
            .or_else(|| self.fmt_report(f))
            .or_else(|| self.fmt_binding(f))
            .expect("every variant is in one of the three")
    }
}

impl Reason {
    /// Reasons that lie in certificates and revocation lists.
    fn fmt_certificates(&self, f: &mut fmt::Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Certificate { index, error } => {
                write!(
                    f,
                    "certificate {index} of the evidence cannot be used: {error}"
                )
            }
            Self::TooManyCertificates => write!(f, "the evidence has too many certificates"),
            Self::MissingCertificate { kind, signs } => write!(
                f,
                "there is no {kind} certificate for {}; the server must send it, or --certs name it",
                Safe(signs)
            ),
            Self::UnknownRoot { name } => write!(
                f,
                "the chain ends in a root named {} that is not AMD's",
                Safe(name)
            ),
            Self::EmulatedRoot { name } => write!(
                f,
                "the chain ends in {} of an EMULATED platform, which protects nothing; in a test, trust it with \
                 --trust-emulated-root",
                Safe(name)
            ),
            Self::Issuer {
                certificate,
                named,
                found,
            } if named == found => write!(
                f,
                "the {certificate} names another {} as its issuer than the one that is there",
                Safe(named)
            ),
            Self::Issuer {
                certificate,
                named,
                found,
            } => write!(
                f,
                "the {certificate} names {} as its issuer, but {} is there",
                Safe(named),
                Safe(found)
            ),
            Self::CertificateSignature {
                certificate,
                issuer,
            } => write!(f, "the {certificate} is not signed by {}", Safe(issuer)),
            Self::NotYetValid {
                certificate,
                from_s,
            } => write!(
                f,
                "the {certificate} is valid from {} only; is the clock right?",
                Date(*from_s)
            ),
            Self::Expired {
                certificate,
                until_s,
            } => write!(
                f,
                "the {certificate} expired at {}; the server must renew it",
                Date(*until_s)
            ),
            Self::Crl(error) => write!(f, "a revocation list cannot be used: {error}"),
            Self::CrlSignature => write!(f, "a revocation list is not signed by the root"),
            Self::CrlNotCurrent => write!(f, "the revocation list is out of date; fetch a new one"),
            Self::Revoked { certificate } => write!(f, "AMD has revoked the {certificate}"),
            Self::CertificateProduct { name: Some(name) } => {
                write!(f, "the certificate's product {} is not known", Safe(name))
            }
            Self::CertificateProduct { name: None } => {
                write!(f, "the certificate names no product")
            }
            Self::MissingExtension(extension) => {
                write!(f, "the certificate has no extension {extension}")
            }
            Self::HwIdLength { found } => {
                write!(
                    f,
                    "the certificate's hwID has {found} bytes, not the product's length"
                )
            }
            _ => return None,
        })
    }

    /// Reasons that lie in the report.
    fn fmt_report(&self, f: &mut fmt::Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Report(error) => write!(f, "the report cannot be used: {error}"),
            Self::NotSigned => write!(f, "the report says that no key signed it"),
            Self::VlekRefused => write!(
                f,
                "the report is signed by a provider's key (VLEK), and the policy wants the chip's own"
            ),
            Self::ReportSignature => {
                write!(f, "the signature is not that of the certificate's key")
            }
            Self::UnknownProcessor { family, model } => write!(
                f,
                "the processor (family {family:#x}, model {model:#x}) is of no known product"
            ),
            Self::ProductMismatch { what, root, found } => {
                write!(f, "the {what} is of {found}, the root of {root}")
            }
            Self::ProductRefused(Product::Milan) => write!(
                f,
                "Milan is not accepted: the seed of its keys can be stolen in software (arXiv 2605.12990)"
            ),
            Self::ProductRefused(product) => write!(f, "the policy does not accept {product}"),
            Self::TcbMismatch {
                certificate,
                report,
            } => write!(
                f,
                "the certificate is for TCB {}, the report claims {}",
                Hex(&certificate.0),
                Hex(&report.0)
            ),
            Self::TcbReserved(tcb) => {
                write!(f, "the {tcb} TCB has a level where the product has none")
            }
            Self::ChipIdMasked => write!(
                f,
                "the chip id is masked, so the report cannot be told to be this chip's"
            ),
            Self::ChipIdMismatch => write!(f, "the certificate is for another chip"),
            Self::VlekNamesChip => write!(f, "the VLEK has a hwID, as no VLEK may"),
            Self::NoTcbFloor(product) => {
                write!(f, "the policy has no TCB floor for {product}; add one")
            }
            Self::TcbBelowFloor {
                tcb,
                component,
                found,
                floor,
            } => write!(
                f,
                "the {tcb} TCB has {component} {found:#04x}, below the floor {floor:#04x}: firmware with known holes"
            ),
            Self::Vmpl { found: u32::MAX } => {
                write!(f, "the host asked for the report, not the guest")
            }
            Self::Vmpl { found } => write!(f, "the report was asked for at VMPL {found}, not 0"),
            Self::PolicyBits { bits } => write!(
                f,
                "the guest policy {bits:#x} has unknown bits, or lacks the bit that must be set"
            ),
            Self::Debug => write!(
                f,
                "the guest was launched with DEBUG: the host can read its memory"
            ),
            Self::Migration => write!(f, "the guest was launched with a migration agent allowed"),
            Self::SmtAllowed => write!(f, "the guest was launched with SMT allowed"),
            Self::SmtOn => write!(f, "the machine has SMT on"),
            Self::AliasCheck => write!(
                f,
                "the machine has not checked its memory for aliases (BadRAM); its firmware is too old"
            ),
            Self::CiphertextHiding => write!(f, "the guest was launched without ciphertext hiding"),
            Self::NoReferenceMeasurement => write!(
                f,
                "there is no measurement to compare with; give one with --measurement or --policy, or a log policy whose releases \
                 name it"
            ),
            Self::Measurement { found } => write!(
                f,
                "the guest runs {}, which is not an image that is asked for",
                Hex(found)
            ),
            Self::Release(reason) => write!(f, "{reason}"),
            _ => return None,
        })
    }

    /// Reasons that lie in what the report is bound to.
    fn fmt_binding(&self, f: &mut fmt::Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::ReportData => write!(
                f,
                "the report is not bound to these keys, this epoch and this nonce"
            ),
            Self::KeyConfigsDiffer => {
                write!(
                    f,
                    "the keys in the evidence are not the keys that will be used"
                )
            }
            Self::TlsKeyMissing => write!(
                f,
                "the evidence came over TLS and binds no TLS key: the connection ends somewhere else, or its key is \
                 not shown to be the guest's"
            ),
            Self::TlsKeyDiffers => write!(
                f,
                "the TLS connection has another key than the evidence binds: it does not end in that guest"
            ),
            Self::KeyConfigs(error) => write!(f, "the keys cannot be read: {error}"),
            Self::EpochMissing => write!(f, "the keys do not say which epoch they are for"),
            Self::EpochDiffers { evidence, keys } => write!(
                f,
                "the evidence is of epoch {evidence}, the keys are of epoch {keys}"
            ),
            Self::EpochNotBegun { start_s } => write!(
                f,
                "the epoch begins at {} only; is the clock right?",
                Date(*start_s)
            ),
            Self::EpochOver { end_s } => {
                write!(f, "the epoch ended at {}; fetch new evidence", Date(*end_s))
            }
            Self::NonceMissing => write!(f, "a nonce was sent, and the evidence has none"),
            Self::NonceDiffers => write!(f, "the evidence was made for another nonce"),
            _ => return None,
        })
    }
}
