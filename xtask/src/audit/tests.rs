//! Audits of a log alone: each thing that can be wrong with it fails its own check.

use std::fs;
use std::path::Path;

use cloister_boot::manifest::Serving;
use cloister_client::remote_log::LogLocation;
use cloister_transparency::Freshness;
use cloister_transparency::log::{Locking, TileLog};

use super::{Audited, Report, Request, html, run};
use crate::release::deployment::read_policy;
use crate::release::keys;
use crate::release::publish::{self, now_s};
use crate::release::testing::{Setup, VALID_S};
use crate::workspace::Workspace;

fn published() -> Setup {
    let setup = Setup::new();
    let image = setup.image(b"rom");
    publish::image(&setup.deployment, &image, VALID_S).expect("published");
    setup
}

fn request(setup: &Setup) -> Request {
    let deployment = &setup.deployment;
    Request {
        log: LogLocation::Directory(deployment.folders.log.clone()),
        policy: (
            deployment.policy.clone(),
            read_policy(&deployment.policy).expect("a policy"),
        ),
        release_keys: vec![deployment.release_key().expect("a key")],
        test: false,
        entry: Some(0),
        freshness: Freshness {
            now_s: now_s(),
            max_age_s: Some(3600),
            clock_skew_s: 60,
        },
        state: setup.path("audit/checkpoint"),
        rebuild: false,
        published: None,
        model: None,
        token_issuer: None,
        serving: Serving::default(),
    }
}

fn audit(request: &Request) -> (Report, Audited) {
    let workspace = Workspace::find().expect("a checkout");
    run(&workspace, request).expect("an audit")
}

/// The names of the checks that failed.
fn failed(request: &Request) -> Vec<String> {
    let (report, _) = audit(request);
    let checks = report.checks().iter();
    let failed = checks.filter(|check| check.outcome.status() == "FAIL");
    failed.map(|check| check.name.clone()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

#[test]
fn a_good_log_passes_and_is_remembered() {
    let setup = published();
    let mut request = request(&setup);
    request.published = Some(setup.path("image"));
    let (report, audited) = audit(&request);
    assert!(report.is_passed(), "{report}");
    assert_eq!(audited.launches.len(), 2);
    assert!(audited.path.is_some());
    let text = report.to_string();
    assert!(text.contains("NOT CHECKED  consistency"), "{text}");
    publish::image(&setup.deployment, &setup.image(b"next"), VALID_S).expect("published");
    // The image's folder now has the next release's proof.
    assert_eq!(failed(&request), ["published proof"]);
    request.entry = Some(1);
    let (report, _) = audit(&request);
    assert!(
        report.to_string().contains("begins with the 2 entries"),
        "{report}"
    );
    assert!(report.is_passed());
}

#[test]
fn each_thing_that_is_wrong_fails_its_check() {
    let setup = published();
    let good = request(&setup);
    assert_eq!(failed(&good), Vec::<String>::new());
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = good.clone();
        change(&mut request);
        failed(&request)
    };
    assert_eq!(with(&|r| r.entry = Some(7)), ["release signature"]);
    // The only entry is of another commit than this checkout's.
    assert_eq!(with(&|r| r.entry = None), ["release signature"]);
    assert_eq!(with(&|r| r.freshness.now_s += 7200), ["witness quorum"]);
    let expired = |r: &mut Request| {
        r.freshness.now_s += 2 * VALID_S;
        r.freshness.max_age_s = None;
    };
    assert_eq!(with(&expired), ["validity"]);
    let early = |r: &mut Request| r.freshness.now_s -= 7200;
    assert_eq!(with(&early), ["witness quorum"]);
    let other = Setup::new();
    let stranger = other.deployment.release_key().expect("a key");
    assert_eq!(
        with(&|r| r.release_keys = vec![stranger.clone()]),
        ["other entries", "release signature"]
    );
    let foreign = request(&other).policy;
    let other_log = |r: &mut Request| {
        r.policy.1 = foreign.1.clone();
        r.state = setup.path("audit/other");
    };
    assert_eq!(with(&other_log), ["log signature"]);
    publish::withdraw(&setup.deployment, 0, "why").expect("published");
    assert_eq!(failed(&good), ["withdrawal"]);
}

#[test]
fn a_withdrawn_release_is_not_there_again_with_another_signature_line() {
    let setup = published();
    let note = fs::read(setup.path("image/release.note")).expect("written");
    publish::withdraw(&setup.deployment, 0, "why").expect("published");
    let mut again = cloister_transparency::Note::parse(&note).expect("a note");
    let stranger = Setup::new()
        .deployment
        .keys
        .signing_key(keys::LOG)
        .expect("a key");
    again.sign(&stranger, 0).expect("room");
    let folders = setup.deployment.folders.clone();
    let signer = setup.deployment.keys.signer(keys::LOG).expect("a key");
    let mut log = TileLog::open(folders, signer, Locking::Wait).expect("a log");
    assert_eq!(log.append(&[again.to_string()]).expect("room")[0].index, 2);
    drop(log);
    publish::image(&setup.deployment, &setup.image(b"next"), VALID_S).expect("published");
    let mut request = request(&setup);
    request.entry = Some(2);
    assert_eq!(failed(&request), ["withdrawal"]);
}

#[test]
fn an_entry_of_somebody_else_is_named() {
    let setup = published();
    let folders = setup.deployment.folders.clone();
    let signer = setup.deployment.keys.signer(keys::LOG).expect("a key");
    let mut log = TileLog::open(folders, signer, Locking::Wait).expect("a log");
    log.append(&["not a release"]).expect("room");
    drop(log);
    // The next release has the witnesses see it.
    publish::image(&setup.deployment, &setup.image(b"next"), VALID_S).expect("published");
    assert_eq!(failed(&request(&setup)), ["other entries"]);
}

#[test]
fn a_log_that_is_set_back_or_altered_is_found_out() {
    let setup = published();
    let mut request = request(&setup);
    let (log, old) = (&setup.deployment.folders.log, setup.path("old"));
    copy(log, &old);
    publish::image(&setup.deployment, &setup.image(b"next"), VALID_S).expect("published");
    assert_eq!(failed(&request), Vec::<String>::new());
    request.log = LogLocation::Directory(old.clone());
    assert_eq!(failed(&request), ["consistency"]);
    // What was kept is not given up for it.
    request.log = LogLocation::Directory(log.clone());
    assert_eq!(failed(&request), Vec::<String>::new());
    let bundle = log.join("tile/entries/000.p/2");
    let mut bytes = fs::read(&bundle).expect("a bundle");
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&bundle, bytes).expect("written");
    assert_eq!(failed(&request), ["whole log"]);
}

#[test]
fn the_page_shows_the_verdict_and_no_markup_of_others() {
    let setup = published();
    let mut request = request(&setup);
    request.test = true;
    publish::withdraw(&setup.deployment, 0, "<script>alert(1)</script>").expect("published");
    let (report, audited) = audit(&request);
    let page = html::page(&report, &audited);
    assert!(page.contains("FAIL") && page.contains("TEST WITNESSES"));
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"));
    // One step of the path: the proof's hash, the entry and the root.
    assert_eq!(page.matches("<rect").count(), 3);
    assert!(
        !page.contains("http://") && !page.contains("src="),
        "nothing from elsewhere"
    );
}
