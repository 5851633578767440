//! Certificates: what one may not say, though its signature holds.

use cloister_verifier::certificate::{AmdExtension, CertificateError, Kind};
use cloister_verifier::tcb::RawTcb;
use cloister_verifier::{Product, Reason};

use crate::common::issuer::{self, Extension, amd, ia5, integer, sequence, time, tlv};
use crate::setup::{ASK_KEY, GENOA_TCB, Mutation, NOW_S, Setup, TURIN_TCB, signed};

/// A certificate that cannot be read is not there for the chain either.
pub(crate) fn unreadable(error: CertificateError) -> [Reason; 2] {
    let index = 0;
    [
        Reason::Certificate { index, error },
        missing(Kind::Vcek, "the report"),
    ]
}

pub(crate) fn missing(kind: Kind, signs: &str) -> Reason {
    Reason::MissingCertificate {
        kind,
        signs: signs.into(),
    }
}

fn malformed(extension: AmdExtension) -> [Reason; 2] {
    unreadable(CertificateError::AmdExtension { extension })
}

pub(crate) fn missing_extension(extension: AmdExtension) -> [Reason; 1] {
    [Reason::MissingExtension(extension)]
}

pub(crate) fn other_tcb(certificate: [u8; 8]) -> [Reason; 1] {
    [Reason::TcbMismatch {
        certificate: RawTcb(certificate),
        report: RawTcb(GENOA_TCB),
    }]
}

/// AMD's extensions in a certificate whose signature holds.
fn extensions() -> Vec<Mutation> {
    vec![
        signed(
            "without blSPL",
            |s| s.leaf.remove("3.1"),
            &missing_extension(AmdExtension::BootLoader),
        ),
        signed(
            "without teeSPL",
            |s| s.leaf.remove("3.2"),
            &missing_extension(AmdExtension::Tee),
        ),
        signed(
            "without snpSPL",
            |s| s.leaf.remove("3.3"),
            &missing_extension(AmdExtension::Snp),
        ),
        signed(
            "without ucodeSPL",
            |s| s.leaf.remove("3.8"),
            &missing_extension(AmdExtension::Microcode),
        ),
        signed(
            "Turin without fmcSPL",
            |s| s.leaf.remove("3.9"),
            &missing_extension(AmdExtension::Fmc),
        )
        .of(Setup::turin),
        signed(
            "without hwID",
            |s| s.leaf.remove("4"),
            &missing_extension(AmdExtension::HwId),
        ),
        signed(
            "without productName",
            |s| s.leaf.remove("2"),
            &[Reason::CertificateProduct { name: None }],
        ),
        signed(
            "unknown product",
            |s| s.leaf.extension("2").value = ia5("Venice"),
            &[Reason::CertificateProduct {
                name: Some("Venice".into()),
            }],
        ),
        signed(
            "another product",
            |s| s.leaf.extension("2").value = ia5("Milan-B0"),
            &[Reason::ProductMismatch {
                what: "certificate",
                root: Product::Genoa,
                found: Product::Milan,
            }],
        ),
        signed(
            "hwID of another chip",
            |s| s.leaf.extension("4").value[63] = 0,
            &[Reason::ChipIdMismatch],
        ),
        signed(
            "hwID of 8 bytes on Genoa",
            |s| s.leaf.extension("4").value.truncate(8),
            &[Reason::HwIdLength { found: 8 }],
        ),
        signed(
            "hwID of 64 bytes on Turin",
            |s| s.leaf.extension("4").value = s.report[0x1a0..0x1e0].to_vec(),
            &[Reason::HwIdLength { found: 64 }],
        )
        .of(Setup::turin),
        signed(
            "empty hwID",
            |s| s.leaf.extension("4").value.clear(),
            &[Reason::HwIdLength { found: 0 }],
        ),
        signed(
            "hwID of 65 bytes",
            |s| s.leaf.extension("4").value.push(0),
            &malformed(AmdExtension::HwId),
        ),
        signed(
            "certificate of another SNP level",
            |s| s.leaf.extension("3.3").value = integer(&[0x1c]),
            &other_tcb([10, 0, 0, 0, 0, 0, 0x1c, 0x56]),
        ),
        signed(
            "certificate of another microcode level",
            |s| s.leaf.extension("3.8").value = integer(&[0xd9]),
            &other_tcb([10, 0, 0, 0, 0, 0, 0x1b, 0xd9]),
        ),
        signed(
            "SPL 4 that is not zero",
            |s| s.leaf.extensions.push(amd("3.4", integer(&[1]))),
            &other_tcb([10, 0, 1, 0, 0, 0, 0x1b, 0x56]),
        ),
        signed(
            "Turin's FMC level is another",
            |s| s.leaf.extension("3.9").value = integer(&[2]),
            &[Reason::TcbMismatch {
                certificate: RawTcb([2, 10, 0, 0x1b, 0, 0, 0, 0x56]),
                report: RawTcb(TURIN_TCB),
            }],
        )
        .of(Setup::turin),
        signed(
            "level of 256",
            |s| s.leaf.extension("3.3").value = integer(&[1, 0]),
            &malformed(AmdExtension::Snp),
        ),
        signed(
            "negative level",
            |s| s.leaf.extension("3.3").value = vec![2, 1, 0x9b],
            &malformed(AmdExtension::Snp),
        ),
        signed(
            "level that is no integer",
            |s| s.leaf.extension("3.8").value = ia5("V"),
            &malformed(AmdExtension::Microcode),
        ),
        signed(
            "level with a byte behind it",
            |s| s.leaf.extension("3.1").value.push(0),
            &malformed(AmdExtension::BootLoader),
        ),
        signed(
            "level twice",
            |s| s.leaf.extensions.push(amd("3.3", integer(&[0x1b]))),
            &unreadable(CertificateError::ExtensionTwice),
        ),
        signed(
            "hwID twice",
            |s| s.leaf.extensions.push(amd("4", vec![0; 64])),
            &unreadable(CertificateError::ExtensionTwice),
        ),
    ]
}

/// The rest of a certificate whose signature holds.
fn fields() -> Vec<Mutation> {
    vec![
        signed(
            "expired",
            |s| s.leaf.validity[1] = time("260531235959Z"),
            &[Reason::Expired {
                certificate: Kind::Vcek,
                until_s: NOW_S - 1,
            }],
        ),
        signed(
            "not valid yet",
            |s| s.leaf.validity[0] = time("260601000001Z"),
            &[Reason::NotYetValid {
                certificate: Kind::Vcek,
                from_s: NOW_S + 1,
            }],
        ),
        signed(
            "ends before it begins",
            |s| s.leaf.validity.reverse(),
            &unreadable(CertificateError::Validity),
        ),
        signed(
            "no date",
            |s| s.leaf.validity[1] = time("261301000000Z"),
            &unreadable(CertificateError::Der),
        ),
        signed(
            "certificate of version 1",
            |s| s.leaf.version = tlv(0xa0, &integer(&[0])),
            &unreadable(CertificateError::Version),
        ),
        signed(
            "negative serial number",
            |s| s.leaf.serial = vec![2, 1, 0xff],
            &unreadable(CertificateError::Serial),
        ),
        signed(
            "serial number of 21 bytes",
            |s| s.leaf.serial = tlv(2, &[1; 21]),
            &unreadable(CertificateError::Serial),
        ),
        signed(
            "salt of 32 bytes",
            |s| {
                s.leaf
                    .algorithms
                    .iter_mut()
                    .for_each(|a| *a.last_mut().expect("not empty") = 0x20)
            },
            &unreadable(CertificateError::SignatureAlgorithm),
        ),
        signed(
            "SHA-256",
            |s| s.leaf.algorithms.iter_mut().for_each(|a| a[29] = 1),
            &unreadable(CertificateError::SignatureAlgorithm),
        ),
        signed(
            "algorithms that disagree",
            |s| {
                let trailer = [0xa3, 3, 2, 1, 1];
                let algorithm = &mut s.leaf.algorithms[1];
                algorithm.extend(trailer);
                algorithm[1] += 5;
                algorithm[14] += 5;
            },
            &unreadable(CertificateError::SignatureAlgorithm),
        ),
        signed(
            "another name",
            |s| s.leaf.subject = issuer::name(s.organization, "SEV-VCEK2"),
            &unreadable(CertificateError::Name),
        ),
        signed(
            "an RSA key where P-384 should be",
            |s| {
                let template = issuer::Template::authority(vec![], vec![], &ASK_KEY);
                s.leaf.public_key = template.public_key;
            },
            &unreadable(CertificateError::PublicKey),
        ),
        signed(
            "a point that is not on the curve",
            |s| {
                let mut point = issuer::point(&s.report_key);
                point[96] ^= 1;
                s.leaf.public_key = issuer::p384_public_key(&point);
            },
            &unreadable(CertificateError::PublicKey),
        ),
        signed(
            "a point said to be on another curve",
            |s| {
                // The last byte of secp384r1, 1.3.132.0.34; 1.3.132.0.35 is secp521r1.
                let key = &mut s.leaf.public_key;
                let at = key.windows(5).position(|w| w == [0x2b, 0x81, 4, 0, 0x22]);
                key[at.expect("the curve is named") + 4] = 0x23;
            },
            &unreadable(CertificateError::PublicKey),
        ),
        signed(
            "a compressed point",
            |s| {
                let mut point = issuer::point(&s.report_key)[..49].to_vec();
                point[0] = 2;
                s.leaf.public_key = issuer::p384_public_key(&point);
            },
            &unreadable(CertificateError::PublicKey),
        ),
        signed(
            "an authority by its constraints",
            |s| {
                s.leaf.extensions.push(Extension {
                    oid: "2.5.29.19".into(),
                    critical: true,
                    value: sequence(&[&tlv(1, &[0xff])]),
                });
            },
            &unreadable(CertificateError::Authority),
        ),
        signed(
            "an authority by its usage",
            |s| {
                s.leaf.extensions.push(Extension {
                    oid: "2.5.29.15".into(),
                    critical: true,
                    value: tlv(3, &[2, 4]),
                });
            },
            &unreadable(CertificateError::Authority),
        ),
        signed(
            "unknown critical extension",
            |s| {
                s.leaf.extensions.push(Extension {
                    oid: "2.5.29.36".into(),
                    critical: true,
                    value: sequence(&[]),
                });
            },
            &unreadable(CertificateError::CriticalExtension),
        ),
        signed(
            "unknown extension twice",
            |s| {
                for _ in 0..2 {
                    s.leaf.extensions.push(Extension {
                        oid: "1.2.3".into(),
                        critical: false,
                        value: vec![],
                    });
                }
            },
            &unreadable(CertificateError::ExtensionTwice),
        ),
        signed(
            "too many extensions",
            |s| {
                for number in 0..20 {
                    s.leaf.extensions.push(Extension {
                        oid: format!("1.2.3.{number}"),
                        critical: false,
                        value: vec![],
                    });
                }
            },
            &unreadable(CertificateError::Extension),
        ),
    ]
}

pub(crate) fn all() -> Vec<Mutation> {
    [extensions(), fields()].into_iter().flatten().collect()
}
