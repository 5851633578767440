//! Keys, epoch, nonce.

use cloister_protocol::keyconfig::{Epoch, KeyConfigError};
use cloister_verifier::Reason;
use cloister_verifier::appraisal::{CheckName, Outcome};

use crate::setup::{EPOCH, Mutation, NOW_S, Setup, is_left_out, key_configs, signed};

pub(crate) fn all() -> Vec<Mutation> {
    let unbound = &[Reason::ReportData];
    vec![
        signed("other report data", |s| s.set(0x8f, &[0]), unbound),
        signed(
            "other keys",
            |s| s.claims().key_configs = key_configs(10, Some(EPOCH)),
            unbound,
        ),
        signed(
            "a TLS key that is not bound",
            |s| s.claims().tls_public_key = vec![4],
            unbound,
        ),
        signed(
            "other keys used than shown",
            |s| s.key_configs = Some(key_configs(10, Some(EPOCH))),
            &[Reason::KeyConfigsDiffer],
        ),
        signed(
            "other epoch than bound",
            |s| s.claims().epoch = 8,
            &[
                Reason::ReportData,
                Reason::EpochDiffers {
                    evidence: 8,
                    keys: 7,
                },
            ],
        ),
        signed(
            "keys of another epoch, bound",
            |s| {
                s.claims().epoch = 8;
                s.bind();
            },
            &[Reason::EpochDiffers {
                evidence: 8,
                keys: 7,
            }],
        ),
        signed(
            "keys without an epoch, bound",
            |s| {
                s.claims().key_configs = key_configs(9, None);
                s.bind();
            },
            &[Reason::EpochMissing],
        ),
        signed(
            "keys that cannot be read, bound",
            |s| {
                s.claims().key_configs = vec![0];
                s.bind();
            },
            &[Reason::KeyConfigs(KeyConfigError::Truncated)],
        ),
        signed(
            "no keys, bound",
            |s| {
                s.claims().key_configs.clear();
                s.bind();
            },
            &[Reason::KeyConfigs(KeyConfigError::NoneUsable)],
        ),
        signed(
            "TLS without a bound key",
            |s| s.tls_public_key = Some(vec![4]),
            &[Reason::TlsKeyMissing],
        ),
        signed(
            "TLS with another key than the bound one",
            |s| {
                s.tls_public_key = Some(vec![4]);
                s.claims().tls_public_key = vec![5];
                s.bind();
            },
            &[Reason::TlsKeyDiffers],
        ),
        signed(
            "TLS with a key that is only claimed",
            |s| {
                s.tls_public_key = Some(vec![4]);
                s.claims().tls_public_key = vec![4];
            },
            unbound,
        ),
        signed(
            "epoch over",
            |s| s.now_s = Some(EPOCH.end_s + 301),
            &[Reason::EpochOver { end_s: EPOCH.end_s }],
        ),
        signed(
            "epoch not begun",
            |s| s.now_s = Some(EPOCH.start_s - 301),
            &[Reason::EpochNotBegun {
                start_s: EPOCH.start_s,
            }],
        ),
        signed(
            "no nonce",
            |s| {
                s.claims().nonce = None;
                s.bind();
            },
            &[Reason::NonceMissing],
        ),
        signed(
            "nonce left out of the claims",
            |s| s.claims().nonce = None,
            &[Reason::ReportData, Reason::NonceMissing],
        ),
        signed(
            "another nonce, bound",
            |s| {
                s.claims().nonce = Some([0; 32]);
                s.bind();
            },
            &[Reason::NonceDiffers],
        ),
        signed(
            "the right nonce claimed for another report",
            |s| {
                let nonce = s.claims().nonce.replace([1; 32]);
                s.bind();
                s.claims().nonce = nonce;
            },
            unbound,
        ),
    ]
}

#[test]
fn evidence_without_claims_is_refused_unless_the_report_alone_is_asked_about() {
    let mut setup = Setup::genoa();
    setup.claims = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(!appraisal.is_accepted());
    assert!(is_left_out(&appraisal, CheckName::KeyBinding));
    setup.policy.require_binding = false;
    assert!(setup.appraise(&setup.evidence()).is_accepted());
}

#[test]
fn the_tls_key_is_the_bound_one_or_there_is_no_tls() {
    let mut setup = Setup::genoa();
    setup.claims().tls_public_key = vec![4; 91];
    setup.bind();
    let without = setup.appraise(&setup.evidence());
    assert!(without.is_accepted(), "{without}");
    let outcome = without.outcome(CheckName::TlsKey);
    assert!(matches!(outcome, Some(Outcome::NotChecked { .. })));
    setup.tls_public_key = Some(vec![4; 91]);
    let with = setup.appraise(&setup.evidence());
    assert!(with.is_accepted(), "{with}");
    let outcome = with.outcome(CheckName::TlsKey);
    assert!(matches!(outcome, Some(Outcome::Pass(_))), "{outcome:?}");
}

#[test]
fn without_a_clock_a_nonce_is_needed() {
    let mut setup = Setup::genoa();
    setup.now_s = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    for name in [CheckName::Dates, CheckName::Epoch] {
        let outcome = appraisal.outcome(name);
        assert!(matches!(
            outcome,
            Some(Outcome::NotChecked {
                required: false,
                ..
            })
        ));
    }
    setup.nonce = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(!appraisal.is_accepted());
    assert!(is_left_out(&appraisal, CheckName::Epoch));
}

#[test]
fn cached_evidence_needs_no_nonce_unless_the_policy_says_so() {
    let mut setup = Setup::genoa();
    setup.claims().nonce = None;
    setup.bind();
    setup.nonce = None;
    assert!(setup.appraise(&setup.evidence()).is_accepted());
    setup.policy.require_nonce = true;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(is_left_out(&appraisal, CheckName::Nonce));
    assert!(!appraisal.is_accepted());
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    for now_s in [EPOCH.start_s - 300, EPOCH.end_s + 300] {
        let mut setup = Setup::genoa();
        setup.now_s = Some(now_s);
        assert!(setup.appraise(&setup.evidence()).is_accepted());
    }
    let mut setup = Setup::genoa();
    let whole = Epoch {
        number: EPOCH.number,
        start_s: 0,
        end_s: u64::MAX,
    };
    setup.claims().key_configs = key_configs(9, Some(whole));
    setup.bind();
    setup.now_s = Some(NOW_S);
    assert!(setup.appraise(&setup.evidence()).is_accepted());
}
