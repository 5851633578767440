//! Thousands of alterations of real input: nothing panics, and what is accepted is what it was before.

mod common;

use cloister_protocol::test_rng::TestRng;
use cloister_verifier::carrier::Carried;
use cloister_verifier::crl::Crl;
use cloister_verifier::{Certificate, Context, Evidence, Policy, Report, appraise};
use common::{issuer, vectors};

/// Alterations of each input.
const ROUNDS: usize = 400;

fn altered(rng: &mut TestRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        rng.alter(&mut bytes);
    }
    bytes
}

#[test]
fn reports() {
    let mut rng = TestRng(1);
    for vector in vectors::reports() {
        for _ in 0..ROUNDS {
            let bytes = altered(&mut rng, &vector.report);
            if let Ok(report) = Report::parse(&bytes) {
                assert_eq!(bytes.len(), 1184);
                assert!((2..=5).contains(&report.version));
            }
            let mut bytes = vector.report.clone();
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            let _ = Report::parse(&bytes);
        }
    }
}

#[test]
fn certificates() {
    let mut rng = TestRng(2);
    let ask = Certificate::parse(&vectors::read("chains/milan-ask.der")).expect("AMD's");
    for (_, der) in vectors::certificates() {
        for round in 0..ROUNDS {
            let bytes = altered(&mut rng, &der);
            if let Ok(certificate) = Certificate::parse(&bytes) {
                assert_eq!(certificate.der(), bytes);
                // Verifying takes longer than reading.
                assert!(round % 50 != 0 || bytes == der || !certificate.is_signed_by(&ask));
            }
        }
    }
}

#[test]
fn lists_and_carriers() {
    let mut rng = TestRng(3);
    let key = issuer::rsa_key(include_bytes!("keys/test-only-ark.pkcs1.der"));
    let name = issuer::name("Somebody", "ARK-Genoa");
    let serials: Vec<_> = (1..20).map(|number| issuer::integer(&[number])).collect();
    let list = issuer::crl(
        &name,
        ["260101000000Z", "270101000000Z"],
        &serials,
        &[],
        &key,
    );
    let [vcek, ask] = ["certs/genoa-vcek-71cdcd49.der", "chains/genoa-ask.der"].map(vectors::read);
    let pem: String = [&vcek, &ask]
        .map(|der| {
            pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, der)
                .expect("it fits")
        })
        .concat();
    let mut table = Vec::new();
    table.extend_from_slice(&[
        0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd, 48, 0, 0, 0,
    ]);
    table.extend_from_slice(&(vcek.len() as u32).to_le_bytes());
    table.extend_from_slice(&[0; 24]);
    table.extend_from_slice(&vcek);
    for file in [&table, pem.as_bytes(), &[&vcek[..], &list].concat()] {
        assert!(Carried::default().add_file(file).is_ok());
        for _ in 0..4 * ROUNDS {
            let mut carried = Carried::default();
            if carried.add_file(&altered(&mut rng, file)).is_ok() {
                assert!(carried.certificates.len() + carried.crls.len() <= 16);
            }
            let _ = Carried::default().add_table(&altered(&mut rng, file));
        }
    }
    assert!(Crl::parse(&list).is_ok());
    for _ in 0..4 * ROUNDS {
        let _ = Crl::parse(&altered(&mut rng, &list));
    }
}

#[test]
fn whole_evidence() {
    let mut rng = TestRng(4);
    let vectors: Vec<_> = vectors::reports()
        .into_iter()
        .filter(|vector| !vector.leaves.is_empty())
        .collect();
    for _ in 0..ROUNDS {
        let vector = &vectors[rng.below(vectors.len())];
        let [ark, ask] = vector.chain();
        let mut parts = [vector.report.clone(), vector.leaves[0].clone(), ask, ark];
        let which = rng.below(4);
        parts[which] = altered(&mut rng, &parts[which]);
        let [report, certificates @ ..] = parts;
        let carried = Carried {
            certificates: certificates.to_vec(),
            crls: Vec::new(),
        };
        let evidence = Evidence {
            report,
            carried,
            claims: None,
            release: None,
        };
        let appraisal = appraise(&evidence, &Policy::new(), &Context::default());
        assert!(!appraisal.is_accepted());
        assert!(!appraisal.to_string().contains('\u{1b}'));
    }
}
