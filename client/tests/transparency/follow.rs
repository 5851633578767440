//! Reading a log from a folder and from a server: what is given out is in the tree.

use std::fs;
use std::path::Path;

use cloister_client::Authorities;
use cloister_client::follow::{FollowError, MAX_VIEW_ENTRIES, View, follow, read_view};
use cloister_client::remote_log::{LogLocation, LogSource};
use cloister_transparency::log::LogError;
use cloister_transparency::release::ReleaseError;
use cloister_transparency::{AppraisalError, Checkpoint, Hash, Statement};

use super::fixture::{
    Log, filling, freshness, key, log_key, policy, release, release_key, withdrawal,
};
use super::site::Site;

fn view(location: &LogLocation, from: Option<&Checkpoint>) -> Result<View, FollowError> {
    let keys = [release_key().verifier().clone()];
    read_view(location, &policy(true), &keys, &freshness(), from)
}

fn http(url: &str) -> LogLocation {
    url.parse().expect("an address")
}

#[test]
fn a_folder_and_a_server_show_the_same() {
    let (mut log, first, second) = (Log::new(), release("1.0.0"), release("1.0.1"));
    let stranger = key(
        "release.example",
        cloister_transparency::KeyType::Ed25519,
        99,
    );
    log.append(&[
        first.clone(),
        second.clone(),
        withdrawal(&first, "a defect", &release_key()),
        withdrawal(&second, "not by us", &stranger),
    ]);
    log.append(&filling(4..300));
    log.cosign(60);
    let site = Site::new(&log.folder());
    let seen = view(&log.location(), None).expect("a log");
    assert_eq!(view(&http(&site.url), None).expect("the same"), seen);
    assert_eq!(seen.entries.len(), 300);
    assert_eq!(seen.witnesses.len(), 2);
    assert_eq!(&seen.checkpoint, log.log.checkpoint());
    for (at, entry) in (0..).zip(&seen.entries) {
        assert_eq!(entry.index, at);
    }
    assert_eq!(seen.entries[1].leaf, Hash::leaf(&second));
    assert!(
        matches!(&seen.entries[1].statement, Ok(Statement::Model(model)) if model.version == "1.0.1")
    );
    assert!(matches!(
        seen.entries[3].statement,
        Err(ReleaseError::Note(_))
    ));
    assert!(
        seen.entries[4..]
            .iter()
            .all(|entry| entry.statement.is_err())
    );
    let withdrawn = [(Hash::leaf(&first), "a defect".to_owned())];
    assert_eq!(seen.withdrawn, withdrawn, "a stranger's does not count");

    let last = seen.checkpoint.checkpoint();
    let nothing = view(&http(&site.url), Some(last)).expect("the same log");
    assert!(nothing.entries.is_empty());
    log.append(&[release("1.1.0")]);
    log.cosign(0);
    for location in [log.location(), http(&site.url)] {
        let new = view(&location, Some(last)).expect("a longer log");
        let indices: Vec<u64> = new.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(indices, [300]);
        assert_eq!(new.checkpoint.checkpoint().size, 301);
    }
}

/// Tiles that are full are asked for once, and everything else each time.
#[test]
fn full_tiles_are_kept() {
    let mut log = Log::new();
    log.append(&filling(0..300));
    let site = Site::new(&log.folder());
    let source = LogSource::new(&http(&site.url)).expect("an address");
    let mut reader = source.reader();
    let checkpoint = reader.checkpoint().expect("a log");
    for index in [0, 1, 299] {
        reader.prove(index, &checkpoint).expect("in the log");
    }
    reader.verify(log_key().verifier()).expect("a log");
    assert_eq!(site.count("tile/0/000"), 1);
    assert!(site.count("tile/0/001.p/44") > 1);
    assert_eq!(site.count("checkpoint"), 2);
}

fn alter(folder: &Path, path: &str, from: &[u8], to: &[u8]) {
    let path = folder.join(path);
    let mut bytes = fs::read(&path).expect("a file");
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.expect("there");
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(&path, bytes).expect("writable");
}

/// The operator of the web server serves other entries, or another tree, than the log signed.
#[test]
fn what_is_served_has_to_be_what_was_signed() {
    let mut log = Log::new();
    log.append(&[release("1.0.0")]);
    log.append(&filling(1..300));
    log.cosign(0);
    let site = Site::new(&log.folder());
    let refusal = || match view(&http(&site.url), None) {
        Err(FollowError::Log { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    alter(
        &log.folder(),
        "tile/entries/001.p/44",
        b"filling 280",
        b"filling 999",
    );
    let index = 280;
    assert_eq!(refusal(), LogError::EntryMismatch { index });
    let (right, wrong) = (Hash::leaf(b"filling 280"), Hash::leaf(b"filling 999"));
    alter(&log.folder(), "tile/0/001.p/44", &right.0, &wrong.0);
    assert!(matches!(refusal(), LogError::TilesMismatch { .. }));
    fs::remove_file(log.folder().join("tile/0/000")).expect("ours");
    assert!(matches!(refusal(), LogError::Tile(_)));
    fs::remove_file(log.folder().join("checkpoint")).expect("ours");
    assert_eq!(refusal(), LogError::NotPublished);
}

#[test]
fn two_histories_and_too_few_witnesses_are_refused() {
    let mut log = Log::new();
    log.append(&filling(0..5));
    let early = log.log.checkpoint().checkpoint().clone();
    let quorum = view(&log.location(), None);
    assert!(matches!(
        quorum,
        Err(FollowError::Checkpoint {
            error: AppraisalError::Quorum { .. },
            ..
        })
    ));
    log.cosign(90_000);
    let stale = view(&log.location(), None).expect_err("too old");
    assert!(stale.to_string().contains("2 too old"), "{stale}");
    log.cosign(0);
    // Signatures of a witness are read to the newest.
    view(&log.location(), None).expect("fresh");
    let mut other = Log::new();
    other.append(&filling(10..20));
    let forked = other.log.checkpoint().checkpoint();
    // What was seen last outweighs that nobody cosigned.
    let error = view(&other.location(), Some(&early)).expect_err("another tree");
    assert!(error.is_accusation());
    assert!(error.to_string().contains("two histories"), "{error}");
    let error = view(&log.location(), Some(forked)).expect_err("shorter");
    assert!(error.to_string().contains("set back"), "{error}");
}

#[test]
fn a_server_that_does_not_serve_a_log_is_named() {
    let mut log = Log::new();
    log.append(&filling(0..5));
    log.cosign(0);
    let reason = |status, bytes| {
        let site = Site::with(&log.folder(), Some(("checkpoint".into(), status, bytes)));
        let error = view(&http(&site.url), None).expect_err("no log");
        let text = error.to_string();
        assert!(text.contains(&site.url), "{text}");
        text
    };
    assert!(reason(500, 1).contains("500"));
    assert!(reason(301, 1).contains("301"));
    assert!(reason(200, 300 << 10).contains("limit"));
    assert!(reason(200, 10).contains("checkpoint"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let url = format!("http://{}", closed.expect("a port"));
    let error = view(&http(&url), None).expect_err("nobody listens");
    assert!(!error.is_accusation());
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn locations_are_folders_and_addresses() {
    let location = |text: &str| text.parse::<LogLocation>();
    assert_eq!(
        location("http://h:1/logs/").expect("an address"),
        LogLocation::Http {
            url: "http://h:1/logs".into(),
            authorities: Authorities::default()
        }
    );
    let secure = location("https://h/log/").expect("an address");
    assert_eq!(secure.to_string(), "https://h/log");
    assert_eq!(
        location("target/log").expect("a folder"),
        LogLocation::Directory("target/log".into())
    );
    for (text, word) in [
        ("ftp://h/log", "http"),
        ("http://", "empty"),
        ("http://h/?q", "query"),
        ("", "empty"),
    ] {
        let error = location(text).expect_err("no log").to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

/// A view is bounded; following is not.
#[test]
fn a_large_log_is_followed_and_not_held() {
    let mut log = Log::new();
    log.append(&filling(0..MAX_VIEW_ENTRIES + 1));
    log.cosign(0);
    let held = view(&log.location(), None);
    assert!(matches!(held, Err(FollowError::TooLarge { .. })));
    let mut count = 0;
    let followed = follow::<FollowError>(
        &log.location(),
        &policy(true),
        &[],
        &freshness(),
        None,
        |entry| {
            assert_eq!(entry.index, count);
            count += 1;
            Ok(())
        },
    );
    assert_eq!(&followed.expect("a log").checkpoint, log.log.checkpoint());
    assert_eq!(count as usize, MAX_VIEW_ENTRIES + 1);
}
