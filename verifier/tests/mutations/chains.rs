//! Chains: signatures, certificates that are missing or another's, VLEKs, revocation.

use cloister_verifier::certificate::{AmdExtension, CertificateError, EMULATED_ORGANIZATION, Kind};
use cloister_verifier::crl::CrlError;
use cloister_verifier::{Evidence, Product, Reason, WhichTcb, policy};
use rsa::RsaPrivateKey;
use rsa::traits::PublicKeyParts;

use crate::certificates::{missing, missing_extension, other_tcb, unreadable};
use crate::common::issuer::{self, Extension, RSA_ENCRYPTION, Template, amd, integer};
use crate::common::vectors;
use crate::setup::{ARK_KEY, ASK_KEY, GENOA, Mutation, STRANGER, Setup, TURIN, signed, tampered};

const LEAF: usize = 0;
const ASK: usize = 1;
const ARK: usize = 2;

fn not_signed(certificate: Kind, issuer: &str) -> [Reason; 1] {
    let issuer = issuer.into();
    [Reason::CertificateSignature {
        certificate,
        issuer,
    }]
}

fn flip(evidence: &mut Evidence, which: usize, from_end: usize) {
    let certificate = &mut evidence.carried.certificates[which];
    let at = certificate.len() - from_end;
    certificate[at] ^= 1;
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
                Reason::TcbReserved(WhichTcb::Reported),
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

/// Sends an ASK with this public key, signed by the root.
fn with_ask_key(setup: &mut Setup, public_key: Vec<u8>) {
    let name = |common_name| issuer::name(setup.organization, common_name);
    let mut ask = Template::authority(name("ARK-Genoa"), name("SEV-Genoa"), &ASK_KEY);
    ask.public_key = public_key;
    setup.authorities[0] = ask.sign(&ARK_KEY);
}

fn keys() -> Vec<Mutation> {
    let refused = [
        Reason::Certificate {
            index: ASK,
            error: CertificateError::PublicKey,
        },
        missing(Kind::Ask, "SEV-VCEK"),
        missing(Kind::Ask, "SEV-VCEK"),
    ];
    vec![
        signed(
            "ASK of 2048 bits",
            |s| {
                let modulus = &ASK_KEY.n_bytes()[256..];
                let key = issuer::rsa_numbers(RSA_ENCRYPTION, modulus, &[1, 0, 1]);
                with_ask_key(s, key);
            },
            &refused,
        ),
        signed(
            "ASK with exponent 3",
            |s| {
                let key = issuer::rsa_numbers(RSA_ENCRYPTION, &ASK_KEY.n_bytes(), &[3]);
                with_ask_key(s, key);
            },
            &refused,
        ),
        signed(
            "ASK with an even modulus",
            |s| {
                let mut modulus = ASK_KEY.n_bytes();
                modulus[511] ^= 1;
                let key = issuer::rsa_numbers(RSA_ENCRYPTION, &modulus, &[1, 0, 1]);
                with_ask_key(s, key);
            },
            &refused,
        ),
        signed(
            "ASK with a key of another algorithm",
            |s| {
                let encryption = "1.2.840.113549.1.1.7";
                let key = issuer::rsa_numbers(encryption, &ASK_KEY.n_bytes(), &[1, 0, 1]);
                with_ask_key(s, key);
            },
            &refused,
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
fn crl(serials: &[Vec<u8>], times: [&str; 2], key: &RsaPrivateKey) -> Vec<u8> {
    let name = issuer::name(EMULATED_ORGANIZATION, "ARK-Genoa");
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
    [chains(), keys(), vleks(), revocation()]
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
