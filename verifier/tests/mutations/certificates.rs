//! Certificates: what a signed one may say, what may not be done to a signed one, and how chains go wrong.

use cloister_verifier::certificate::{AmdExtension, CertificateError, Kind};
use cloister_verifier::crl::CrlError;
use cloister_verifier::tcb::RawTcb;
use cloister_verifier::{Evidence, Product, Reason, policy};

use crate::common::issuer::{self, Extension, amd, ia5, integer, sequence, time, tlv};
use crate::common::vectors;
use crate::setup::{
    ARK_KEY, ASK_KEY, GENOA, GENOA_TCB, Mutation, STRANGER, Setup, TURIN, TURIN_TCB, signed,
    tampered,
};

const LEAF: usize = 0;
const ASK: usize = 1;
const ARK: usize = 2;

/// A certificate that cannot be read is not there for the chain either.
fn unreadable(error: CertificateError) -> [Reason; 2] {
    let index = LEAF;
    [
        Reason::Certificate { index, error },
        missing(Kind::Vcek, "the report"),
    ]
}

fn missing(kind: Kind, signs: &str) -> Reason {
    Reason::MissingCertificate {
        kind,
        signs: signs.into(),
    }
}

fn not_signed(certificate: Kind, issuer: &str) -> [Reason; 1] {
    let issuer = issuer.into();
    [Reason::CertificateSignature {
        certificate,
        issuer,
    }]
}

fn malformed(extension: AmdExtension) -> [Reason; 2] {
    unreadable(CertificateError::AmdExtension { extension })
}

fn missing_extension(extension: AmdExtension) -> [Reason; 1] {
    [Reason::MissingExtension(extension)]
}

fn other_tcb(certificate: [u8; 8]) -> [Reason; 1] {
    [Reason::TcbMismatch {
        certificate: RawTcb(certificate),
        report: RawTcb(GENOA_TCB),
    }]
}

fn flip(evidence: &mut Evidence, which: usize, from_end: usize) {
    let certificate = &mut evidence.carried.certificates[which];
    let at = certificate.len() - from_end;
    certificate[at] ^= 1;
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
                until_s: crate::setup::NOW_S - 1,
            }],
        ),
        signed(
            "not valid yet",
            |s| s.leaf.validity[0] = time("260601000001Z"),
            &[Reason::NotYetValid {
                certificate: Kind::Vcek,
                from_s: crate::setup::NOW_S + 1,
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

/// Signatures, missing certificates, strangers.
fn chains() -> Vec<Mutation> {
    let genoa_ask = [
        missing(Kind::Ask, "SEV-VCEK"),
        missing(Kind::Ask, "SEV-VCEK"),
    ];
    vec![
        tampered(
            "signature of the VCEK",
            |e| flip(e, LEAF, 1),
            &not_signed(Kind::Vcek, "SEV-Genoa"),
        ),
        tampered(
            "signature of the ASK",
            |e| flip(e, ASK, 1),
            &not_signed(Kind::Ask, "ARK-Genoa"),
        ),
        tampered(
            "last byte of the VCEK's signed part",
            |e| flip(e, LEAF, 512 + 5 + 67 + 1),
            // The last byte of the hwID.
            &[
                not_signed(Kind::Vcek, "SEV-Genoa")[0].clone(),
                Reason::ChipIdMismatch,
            ],
        ),
        signed(
            "VCEK signed by the root itself",
            |s| s.leaf_key = &ARK_KEY,
            &not_signed(Kind::Vcek, "SEV-Genoa"),
        ),
        tampered(
            "VCEK cut off",
            |e| {
                e.carried.certificates[LEAF].pop();
            },
            &unreadable(CertificateError::Der),
        ),
        tampered(
            "byte behind the VCEK",
            |e| e.carried.certificates[LEAF].push(0),
            &unreadable(CertificateError::Der),
        ),
        tampered(
            "VCEK too large",
            |e| e.carried.certificates[LEAF].resize(5000, 0),
            &unreadable(CertificateError::TooLarge),
        ),
        tampered(
            "ASK that cannot be read",
            |e| e.carried.certificates[ASK].truncate(100),
            &[
                Reason::Certificate {
                    index: ASK,
                    error: CertificateError::Der,
                },
                genoa_ask[0].clone(),
                genoa_ask[1].clone(),
            ],
        ),
        tampered(
            "no VCEK",
            |e| drop(e.carried.certificates.remove(LEAF)),
            &[missing(Kind::Vcek, "the report")],
        ),
        tampered(
            "no certificate",
            |e| e.carried.certificates.clear(),
            &[missing(Kind::Vcek, "the report")],
        ),
        tampered(
            "no ASK",
            |e| drop(e.carried.certificates.remove(ASK)),
            &genoa_ask,
        ),
        tampered(
            "ASVK for ASK",
            |e| e.carried.certificates[ASK] = GENOA.asvk.clone(),
            &genoa_ask,
        ),
        tampered(
            "VCEK of another chip",
            |e| {
                let mut other = Setup::genoa();
                other.report_key = issuer::p384_key(9);
                other.leaf.public_key = issuer::p384_public_key(&issuer::point(&other.report_key));
                other.leaf.extension("4").value = vec![0x77; 64];
                e.carried.certificates[LEAF] = other.evidence().carried.certificates[LEAF].clone();
            },
            &[Reason::ReportSignature, Reason::ChipIdMismatch],
        ),
        tampered(
            "ASK of another product",
            |e| e.carried.certificates[ASK] = TURIN.ask.clone(),
            &[
                Reason::Issuer {
                    certificate: Kind::Vcek,
                    named: "SEV-Genoa".into(),
                    found: "SEV-Turin".into(),
                },
                Reason::ProductMismatch {
                    what: "certificate",
                    root: Product::Turin,
                    found: Product::Genoa,
                },
                // Turin's layout has other levels at these places.
                Reason::MissingExtension(AmdExtension::Fmc),
                Reason::HwIdLength { found: 64 },
                Reason::TcbReserved(cloister_verifier::WhichTcb::Reported),
            ],
        ),
        tampered(
            "AMD's ASK for an emulated VCEK",
            |e| {
                e.carried.certificates[ASK] = vectors::read("chains/genoa-ask.der");
                e.carried.certificates[ARK] = vectors::read("chains/genoa-ark.der");
            },
            &[Reason::Issuer {
                certificate: Kind::Vcek,
                named: "SEV-Genoa".into(),
                found: "SEV-Genoa".into(),
            }],
        ),
        signed(
            "emulated root that is not trusted",
            |s| s.policy.roots = policy::Roots::amd(),
            &[Reason::EmulatedRoot {
                name: "ARK-Genoa".into(),
            }],
        ),
        signed(
            "emulated root that is not trusted and not sent",
            |s| {
                s.policy.roots = policy::Roots::amd();
                s.authorities.pop();
            },
            &[
                missing(Kind::Ark, "SEV-Genoa"),
                missing(Kind::Ark, "SEV-Genoa"),
            ],
        ),
        signed(
            "unknown root",
            |s| s.by("Somebody", &STRANGER),
            &[Reason::UnknownRoot {
                name: "ARK-Genoa".into(),
            }],
        ),
        tampered(
            "17 certificates",
            |e| e.carried.certificates.resize(17, GENOA.ark.clone()),
            &[
                Reason::TooManyCertificates,
                missing(Kind::Vcek, "the report"),
            ],
        ),
    ]
}

fn vleks() -> Vec<Mutation> {
    vec![
        signed(
            "VLEK refused",
            |s| s.policy.allow_vlek = false,
            &[Reason::VlekRefused],
        )
        .of(Setup::vlek),
        signed(
            "VLEK with a chip",
            |s| s.leaf.extensions.push(amd("4", vec![0; 64])),
            &[Reason::VlekNamesChip],
        )
        .of(Setup::vlek),
        signed(
            "VLEK without a provider",
            |s| s.leaf.remove("5"),
            &missing_extension(AmdExtension::CspId),
        )
        .of(Setup::vlek),
        signed(
            "VLEK of another TCB",
            |s| s.leaf.extension("3.8").value = integer(&[0x57]),
            &other_tcb([10, 0, 0, 0, 0, 0, 0x1b, 0x57]),
        )
        .of(Setup::vlek),
        signed(
            "VLEK under the ASK",
            |s| s.authorities[0] = GENOA.ask.clone(),
            &[
                missing(Kind::Asvk, "SEV-VLEK"),
                missing(Kind::Asvk, "SEV-VLEK"),
            ],
        )
        .of(Setup::vlek),
        signed(
            "VLEK where the report says VCEK",
            |s| s.set(0x48, &[0]),
            &[missing(Kind::Vcek, "the report")],
        )
        .of(Setup::vlek),
    ]
}

/// A list of the emulated Genoa root.
fn crl(serials: &[Vec<u8>], times: [&str; 2], key: &rsa::RsaPrivateKey) -> Vec<u8> {
    let name = issuer::name(
        cloister_verifier::certificate::EMULATED_ORGANIZATION,
        "ARK-Genoa",
    );
    issuer::crl(&name, times, serials, &[crl_number(false)], key)
}

fn crl_number(critical: bool) -> Extension {
    Extension {
        oid: "2.5.29.20".into(),
        critical,
        value: integer(&[1]),
    }
}

const CURRENT: [&str; 2] = ["260501000000Z", "270501000000Z"];

fn revocation() -> Vec<Mutation> {
    vec![
        signed(
            "revoked ASK",
            |s| {
                s.crls = vec![crl(
                    &[integer(&[5]), integer(&[1, 0, 1])],
                    CURRENT,
                    &ARK_KEY,
                )]
            },
            &[Reason::Revoked {
                certificate: Kind::Ask,
            }],
        ),
        signed(
            "revoked ASK on the policy's list",
            |s| s.policy.crls = vec![crl(&[integer(&[1, 0, 1])], CURRENT, &ARK_KEY)],
            &[Reason::Revoked {
                certificate: Kind::Ask,
            }],
        ),
        signed(
            "list that the root did not sign",
            |s| s.crls = vec![crl(&[], CURRENT, &ASK_KEY)],
            &[Reason::CrlSignature],
        ),
        signed(
            "list out of date",
            |s| s.crls = vec![crl(&[], ["250501000000Z", "260501000000Z"], &ARK_KEY)],
            &[Reason::CrlNotCurrent],
        ),
        signed(
            "list of the future",
            |s| s.crls = vec![crl(&[], ["260701000000Z", "270501000000Z"], &ARK_KEY)],
            &[Reason::CrlNotCurrent],
        ),
        signed(
            "list with a critical extension",
            |s| {
                let name = issuer::name(s.organization, "ARK-Genoa");
                let list = issuer::crl(&name, CURRENT, &[], &[crl_number(true)], &ARK_KEY);
                s.crls = vec![list];
            },
            &[Reason::Crl(CrlError::CriticalExtension)],
        ),
        signed(
            "list that cannot be read",
            |s| s.crls = vec![vec![0x30]],
            &[Reason::Crl(CrlError::Der)],
        ),
    ]
}

pub(crate) fn all() -> Vec<Mutation> {
    [extensions(), fields(), chains(), vleks(), revocation()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn a_list_of_the_root_that_does_not_revoke_is_good_and_can_be_required() {
    let mut setup = Setup::genoa();
    setup.policy.require_crl = true;
    assert!(!setup.appraise(&setup.evidence()).is_accepted());
    setup.crls = vec![crl(&[integer(&[5])], CURRENT, &ARK_KEY)];
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    // One that is out of date does no harm beside it.
    let old = crl(&[], ["250501000000Z", "260501000000Z"], &ARK_KEY);
    setup.policy.crls = vec![old];
    assert!(setup.appraise(&setup.evidence()).is_accepted());
}

#[test]
fn a_root_that_is_sent_but_altered_is_not_needed() {
    let setup = Setup::genoa();
    let mut evidence = setup.evidence();
    flip(&mut evidence, ARK, 1);
    assert!(setup.appraise(&evidence).is_accepted());
}

#[test]
fn no_byte_of_a_certificate_can_be_altered() {
    let setup = Setup::genoa();
    let good = setup.evidence();
    for which in [LEAF, ASK] {
        let bytes = good.carried.certificates[which].len();
        for at in (0..bytes).step_by(3) {
            let mut evidence = good.clone();
            evidence.carried.certificates[which][at] ^= 1 << (at % 8);
            let appraisal = setup.appraise(&evidence);
            assert!(!appraisal.is_accepted(), "{which}, {at:#x}");
            let right = appraisal.reasons().any(|reason| {
                matches!(
                    reason,
                    Reason::Certificate { .. }
                        | Reason::CertificateSignature { .. }
                        | Reason::Issuer { .. }
                        | Reason::MissingCertificate { .. }
                )
            });
            assert!(right, "{which}, {at:#x}\n{appraisal}");
        }
    }
}
