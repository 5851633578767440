//! Reports of real machines: each with a certificate verifies, and what the default policy says of it is known.

mod common;

use cloister_verifier::appraisal::{CheckName, Outcome};
use cloister_verifier::carrier::Carried;
use cloister_verifier::{Context, Evidence, Policy, Product, Reason, Report, appraise};
use common::vectors::{self, Vector};

/// 2026-06-01, when every VCEK of the vectors is valid, and the VLEK is not.
const NOW_S: u64 = 1_780_272_000;

/// Accepts what the vectors are: any product, old firmware, any image, no keys.
fn lenient(vector: &Vector) -> Policy {
    let measurement = vector.report[0x90..0xc0].try_into().expect("48 bytes");
    let mut policy = Policy {
        products: Product::ALL.to_vec(),
        measurements: vec![measurement],
        require_alias_check: false,
        require_binding: false,
        require_log: false,
        ..Policy::new()
    };
    for floor in &mut policy.tcb_floors {
        floor.tcb = Default::default();
    }
    policy
}

fn evidence(vector: &Vector, leaf: &[u8]) -> Evidence {
    let [ark, ask] = vector.chain();
    Evidence::from_files(&vector.report, [&ark[..], &ask, leaf]).expect("DER")
}

fn now() -> Context<'static> {
    Context {
        now_s: Some(NOW_S),
        ..Context::default()
    }
}

#[test]
fn every_report_with_a_certificate_verifies() {
    let mut verified = 0;
    for vector in vectors::reports() {
        for leaf in &vector.leaves {
            let appraisal = appraise(&evidence(&vector, leaf), &lenient(&vector), &now());
            let reasons: Vec<_> = appraisal.reasons().cloned().collect();
            let is_vlek = vector.name.contains("vlek");
            if is_vlek {
                let [expired, vmpl] = &reasons[..] else {
                    panic!("{}\n{appraisal}", vector.name);
                };
                assert!(matches!(expired, Reason::Expired { .. }));
                assert_eq!(*vmpl, Reason::Vmpl { found: 1 });
            } else {
                assert_eq!(reasons, [], "{}\n{appraisal}", vector.name);
                assert!(appraisal.is_accepted(), "{}\n{appraisal}", vector.name);
            }
            assert!(!appraisal.is_emulated());
            verified += 1;
        }
    }
    // 18 reports, two of them with two certificates.
    assert_eq!(verified, 20);
}

#[test]
fn every_report_without_a_certificate_parses() {
    let names: Vec<_> = vectors::reports()
        .into_iter()
        .filter(|vector| vector.leaves.is_empty())
        .map(|vector| {
            let report = Report::parse(&vector.report).expect(&vector.name);
            assert!(vector.name.starts_with(&format!("v{}-", report.version)));
            vector.name
        })
        .collect();
    assert_eq!(names.len(), 6);
}

#[test]
fn the_default_policy_refuses_all_of_them_and_says_why() {
    let count = |wanted: fn(&Reason) -> bool| {
        vectors::reports()
            .iter()
            .filter(|vector| !vector.leaves.is_empty())
            .filter(|vector| {
                let evidence = evidence(vector, &vector.leaves[0]);
                let appraisal = appraise(&evidence, &Policy::new(), &now());
                assert!(!appraisal.is_accepted(), "{}", vector.name);
                appraisal.reasons().any(wanted)
            })
            .count()
    };
    assert_eq!(
        count(|reason| *reason == Reason::ProductRefused(Product::Milan)),
        13
    );
    assert_eq!(count(|reason| *reason == Reason::AliasCheck), 5);
    assert_eq!(
        count(|reason| *reason == Reason::NoReferenceMeasurement),
        18
    );
    assert!(count(|reason| matches!(reason, Reason::TcbBelowFloor { .. })) >= 9);
    assert_eq!(count(|reason| *reason == Reason::ReportSignature), 0);
}

#[test]
fn a_certificate_of_another_chip_does_not_verify_a_report() {
    let vectors = vectors::reports();
    let mut pairs = 0;
    for vector in &vectors {
        for other in &vectors {
            let [Some(_), Some(leaf)] = [vector, other].map(|vector| vector.leaves.first()) else {
                continue;
            };
            let same_kind = vector.product() == other.product()
                && vector.name.contains("vlek") == other.name.contains("vlek");
            // Two pairs of reports are of one chip at one TCB version.
            let key = |vector: &Vector| vector.report[0x180..0x1e0].to_vec();
            if !same_kind || key(vector) == key(other) {
                continue;
            }
            let appraisal = appraise(&evidence(vector, leaf), &lenient(vector), &now());
            let reasons: Vec<_> = appraisal.reasons().cloned().collect();
            assert!(
                reasons.contains(&Reason::ReportSignature),
                "{} {}",
                vector.name,
                other.name
            );
            assert!(reasons.iter().any(|reason| matches!(
                reason,
                Reason::ChipIdMismatch | Reason::TcbMismatch { .. }
            )));
            pairs += 1;
        }
    }
    // 12 Milan reports with VCEKs and 4 Genoa ones, each with the others' certificates, but for the two pairs.
    assert_eq!(pairs, 12 * 11 - 2 + 4 * 3 - 2);
}

#[test]
fn the_chain_of_another_product_is_refused() {
    let vectors = vectors::reports();
    let find = |product: &str| {
        vectors
            .iter()
            .find(|vector| vector.product() == product && !vector.leaves.is_empty())
            .unwrap()
    };
    let (milan, genoa) = (find("milan"), find("genoa"));
    let [ark, ask] = genoa.chain();
    let files = [&ark[..], &ask, &milan.leaves[0]];
    let evidence = Evidence::from_files(&milan.report, files).unwrap();
    let appraisal = appraise(&evidence, &lenient(milan), &now());
    assert!(matches!(
        appraisal.outcome(CheckName::Chain),
        Some(Outcome::Fail(Reason::Issuer { .. }))
    ));
    assert!(appraisal.reasons().any(|reason| *reason
        == Reason::ProductMismatch {
            what: "certificate",
            root: Product::Genoa,
            found: Product::Milan
        }));
}

#[test]
fn the_report_that_its_origin_altered_is_no_one_s() {
    let good = vectors::read("reports/v2-unknown-product-vcek-94739f63.bin");
    let bad = vectors::read("reports/v2-unknown-product-vcek-c696a46d.bin");
    // It is the signed part that was altered, in one byte of the report id.
    let altered: Vec<_> = (0..good.len()).filter(|at| good[*at] != bad[*at]).collect();
    assert_eq!(altered, [0x15b]);
    let leaf = vectors::read("reports/v2-milan-vcek-7c614616.vcek.der");
    let evidence = Evidence::from_files(&bad, [&leaf[..]]).unwrap();
    let appraisal = appraise(&evidence, &Policy::new(), &now());
    assert!(appraisal.reasons().any(|r| *r == Reason::ReportSignature));
}

#[test]
fn the_root_need_not_be_carried_and_the_order_does_not_matter() {
    for vector in vectors::reports() {
        let Some(leaf) = vector.leaves.first() else {
            continue;
        };
        let [ark, ask] = vector.chain();
        let all: [&[&[u8]]; 3] = [&[leaf, &ask], &[&ask, leaf], &[leaf, &ark, &ask, &ark]];
        let expected = appraise(&evidence(&vector, leaf), &lenient(&vector), &now());
        for files in all {
            let evidence = Evidence::from_files(&vector.report, files.iter().copied()).unwrap();
            let appraisal = appraise(&evidence, &lenient(&vector), &now());
            assert_eq!(
                appraisal.reasons().collect::<Vec<_>>(),
                expected.reasons().collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn every_certificate_of_the_vectors_is_read_whatever_it_travels_in() {
    let mut files = Carried::default();
    for (file, der) in vectors::certificates() {
        let certificate = cloister_verifier::Certificate::parse(&der);
        let certificate = certificate.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(certificate.der(), der);
        assert!(certificate.product().is_some(), "{file}");
        if files.certificates.len() < 16 {
            files.add_file(&der).unwrap();
        }
    }
    assert_eq!(files.certificates.len(), 16);
}
