//! What the evidence of a machine that can attest binds.

use super::*;
use sev_snp_guest::report::{AttestationReport, REPORT_BYTES};

fn security_processor(report_data: &[u8; 64]) -> platform::Evidence {
    let mut report = AttestationReport::from_bytes(&[0; REPORT_BYTES]);
    report.report_data = *report_data;
    platform::Evidence::SevSnp(Box::new(report))
}

/// The report data that the evidence binds, and what it should bind by its own fields.
fn bound_and_expected(encoded: &[u8]) -> ([u8; 64], [u8; 64]) {
    let found = Evidence::decode(encoded).unwrap();
    assert_eq!(found.enclosures.release_note, b"note");
    let Kind::SevSnp(report) = &found.kind else {
        panic!("{:?}", found.kind);
    };
    let bound = AttestationReport::from_bytes(report).report_data;
    let nonce = found.nonce.as_ref();
    let tls = &found.tls_public_key;
    let expected = evidence::report_data(found.epoch, &found.key_configs, tls, nonce);
    (bound, expected)
}

#[test]
fn each_epoch_and_each_nonce_has_a_report_of_its_own() {
    let mut rng = Drbg::from_seed([1; 32]);
    let attester = Attester {
        attest: security_processor,
        tls_public_key: b"TLS key".to_vec(),
        enclosures: Enclosures {
            release_note: b"note".to_vec(),
            ..Enclosures::default()
        },
    };
    let lifetime = Lifetime::of_epoch(20);
    let mut keys = Keys::new(&mut rng, 1_000_000, 0, lifetime, attester);
    let (first, expected) = bound_and_expected(keys.evidence());
    assert_eq!(first, expected);
    let (fresh, expected) = bound_and_expected(&keys.fresh_evidence([7; NONCE_BYTES], 0).unwrap());
    assert_eq!(fresh, expected);
    assert_ne!(fresh, first);
    assert_eq!(bound_and_expected(keys.evidence()).0, first, "cached");

    keys.tick(&mut rng, 20_000);
    let (second, expected) = bound_and_expected(keys.evidence());
    assert_eq!(second, expected);
    assert_ne!(second, first);
}

#[test]
fn fresh_evidence_is_rationed() {
    let mut rng = Drbg::from_seed([1; 32]);
    let attester = Attester {
        attest: |_| platform::Evidence::None,
        tls_public_key: Vec::new(),
        enclosures: Enclosures::default(),
    };
    let keys = Keys::new(&mut rng, 0, 1000, Lifetime::of_epoch(3600), attester);
    let granted = |now_ms| {
        let asks = 0..2 * Allowance::MOST;
        asks.filter(|_| keys.fresh_evidence([0; NONCE_BYTES], now_ms).is_some())
            .count() as u64
    };
    assert_eq!(granted(1000), Allowance::MOST);
    assert_eq!(granted(1000 + Allowance::INTERVAL_MS - 1), 0);
    assert_eq!(granted(1000 + Allowance::INTERVAL_MS), 1);
    assert_eq!(granted(1000 + 4 * Allowance::INTERVAL_MS), 3);
    assert_eq!(granted(u64::MAX), Allowance::MOST);
    assert_eq!(granted(0), 0, "a clock that goes back grants nothing");
}
