//! Evidence of an emulated platform that is accepted, and every way to spoil it: each is refused for exactly the reason
//! that it should be.

#[path = "../common/mod.rs"]
mod common;

mod binding;
mod certificates;
mod chains;
mod published;
mod release;
mod report;
mod setup;

use cloister_verifier::appraisal::{CheckName, NEVER_CHECKED, Outcome};
use cloister_verifier::policy::Roots;
use setup::{GENOA, Mutation, Setup, is_left_out};

fn all() -> Vec<Mutation> {
    [
        report::all(),
        certificates::all(),
        chains::all(),
        binding::all(),
        release::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn what_is_not_spoilt_is_accepted() {
    for setup in [Setup::genoa, Setup::turin, Setup::vlek] {
        let setup = setup();
        let appraisal = setup.appraise(&setup.evidence());
        assert!(appraisal.is_accepted(), "{appraisal}");
        assert_eq!(appraisal.reasons().next(), None);
    }
    for version in 2..=5 {
        let mut setup = Setup::genoa();
        setup.set(0, &[version]);
        if version == 2 {
            setup.set(0x188, &[0; 3]);
        }
        if version >= 4 {
            setup.set(0x1f8, &[0x0b]);
        }
        let appraisal = setup.appraise(&setup.evidence());
        assert!(appraisal.is_accepted(), "{appraisal}");
    }
}

#[test]
fn every_mutation_is_refused_for_its_reason() {
    let mutations = all();
    let mut names: Vec<_> = mutations.iter().map(|mutation| mutation.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), mutations.len(), "names are unique");
    for mutation in &mutations {
        mutation.check();
    }
    println!("{} mutations", mutations.len());
    assert!(mutations.len() >= 40);
}

#[test]
fn every_mutation_s_output_is_whole() {
    let base = Setup::genoa();
    let names = |appraisal: &cloister_verifier::Appraisal| -> Vec<_> {
        appraisal.checks().iter().map(|check| check.name).collect()
    };
    let expected = names(&base.appraise(&base.evidence()));
    for mutation in all() {
        let mut setup = (mutation.setup)();
        (mutation.before)(&mut setup);
        let mut evidence = setup.evidence();
        (mutation.after)(&mut evidence);
        let appraisal = setup.appraise(&evidence);
        assert_eq!(names(&appraisal), expected, "{}", mutation.name);
        let text = appraisal.to_string();
        assert!(
            text.contains("EMULATED") || mutation.name.contains("root") || text.contains("no ")
        );
        assert!(text.lines().all(|line| line.len() < 400), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("REFUSED"), "{}\n{text}", mutation.name);
    }
}

#[test]
fn the_output_has_a_line_for_each_check_and_says_what_is_emulated() {
    let setup = Setup::genoa();
    let text = setup.appraise(&setup.evidence()).to_string();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("EMULATED EVIDENCE"));
    assert!(lines[1].starts_with("NOT IN A LOG (--without-log)"));
    assert_eq!(lines[2], "PASS         report form          version 3");
    let log = "NOT CHECKED  measurement in log   NOT IN A LOG (--without-log): ";
    assert!(text.contains(log), "{text}");
    for item in NEVER_CHECKED {
        assert!(text.contains(item));
    }
    assert_eq!(
        *lines.last().unwrap(),
        "ACCEPTED AS EMULATED: protects nothing, for tests only (22 passed, 0 failed, 9 not checked)"
    );
    let mut setup = Setup::genoa();
    setup.set(0x0a, &[0x0b]);
    let text = setup.appraise(&setup.evidence()).to_string();
    let debug = "FAIL         no debug             the guest was launched with DEBUG: the host can read its memory";
    assert!(text.contains(debug), "{text}");
    assert!(text.ends_with("REFUSED (EMULATED) (21 passed, 1 failed, 9 not checked)\n"));
}

#[test]
fn emulated_evidence_is_said_to_be_so_whether_or_not_it_is_trusted() {
    let mut setup = Setup::genoa();
    assert!(setup.appraise(&setup.evidence()).is_emulated());
    setup.policy.roots = Roots::amd();
    let appraisal = setup.appraise(&setup.evidence());
    assert!(appraisal.is_emulated() && !appraisal.is_accepted());
}

#[test]
fn only_a_marked_root_can_be_trusted_as_emulated() {
    use cloister_verifier::RootError;
    let mut roots = Roots::amd();
    assert_eq!(roots.trust_emulated(&GENOA.ask), Err(RootError::NotARoot));
    assert_eq!(
        roots.trust_emulated(&setup::STRANGER.ark),
        Err(RootError::NotEmulated)
    );
    let mut altered = GENOA.ark.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(roots.trust_emulated(&altered), Err(RootError::NotARoot));
    assert_eq!(roots.trust_emulated(&GENOA.ark), Ok(()));
    assert_eq!(roots.all().len(), 4);
}

#[test]
fn checks_go_on_behind_a_report_that_cannot_be_read() {
    let setup = Setup::genoa();
    let mut evidence = setup.evidence();
    evidence.report.clear();
    let appraisal = setup.appraise(&evidence);
    assert!(matches!(
        appraisal.outcome(CheckName::Chain),
        Some(Outcome::Pass(_))
    ));
    assert!(is_left_out(&appraisal, CheckName::ReportSignature));
    assert!(is_left_out(&appraisal, CheckName::Measurement));
}
