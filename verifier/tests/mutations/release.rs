//! Releases that do not count, each for its reason; and those that do. Keys, notes, trees and proofs are real.

use cloister_transparency::appraise::{AppraisalError, Cosigned};
use cloister_transparency::merkle::ProofError;
use cloister_transparency::note::NoteError;
use cloister_transparency::proof::ProofFormatError;
use cloister_transparency::release::{ModelRelease, ReleaseError, Withdrawal};
use cloister_transparency::{Hash, KeyType, Statement};
use cloister_verifier::appraisal::{CheckName, Outcome};
use cloister_verifier::report::PolicyBit;
use cloister_verifier::tcb::Component;
use cloister_verifier::{Policy, Product, Reason, ReleaseReason, WhichTcb};

use crate::published::{
    Bundle, DAY_S, ORIGIN, OTHER, SEEN_S, SIZE, altered, bundle, image, key, launch, log_key,
    log_policy, logged, model, note, period, release, release_key, restated, subjects, view,
    witness,
};
use crate::setup::{MEASUREMENT, Mutation, NOW_S, Setup, is_left_out, signed};

fn proof(error: AppraisalError) -> Vec<Reason> {
    vec![ReleaseReason::Proof(error).into()]
}

fn forged(
    name: &'static str,
    before: fn(&mut Setup),
    expected: impl Into<Vec<Reason>>,
) -> Mutation {
    signed(name, before, &expected.into()).of(logged)
}

fn reason(reason: ReleaseReason) -> Vec<Reason> {
    vec![reason.into()]
}

fn cosigned(number: u8, time_s: u64) -> Cosigned {
    Cosigned {
        witness: format!("w{number}").into_bytes(),
        time_s,
    }
}

fn quorum(cosigned: Vec<Cosigned>, stale: Vec<Cosigned>, early: Vec<Cosigned>) -> Vec<Reason> {
    proof(AppraisalError::Quorum {
        cosigned,
        stale,
        early,
    })
}

pub(crate) fn all() -> Vec<Mutation> {
    [notes(), contents(), proofs(), views()]
        .into_iter()
        .flatten()
        .collect()
}

/// Who signed the entry, and what kind of entry it is.
fn notes() -> Vec<Mutation> {
    let not_trusted = || ReleaseReason::Note(ReleaseError::Note(NoteError::NoTrustedSignature));
    vec![
        forged(
            "no release",
            |s| s.release = None,
            reason(ReleaseReason::Missing),
        ),
        forged(
            "release by another key",
            |s| {
                let other = key("example.org/release", KeyType::Ed25519, 22);
                altered(s, |b| {
                    b.note = note(&Statement::Image(image()).to_text(), &other)
                });
            },
            reason(not_trusted()),
        ),
        forged(
            "release by the log's key",
            |s| {
                altered(s, |b| {
                    b.note = note(&Statement::Image(image()).to_text(), &log_key())
                })
            },
            reason(not_trusted()),
        ),
        forged(
            "a policy without a release key",
            |s| s.policy.log.as_mut().expect("a log").release_keys.clear(),
            reason(not_trusted()),
        ),
        forged(
            "release that is no statement",
            |s| altered(s, |b| b.note = note("a letter\n", &release_key())),
            reason(ReleaseReason::Note(ReleaseError::Json {
                reason: "expected value at line 1 column 1".into(),
            })),
        ),
        forged(
            "release not in canonical form",
            |s| {
                let text = Statement::Image(image()).to_text().replacen("{", "{ ", 1);
                altered(s, |b| b.note = note(&text, &release_key()));
            },
            reason(ReleaseReason::Note(ReleaseError::NotCanonical)),
        ),
        forged(
            "release of a model in place of an image",
            |s| {
                let released = ModelRelease {
                    subjects: subjects(),
                    version: "0.1.0".into(),
                    period: period(),
                    model: model(),
                };
                s.release = Some(Bundle::of(&Statement::Model(released)).release());
            },
            reason(ReleaseReason::Kind { found: "model" }),
        ),
        forged(
            "withdrawal in place of an image",
            |s| {
                let withdrawal = Withdrawal {
                    subjects: subjects(),
                    not_before_s: NOW_S,
                    reason: "a defect".into(),
                    withdraws: Hash([1; 32]),
                };
                s.release = Some(Bundle::of(&Statement::Withdraw(withdrawal)).release());
            },
            reason(ReleaseReason::Kind { found: "withdraw" }),
        ),
        forged(
            "oversized note",
            |s| release(s).note.resize(0x1_0000, b'x'),
            [
                ReleaseReason::Note(ReleaseError::TooLarge { bytes: 0x1_0000 }).into(),
                ReleaseReason::Proof(AppraisalError::EntryTooLarge { bytes: 0x1_0000 }).into(),
            ],
        ),
    ]
}

fn below(tcb: WhichTcb, component: Component, found: u8, minimum: u8) -> Vec<Reason> {
    reason(ReleaseReason::Tcb {
        tcb,
        component,
        found,
        minimum,
    })
}

/// What the release says.
fn contents() -> Vec<Mutation> {
    let microcode = |tcb| below(tcb, Component::Microcode, 0x56, 0x57);
    let boot_loader = |tcb| below(tcb, Component::BootLoader, 9, 10);
    let permission = |bit| Reason::from(ReleaseReason::Permission(bit));
    vec![
        forged(
            "release expired",
            |s| restated(s, |image| image.period.not_after_s = NOW_S - 1),
            reason(ReleaseReason::Expired { until_s: NOW_S - 1 }),
        ),
        forged(
            "release not yet valid",
            |s| restated(s, |image| image.period.not_before_s = NOW_S + 301),
            reason(ReleaseReason::NotYetValid {
                from_s: NOW_S + 301,
            }),
        ),
        forged(
            "release of another image",
            |s| restated(s, |image| image.snp = vec![launch(OTHER)]),
            reason(ReleaseReason::NotALaunch { found: MEASUREMENT }),
        ),
        forged(
            "release without a launch",
            |s| restated(s, |image| image.snp.clear()),
            reason(ReleaseReason::NotALaunch { found: MEASUREMENT }),
        ),
        forged(
            "release of the image, another image asked for",
            |s| s.policy.measurements = vec![OTHER],
            [Reason::Measurement { found: MEASUREMENT }],
        ),
        forged(
            "TCB below the release's",
            |s| restated(s, |image| image.snp[1].minimum_tcb.microcode = 0x57),
            microcode(WhichTcb::Reported),
        ),
        forged(
            "TCB below that of the other row with the measurement",
            |s| {
                restated(s, |image| {
                    let mut second = launch(MEASUREMENT);
                    second.minimum_tcb.microcode = 0x57;
                    image.snp.push(second);
                });
            },
            microcode(WhichTcb::Reported),
        ),
        forged(
            "committed TCB below the release's",
            |s| s.set(0x1e0, &[9]),
            boot_loader(WhichTcb::Committed),
        ),
        forged(
            "current TCB below the release's",
            |s| s.set(0x38, &[9]),
            boot_loader(WhichTcb::Current),
        ),
        forged(
            "launch TCB below the release's",
            |s| s.set(0x1f0, &[9]),
            boot_loader(WhichTcb::Launch),
        ),
        forged(
            "release for another product",
            |s| restated(s, |image| image.snp[1].cpu_signature = 0x00b0_0f21),
            reason(ReleaseReason::Product {
                release: Product::Turin,
                machine: Product::Genoa,
            }),
        ),
        forged(
            "SMT beyond the release",
            |s| restated(s, |image| image.snp[1].policy = 0x2_0000),
            [permission(PolicyBit::SmtAllowed)],
        ),
        forged(
            "CXL beyond the release",
            |s| s.set(0x0a, &[0x23]),
            [permission(PolicyBit::CxlAllowed)],
        ),
        forged(
            "migration agent beyond the release",
            |s| s.set(0x0a, &[0x07]),
            [Reason::Migration, permission(PolicyBit::MigrationAgent)],
        ),
        forged(
            "debug beyond the release",
            |s| s.set(0x0a, &[0x0b]),
            [Reason::Debug, permission(PolicyBit::Debug)],
        ),
    ]
}

/// Whether the log of the policy has it.
fn proofs() -> Vec<Mutation> {
    let header = AppraisalError::Format(ProofFormatError::Header);
    vec![
        forged(
            "no proof",
            |s| release(s).proof.clear(),
            reason(ReleaseReason::NoProof),
        ),
        forged(
            "something else than a proof",
            |s| release(s).proof = b"a letter\n".to_vec(),
            proof(header),
        ),
        forged(
            "a log of another origin",
            |s| altered(s, |b| b.origin = "other.example/releases"),
            proof(AppraisalError::UnknownLog {
                origin: "other.example/releases".into(),
            }),
        ),
        forged(
            "another log under the origin",
            |s| altered(s, |b| b.log = key(ORIGIN, KeyType::Ed25519, 99)),
            proof(AppraisalError::NotSignedByLog {
                origin: ORIGIN.into(),
            }),
        ),
        forged(
            "one witness of two",
            |s| altered(s, |b| b.cosigners.truncate(1)),
            quorum(vec![cosigned(1, SEEN_S)], vec![], vec![]),
        ),
        forged(
            "one witness twice",
            |s| altered(s, |b| b.cosigners[1] = (witness(1), SEEN_S - 1)),
            quorum(vec![cosigned(1, SEEN_S)], vec![], vec![]),
        ),
        forged(
            "a stranger for a witness",
            |s| {
                altered(s, |b| {
                    b.cosigners[1].0 = key("w2.example", KeyType::CosignatureV1, 99);
                });
            },
            quorum(vec![cosigned(1, SEEN_S)], vec![], vec![]),
        ),
        forged(
            "a stale cosignature",
            |s| altered(s, |b| b.cosigners[1].1 = NOW_S - 7 * DAY_S - 1),
            quorum(
                vec![cosigned(1, SEEN_S)],
                vec![cosigned(2, NOW_S - 7 * DAY_S - 1)],
                vec![],
            ),
        ),
        forged(
            "a cosignature from the future",
            |s| altered(s, |b| b.cosigners[0].1 = NOW_S + 301),
            quorum(
                vec![cosigned(2, SEEN_S)],
                vec![],
                vec![cosigned(1, NOW_S + 301)],
            ),
        ),
    ]
}

/// What is known from reading the log.
fn views() -> Vec<Mutation> {
    vec![
        forged(
            "withdrawn",
            |s| {
                let mut view = view();
                view.withdrawn
                    .push((Hash::leaf(&bundle().note), "a defect".into()));
                s.log_view = Some(view);
            },
            reason(ReleaseReason::Withdrawn {
                reason: "a defect".into(),
            }),
        ),
        forged(
            "rolled-back view",
            |s| {
                let mut view = view();
                view.leaves.pop();
                s.log_view = Some(view);
            },
            reason(ReleaseReason::OldView {
                proof: SIZE,
                read: SIZE - 1,
            }),
        ),
        forged(
            "view of another log",
            |s| {
                let mut view = view();
                view.origin = "other.example".into();
                s.log_view = Some(view);
            },
            reason(ReleaseReason::OtherLog {
                proof: ORIGIN.into(),
                read: "other.example".into(),
            }),
        ),
        forged(
            "split view",
            |s| {
                let mut view = view();
                view.leaves[0] = Hash([0; 32]);
                s.log_view = Some(view);
            },
            reason(ReleaseReason::SplitView { size: SIZE }),
        ),
        forged(
            "a longer view of another history, which withdraws nothing",
            |s| {
                let mut view = view();
                view.leaves[0] = Hash([0; 32]);
                view.leaves.extend([Hash([1; 32]); 3]);
                s.log_view = Some(view);
            },
            reason(ReleaseReason::SplitView { size: SIZE }),
        ),
    ]
}

/// The reasons for a refusal; there must be one.
fn reasons(setup: &Setup) -> Vec<Reason> {
    let appraisal = setup.appraise(&setup.evidence());
    assert!(!appraisal.is_accepted(), "{appraisal}");
    appraisal.reasons().cloned().collect()
}

fn is_not_in_the_tree(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Release(ReleaseReason::Proof(AppraisalError::Inclusion(
            ProofError::RootMismatch { .. }
        )))
    )
}

#[test]
fn an_altered_note_is_signed_by_no_one_and_in_no_log() {
    let mut setup = logged();
    let text = String::from_utf8(release(&mut setup).note.clone()).expect("text");
    release(&mut setup).note = text.replacen("0.1.0", "0.1.1", 1).into_bytes();
    let reasons = reasons(&setup);
    let [
        Reason::Release(ReleaseReason::Note(ReleaseError::Note(NoteError::InvalidSignature {
            name,
            ..
        }))),
        inclusion,
    ] = &reasons[..]
    else {
        panic!("{reasons:?}");
    };
    assert_eq!(name, "example.org/release");
    assert!(is_not_in_the_tree(inclusion));
}

#[test]
fn a_proof_of_another_entry_proves_nothing_for_this_one() {
    let mut setup = logged();
    let mut other = image();
    other.version = "0.2.0".into();
    release(&mut setup).proof = Bundle::of(&Statement::Image(other)).proof();
    let reasons = reasons(&setup);
    assert!(
        matches!(&reasons[..], [reason] if is_not_in_the_tree(reason)),
        "{reasons:?}"
    );
}

#[test]
fn a_logged_release_is_accepted_and_every_line_says_what_was_seen() {
    let setup = logged();
    let appraisal = setup.appraise(&setup.evidence());
    assert!(
        appraisal.is_accepted() && appraisal.is_logged(),
        "{appraisal}"
    );
    let text = appraisal.to_string();
    for line in [
        &format!(
            "PASS         measurement          {}: release 0.1.0, EPYC-Genoa, 1 vCPU, qemu\n",
            "3d".repeat(48)
        ),
        "PASS         release              image, version 0.1.0, signed by a release key\n",
        "PASS         release dates        valid until 2026-07-01T00:00:00Z\n",
        "PASS         release TCB          at least boot loader 0x0a, TEE 0x00, SNP 0x1b, microcode 0x56\n",
        "PASS         release policy       0x30000 permits no more\n",
        "PASS         measurement in log   entry 2 of 7 in log.example/releases, cosigned by w1, w2 since \
         2026-05-31T00:00:00Z\n",
        "NOT CHECKED  not withdrawn        the log itself was not read; name it with --log to know\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    assert!(!text.contains("TEST WITNESSES") && !text.contains("NOT IN A LOG"));
}

#[test]
fn the_release_alone_can_give_the_reference_value() {
    let mut setup = logged();
    setup.policy.measurements.clear();
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    // Not one that a stranger signed, and not none.
    let stranger = key("example.org/release", KeyType::Ed25519, 22);
    altered(&mut setup, |b| {
        b.note = note(&Statement::Image(image()).to_text(), &stranger);
    });
    assert_eq!(reasons(&setup)[0], Reason::NoReferenceMeasurement);
    setup.release = None;
    assert_eq!(
        reasons(&setup),
        [
            Reason::NoReferenceMeasurement,
            ReleaseReason::Missing.into()
        ]
    );
    // Nor where a log is no must: then a release counts as far as it goes, and there is none.
    setup.policy.require_log = false;
    assert_eq!(reasons(&setup), [Reason::NoReferenceMeasurement]);
}

#[test]
fn a_log_that_was_read_says_that_nothing_is_withdrawn() {
    let mut setup = logged();
    setup.log_view = Some(view());
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    let Some(Outcome::Pass(seen)) = appraisal.outcome(CheckName::Withdrawn) else {
        panic!("{appraisal}");
    };
    assert_eq!(seen, "not withdrawn in 7 entries");
    // A log that went on has another root, and has had this one.
    let mut longer = view();
    longer.leaves.extend([Hash([0; 32]); 3]);
    assert_ne!(longer.root_at(SIZE + 3), longer.root_at(SIZE));
    assert_eq!(longer.root_at(SIZE + 4), None);
    setup.log_view = Some(longer);
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    assert!(
        appraisal
            .to_string()
            .contains("not withdrawn in 10 entries")
    );
    // Of an entry that is not shown to be in the log a view says nothing.
    release(&mut setup).proof.clear();
    let appraisal = setup.appraise(&setup.evidence());
    assert!(is_left_out(&appraisal, CheckName::Withdrawn), "{appraisal}");
}

#[test]
fn without_a_log_policy_nothing_is_accepted_unless_the_caller_says_so() {
    let mut setup = logged();
    setup.policy.log = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(!appraisal.is_accepted());
    assert!(is_left_out(&appraisal, CheckName::Log), "{appraisal}");
    let text = appraisal.to_string();
    assert!(text.contains("--log-policy") && text.contains("--without-log"));
    setup.policy.require_log = false;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted() && !appraisal.is_logged());
    assert!(
        appraisal
            .to_string()
            .contains("NOT IN A LOG (--without-log)")
    );
}

#[test]
fn a_release_that_is_no_must_still_has_to_be_sound() {
    let mut setup = logged();
    setup.policy.require_log = false;
    assert!(setup.appraise(&setup.evidence()).is_logged());
    release(&mut setup).proof.clear();
    assert_eq!(reasons(&setup), reason(ReleaseReason::NoProof));
    setup.release = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
}

#[test]
fn without_a_clock_no_release_counts() {
    let mut setup = logged();
    setup.now_s = None;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(!appraisal.is_accepted());
    for name in [CheckName::ReleaseDates, CheckName::Log] {
        assert!(is_left_out(&appraisal, name), "{appraisal}");
    }
}

#[test]
fn test_witnesses_are_named_in_every_output() {
    let mut setup = logged();
    setup.policy.log.as_mut().expect("a log").test = true;
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted() && appraisal.has_test_witnesses());
    let text = appraisal.to_string();
    assert!(
        text.lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("TEST WITNESSES: "))
    );
    assert!(text.contains("measurement in log   TEST WITNESSES: entry 2 of 7"));
    assert_eq!(
        appraisal.notices().count(),
        2,
        "emulated, and test witnesses"
    );
}

/// Levels of an emulated platform mean nothing; all else is checked.
#[test]
fn an_emulated_policy_does_without_the_release_s_tcb_alone() {
    let mut setup = logged();
    setup.policy = Policy {
        log: Some(log_policy()),
        ..Policy::emulated(&crate::setup::GENOA.ark).expect("a marked root")
    };
    restated(&mut setup, |image| {
        image.snp[1].minimum_tcb.snp = 0xff;
    });
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_accepted(), "{appraisal}");
    let tcb = appraisal.outcome(CheckName::ReleaseTcb).expect("a line");
    assert!(tcb.to_string().contains("emulated platform"), "{tcb}");
    setup.set(0x0a, &[0x23]);
    assert_eq!(
        reasons(&setup),
        reason(ReleaseReason::Permission(PolicyBit::CxlAllowed))
    );
}

#[test]
fn clocks_may_differ_at_the_beginning_of_a_release() {
    let mut setup = logged();
    restated(&mut setup, |image| image.period.not_before_s = NOW_S + 300);
    assert!(setup.appraise(&setup.evidence()).is_accepted());
    restated(&mut setup, |image| image.period.not_after_s = NOW_S);
    assert!(setup.appraise(&setup.evidence()).is_accepted());
}
