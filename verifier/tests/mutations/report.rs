//! The report: what a signed one may say, and what may not be done to a signed one.

use cloister_verifier::certificate::Kind;
use cloister_verifier::report::FIELDS;
use cloister_verifier::tcb::{Component, RawTcb};
use cloister_verifier::{Product, Reason, ReportError, WhichTcb};

use crate::setup::{GENOA_TCB, MEASUREMENT, Mutation, Setup, signed, tampered};

/// The order of P-384, little-endian.
const ORDER: [u8; 48] = [
    0x73, 0x29, 0xc5, 0xcc, 0x6a, 0x19, 0xec, 0xec, 0x7a, 0xa7, 0xb0, 0x48, 0xb2, 0x0d, 0x1a, 0x58,
    0xdf, 0x2d, 0x37, 0xf4, 0x81, 0x4d, 0x63, 0xc7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

const R: usize = 0x2a0;
const S: usize = 0x2e8;

fn reserved(offset: usize) -> [Reason; 1] {
    [Reason::Report(ReportError::Reserved { offset })]
}

fn padding(offset: usize) -> [Reason; 1] {
    [Reason::Report(ReportError::SignaturePadding { offset })]
}

fn below(tcb: WhichTcb) -> Reason {
    Reason::TcbBelowFloor {
        tcb,
        component: Component::Snp,
        found: 0x1a,
        floor: 0x1b,
    }
}

const OLD_TCB: [u8; 8] = [10, 0, 0, 0, 0, 0, 0x1a, 0x56];

/// Launch and guest policy.
fn launch() -> Vec<Mutation> {
    vec![
        signed("debug", |s| s.set(0x0a, &[0x0b]), &[Reason::Debug]),
        signed(
            "migration agent",
            |s| s.set(0x0a, &[0x07]),
            &[Reason::Migration],
        ),
        signed(
            "debug and migration agent",
            |s| s.set(0x0a, &[0x0f]),
            &[Reason::Debug, Reason::Migration],
        ),
        signed(
            "policy without the bit that must be set",
            |s| s.set(0x0a, &[0x01]),
            &[Reason::PolicyBits { bits: 0x1_0000 }],
        ),
        signed(
            "policy with an unknown bit",
            |s| s.set(0x0d, &[0x01]),
            &[Reason::PolicyBits {
                bits: 0x100_0003_0000,
            }],
        ),
        signed(
            "policy with the first bit that is unknown",
            |s| s.set(0x0b, &[0x04]),
            &[Reason::PolicyBits { bits: 0x403_0000 }],
        ),
        signed(
            "SMT allowed",
            |s| s.policy.allow_smt = false,
            &[Reason::SmtAllowed],
        ),
        signed(
            "SMT on",
            |s| {
                s.policy.allow_smt = false;
                s.set(0x0a, &[0x02]);
            },
            &[Reason::SmtOn],
        ),
        signed(
            "VMPL 1",
            |s| s.set(0x30, &[1]),
            &[Reason::Vmpl { found: 1 }],
        ),
        signed(
            "VMPL 3",
            |s| s.set(0x30, &[3]),
            &[Reason::Vmpl { found: 3 }],
        ),
        signed(
            "VMPL 256",
            |s| s.set(0x31, &[1]),
            &[Reason::Vmpl { found: 256 }],
        ),
        signed(
            "report for the host",
            |s| s.set(0x30, &[0xff; 4]),
            &[Reason::Vmpl { found: u32::MAX }],
        ),
        signed(
            "no alias check",
            |s| s.set(0x40, &[0x05]),
            &[Reason::AliasCheck],
        ),
        signed(
            "no ciphertext hiding",
            |s| s.policy.require_ciphertext_hiding = true,
            &[Reason::CiphertextHiding],
        ),
        signed(
            "another image",
            |s| s.set(0xbf, &[0x3c]),
            &[Reason::Measurement {
                found: {
                    let mut found = MEASUREMENT;
                    found[47] = 0x3c;
                    found
                },
            }],
        ),
        signed(
            "no reference value",
            |s| s.policy.measurements.clear(),
            &[Reason::NoReferenceMeasurement],
        ),
    ]
}

/// TCB versions, chip, product.
fn platform() -> Vec<Mutation> {
    vec![
        signed(
            "reported TCB above the certificate's",
            |s| s.set(0x187, &[0x57]),
            &[Reason::TcbMismatch {
                certificate: RawTcb(GENOA_TCB),
                report: RawTcb([10, 0, 0, 0, 0, 0, 0x1b, 0x57]),
            }],
        ),
        signed(
            "swapped levels",
            |s| s.set(0x186, &[0x56, 0x1b]),
            &[
                Reason::TcbMismatch {
                    certificate: RawTcb(GENOA_TCB),
                    report: RawTcb([10, 0, 0, 0, 0, 0, 0x56, 0x1b]),
                },
                Reason::TcbBelowFloor {
                    tcb: WhichTcb::Reported,
                    component: Component::Microcode,
                    found: 0x1b,
                    floor: 0x56,
                },
            ],
        ),
        signed(
            "reported TCB below the floor, and the certificate with it",
            |s| {
                s.set(0x180, &OLD_TCB);
                s.leaf.extension("3.3").value = vec![2, 1, 0x1a];
            },
            &[below(WhichTcb::Reported)],
        ),
        signed(
            "committed TCB below the floor",
            |s| s.set(0x1e0, &OLD_TCB),
            &[below(WhichTcb::Committed)],
        ),
        signed(
            "current TCB below the floor",
            |s| s.set(0x38, &OLD_TCB),
            &[below(WhichTcb::Current)],
        ),
        signed(
            "launch TCB below the floor",
            |s| s.set(0x1f0, &OLD_TCB),
            &[below(WhichTcb::Launch)],
        ),
        signed(
            "a level where Genoa has none",
            |s| s.set(0x3b, &[1]),
            &[Reason::TcbReserved(WhichTcb::Current)],
        ),
        signed(
            "no floor for the product",
            |s| s.policy.tcb_floors.clear(),
            &[Reason::NoTcbFloor(Product::Genoa)],
        ),
        signed(
            "another chip",
            |s| s.set(0x1df, &[0]),
            &[Reason::ChipIdMismatch],
        ),
        signed(
            "no chip",
            |s| s.set(0x1a0, &[0; 64]),
            &[Reason::ChipIdMasked],
        ),
        signed(
            "masked chip",
            |s| s.set(0x48, &[2]),
            &[Reason::ChipIdMasked],
        ),
        signed(
            "processor of another product",
            |s| s.set(0x189, &[1]),
            &[Reason::ProductMismatch {
                what: "report",
                root: Product::Genoa,
                found: Product::Milan,
            }],
        ),
        signed(
            "unknown processor",
            |s| s.set(0x188, &[0x1b]),
            &[Reason::UnknownProcessor {
                family: 0x1b,
                model: 0x11,
            }],
        ),
        signed(
            "product that is not accepted",
            |s| s.policy.products = vec![Product::Turin],
            &[Reason::ProductRefused(Product::Genoa)],
        ),
        signed(
            "Turin with Genoa's layout of levels",
            |s| s.set_tcbs(GENOA_TCB),
            &[
                Reason::TcbMismatch {
                    certificate: RawTcb(crate::setup::TURIN_TCB),
                    report: RawTcb(GENOA_TCB),
                },
                Reason::TcbReserved(WhichTcb::Reported),
            ],
        )
        .of(Setup::turin),
        signed(
            "Turin with more chip id than 8 bytes",
            |s| s.set(0x1df, &[1]),
            &[Reason::ChipIdMismatch],
        )
        .of(Setup::turin),
        signed(
            "Turin's SNP level below the floor",
            |s| {
                s.set_tcbs([1, 10, 0, 3, 0, 0, 0, 0x56]);
                s.leaf.extension("3.3").value = vec![2, 1, 3];
            },
            &[Reason::TcbBelowFloor {
                tcb: WhichTcb::Reported,
                component: Component::Snp,
                found: 3,
                floor: 4,
            }],
        )
        .of(Setup::turin),
    ]
}

/// Form: what is not a report, whoever signed it.
fn form() -> Vec<Mutation> {
    let version = |found| [Reason::Report(ReportError::Version { found })];
    let key_info = |found| [Reason::Report(ReportError::KeyInfo { found })];
    vec![
        signed("version 0", |s| s.set(0, &[0]), &version(0)),
        signed("version 1", |s| s.set(0, &[1]), &version(1)),
        signed("version 6", |s| s.set(0, &[6]), &version(6)),
        signed("version 0x103", |s| s.set(1, &[1]), &version(0x103)),
        signed(
            "no signature algorithm",
            |s| s.set(0x34, &[0]),
            &[Reason::Report(ReportError::SignatureAlgorithm { found: 0 })],
        ),
        signed(
            "unknown signature algorithm",
            |s| s.set(0x34, &[2]),
            &[Reason::Report(ReportError::SignatureAlgorithm { found: 2 })],
        ),
        signed(
            "not signed",
            |s| s.set(0x48, &[7 << 2]),
            &[Reason::NotSigned],
        ),
        signed(
            "unknown signing key",
            |s| s.set(0x48, &[2 << 2]),
            &key_info(8),
        ),
        signed(
            "unknown key flag",
            |s| s.set(0x48, &[0x20]),
            &key_info(0x20),
        ),
        signed(
            "VLEK said, VCEK sent",
            |s| s.set(0x48, &[1 << 2]),
            &[Reason::MissingCertificate {
                kind: Kind::Vlek,
                signs: "the report".into(),
            }],
        ),
        signed("reserved 0x4c", |s| s.set(0x4c, &[1]), &reserved(0x4c)),
        signed("reserved 0x18b", |s| s.set(0x18b, &[1]), &reserved(0x18b)),
        signed(
            "reserved 0x19f",
            |s| s.set(0x19f, &[0x80]),
            &reserved(0x19f),
        ),
        signed("reserved 0x1eb", |s| s.set(0x1eb, &[1]), &reserved(0x1eb)),
        signed("reserved 0x1ef", |s| s.set(0x1ef, &[1]), &reserved(0x1ef)),
        signed("reserved 0x208", |s| s.set(0x208, &[1]), &reserved(0x208)),
        signed("reserved 0x29f", |s| s.set(0x29f, &[1]), &reserved(0x29f)),
        signed(
            "mitigation vector in version 3",
            |s| s.set(0x1f8, &[1]),
            &reserved(0x1f8),
        ),
        signed(
            "processor in version 2",
            |s| s.set(0, &[2]),
            &reserved(0x188),
        ),
        tampered(
            "a byte short",
            |e| e.report.truncate(1183),
            &[Reason::Report(ReportError::Length { found: 1183 })],
        ),
        tampered(
            "a byte long",
            |e| e.report.push(0),
            &[Reason::Report(ReportError::Length { found: 1185 })],
        ),
        tampered(
            "empty",
            |e| e.report.clear(),
            &[Reason::Report(ReportError::Length { found: 0 })],
        ),
    ]
}

/// Every class of byte of the signature.
fn signature() -> Vec<Mutation> {
    let bad = &[Reason::ReportSignature];
    vec![
        tampered("r, lowest bit", |e| e.report[R] ^= 1, bad),
        tampered("r, highest byte", |e| e.report[R + 47] ^= 0x40, bad),
        tampered(
            "r, first byte of padding",
            |e| e.report[R + 48] = 1,
            &padding(R + 48),
        ),
        tampered(
            "r, last byte of padding",
            |e| e.report[R + 71] = 1,
            &padding(R + 71),
        ),
        tampered("s, lowest bit", |e| e.report[S] ^= 1, bad),
        tampered("s, highest byte", |e| e.report[S + 47] ^= 0x40, bad),
        tampered(
            "s, first byte of padding",
            |e| e.report[S + 48] = 1,
            &padding(S + 48),
        ),
        tampered(
            "s, last byte of padding",
            |e| e.report[S + 71] = 1,
            &padding(S + 71),
        ),
        tampered("r zero", |e| e.report[R..S].fill(0), bad),
        tampered("s zero", |e| e.report[S..S + 72].fill(0), bad),
        tampered("no signature", |e| e.report[R..].fill(0), bad),
        tampered(
            "r the order",
            |e| e.report[R..R + 48].copy_from_slice(&ORDER),
            bad,
        ),
        tampered(
            "s the order",
            |e| e.report[S..S + 48].copy_from_slice(&ORDER),
            bad,
        ),
        tampered("r all ones", |e| e.report[R..R + 48].fill(0xff), bad),
        tampered(
            "r and s one",
            |e| {
                e.report[R..R + 48].fill(0);
                e.report[S..S + 48].fill(0);
                e.report[R] = 1;
                e.report[S] = 1;
            },
            bad,
        ),
        tampered(
            "r and s swapped",
            |e| {
                let r = e.report[R..S].to_vec();
                e.report.copy_within(S..S + 72, R);
                e.report[S..S + 72].copy_from_slice(&r);
            },
            bad,
        ),
        tampered(
            "r and s big-endian",
            |e| {
                e.report[R..R + 48].reverse();
                e.report[S..S + 48].reverse();
            },
            bad,
        ),
        tampered(
            "behind the signature",
            |e| e.report[0x330] = 1,
            &reserved(0x330),
        ),
        tampered("the last byte", |e| e.report[0x49f] = 1, &reserved(0x49f)),
        signed(
            "signed by another key",
            |s| s.report_key = crate::common::issuer::p384_key(6),
            bad,
        ),
    ]
}

pub(crate) fn all() -> Vec<Mutation> {
    [launch(), platform(), form(), signature()]
        .into_iter()
        .flatten()
        .collect()
}

/// Each bit of a signed report: with one flipped it is refused, whichever check says so.
#[test]
fn no_byte_of_a_signed_report_can_be_altered() {
    let setup = Setup::genoa();
    let good = setup.evidence();
    assert!(setup.appraise(&good).is_accepted());
    for (name, range) in FIELDS {
        // Every byte of what has a meaning, some of what is zero.
        let step = if range.len() > 100 { 13 } else { 1 };
        for offset in range.step_by(step) {
            let mut evidence = good.clone();
            evidence.report[offset] ^= 1 << (offset % 8);
            let appraisal = setup.appraise(&evidence);
            assert!(!appraisal.is_accepted(), "{name} at {offset:#x}");
            assert!(
                appraisal
                    .reasons()
                    .any(|r| matches!(r, Reason::ReportSignature | Reason::Report(_))),
                "{name} at {offset:#x}\n{appraisal}"
            );
        }
    }
}

/// ECDSA itself lets anyone turn (r, s) into (r, -s); the report that is signed stays the same.
#[test]
fn the_other_signature_of_the_same_report_is_as_good() {
    let setup = Setup::genoa();
    let mut evidence = setup.evidence();
    let mut borrow = 0;
    for (index, digit) in ORDER.iter().enumerate() {
        let difference = i16::from(*digit) - i16::from(evidence.report[S + index]) - borrow;
        borrow = i16::from(difference < 0);
        evidence.report[S + index] = difference.rem_euclid(256) as u8;
    }
    assert_ne!(evidence, setup.evidence());
    assert!(setup.appraise(&evidence).is_accepted());
}
