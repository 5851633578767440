//! `cloister monitor`, look after look.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cloister_client::monitor::{Alarm, Watch, look};
use cloister_transparency::checkpoint::SignedCheckpoint;
use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{Log, filling, now_s, policy, policy_text, release, release_key, withdrawal};
use super::site::Site;

/// Who looks at a log, and what was seen.
pub(crate) struct Monitor {
    root: TempDir,
}

pub(crate) struct Seen {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Monitor {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("policy"), policy_text(true)).expect("writable");
        Self { root }
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("seen")
    }

    fn size_seen(&self) -> u64 {
        let bytes = fs::read(self.state()).expect("a file");
        let checkpoint = SignedCheckpoint::parse(&bytes).expect("a checkpoint");
        checkpoint.checkpoint().size
    }

    pub(crate) fn command(&self, log: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
        command
            .args(["monitor", "--log", log, "--log-policy"])
            .arg(self.root.path().join("policy"))
            .args(["--release-key", &release_key().verifier().to_string()])
            .arg("--state")
            .arg(self.state())
            .args(more);
        command
    }

    pub(crate) fn look(&self, log: &str, more: &[&str]) -> Seen {
        let output = self.command(log, more).arg("--once").output();
        let output = output.expect("it is built");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Seen {
            status: output.status.code(),
            out: text(output.stdout),
            errors: text(output.stderr),
        }
    }
}

fn folder(log: &Log) -> String {
    log.folder().to_str().expect("text").to_owned()
}

#[test]
fn new_entries_are_printed_once() {
    let (monitor, mut log, first) = (Monitor::new(), Log::new(), release("1.0.0"));
    log.append(std::slice::from_ref(&first));
    log.cosign(0);
    let site = Site::new(&log.folder());
    let seen = monitor.look(&site.url, &[]);
    assert_eq!((seen.status, seen.errors.as_str()), (Some(0), ""));
    assert!(
        seen.out
            .contains("model tiny of version 1.0.0, valid from 2026-11-18T11:06:40Z"),
        "{}",
        seen.out
    );
    assert!(
        seen.out.contains("size 1, 1 new, 2 witnesses"),
        "{}",
        seen.out
    );
    log.append(&[withdrawal(&first, "a\ndefect", &release_key())]);
    log.cosign(0);
    let seen = monitor.look(&site.url, &["--json"]);
    assert_eq!(seen.status, Some(0), "{}", seen.errors);
    let document: Value = serde_json::from_str(&seen.out).expect("one document");
    assert_eq!(document["new"], 1);
    assert_eq!(document["good"], true);
    assert_eq!(document["seen"]["size"], 1);
    assert_eq!(document["checkpoint"]["size"], 2);
    assert_eq!(document["entries"][0]["kind"], "withdraw");
    assert_eq!(document["entries"][0]["reason"], "a\ndefect");
    let seen = monitor.look(&folder(&log), &["--max-age", "3600"]);
    assert_eq!(seen.status, Some(0), "{}", seen.errors);
    assert!(seen.out.contains("size 2, 0 new"), "{}", seen.out);
    assert_eq!(monitor.size_seen(), 2);
}

/// An alarm is raised until somebody says that it was seen.
#[test]
fn an_entry_that_is_not_expected_is_raised() {
    let (monitor, mut log) = (Monitor::new(), Log::new());
    log.append(&[release("1.0.0")]);
    log.cosign(0);
    assert_eq!(monitor.look(&folder(&log), &[]).status, Some(0));
    log.append(&[b"a\x1b[2Jstranger".to_vec(), release("1.0.1")]);
    log.cosign(0);
    for _ in 0..2 {
        let seen = monitor.look(&folder(&log), &[]);
        assert_eq!(seen.status, Some(1));
        assert!(seen.errors.contains("ALARM: entry 1 "), "{}", seen.errors);
        assert!(seen.out.contains("version 1.0.1"), "{}", seen.out);
        assert!(!seen.errors.contains('\u{1b}') && !seen.out.contains('\u{1b}'));
        assert_eq!(monitor.size_seen(), 1);
    }
    let seen = monitor.look(&folder(&log), &["--acknowledge", "--json"]);
    assert_eq!(seen.status, Some(1));
    let document: Value = serde_json::from_str(&seen.out).expect("one document");
    assert_eq!(document["good"], false);
    assert_eq!(document["alarms"].as_array().expect("a list").len(), 1);
    assert_eq!(monitor.size_seen(), 3);
    assert_eq!(monitor.look(&folder(&log), &[]).status, Some(0));
}

#[test]
fn a_log_that_is_set_back_forked_stale_or_not_cosigned_is_raised() {
    let (monitor, mut log) = (Monitor::new(), Log::new());
    log.append(&[release("1.0.0")]);
    log.cosign(0);
    let early = fs::read(log.folder().join("checkpoint")).expect("a file");
    log.append(&[release("1.0.1")]);
    let alone = fs::read(log.folder().join("checkpoint")).expect("a file");
    log.cosign(0);
    let late = fs::read(log.folder().join("checkpoint")).expect("a file");
    assert_eq!(monitor.look(&folder(&log), &[]).status, Some(0));
    let raised = |log: &Log, words: &str, more: &[&str]| {
        let seen = monitor.look(&folder(log), &[&["--acknowledge"], more].concat());
        assert_eq!(seen.status, Some(1), "{words}");
        assert!(seen.errors.contains("ALARM"), "{}", seen.errors);
        assert!(seen.errors.contains(words), "{}", seen.errors);
        assert_eq!(monitor.size_seen(), 2, "such a checkpoint is never kept");
    };
    let publish = |bytes: &[u8]| fs::write(log.folder().join("checkpoint"), bytes).expect("ours");
    publish(&early);
    raised(&log, "set back", &[]);
    publish(&alone);
    raised(&log, "too few witnesses", &[]);
    publish(&late);
    assert_eq!(monitor.look(&folder(&log), &[]).status, Some(0));
    let mut fork = Log::new();
    fork.append(&[release("1.0.0"), release("1.0.2"), release("1.0.3")]);
    fork.cosign(0);
    raised(&fork, "two histories", &[]);
    let mut old = log;
    old.append(&[release("1.1.0")]);
    old.cosign(7200);
    raised(&old, "2 too old", &["--max-age", "3600"]);
    assert_eq!(monitor.look(&folder(&old), &[]).status, Some(0));
}

#[test]
fn what_cannot_be_read_fails_and_is_no_alarm() {
    let monitor = Monitor::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let url = format!("http://{}", closed.expect("a port"));
    let seen = monitor.look(&url, &[]);
    assert_eq!(seen.status, Some(1));
    assert!(!seen.errors.contains("ALARM"), "{}", seen.errors);
    assert!(seen.errors.contains("refused"), "{}", seen.errors);
    assert!(!monitor.state().exists());
    assert_eq!(monitor.look("ftp://log.example", &[]).status, Some(2));
    fs::write(monitor.state(), "no checkpoint").expect("writable");
    let seen = monitor.look(&url, &[]);
    assert_eq!(seen.status, Some(1));
    assert!(
        seen.errors.contains("state of another log"),
        "{}",
        seen.errors
    );
}

/// Without `--once`: each entry is said once, and what was raised decides the status in the end.
#[test]
fn a_log_is_followed_until_the_monitor_is_stopped() {
    for (entry, words, status) in [
        (release("1.0.1"), "version 1.0.1", 0),
        (b"a stranger's".to_vec(), "UNEXPECTED", 1),
    ] {
        let (monitor, mut log) = (Monitor::new(), Log::new());
        log.append(&[release("1.0.0")]);
        log.cosign(0);
        let mut command = monitor.command(&folder(&log), &["--every", "1"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("it is built");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut lines = out.lines().map(|line| line.expect("text"));
        assert!(lines.any(|line| line.contains("version 1.0.0")));
        assert!(lines.any(|line| line.contains("size 1, 1 new")));
        // Published once only, with cosignatures: the monitor looks at any time.
        log.log.stage(&[entry]).expect("room");
        log.cosign(0);
        assert!(lines.any(|line| line.contains(words)));
        assert!(lines.any(|line| line.contains("size 2, 1 new")));
        let id = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status();
        assert!(sent.expect("kill is there").success());
        assert_eq!(lines.next(), None, "nothing is said twice");
        assert_eq!(child.wait().expect("ended").code(), Some(status));
        assert_eq!(monitor.size_seen(), if status == 0 { 2 } else { 1 });
    }
}

/// The same for programs that follow a log themselves.
#[test]
fn a_look_says_what_is_new_and_what_is_wrong() {
    let mut log = Log::new();
    log.append(&[release("1.0.0")]);
    log.append(&filling(0..2));
    log.cosign(0);
    let watch = Watch {
        location: log.location(),
        policy: policy(true),
        release_keys: vec![release_key().verifier().clone()],
        max_age_s: None,
    };
    let mut indices = Vec::new();
    let seen = look(&watch, None, now_s(), |entry| indices.push(entry.index));
    assert_eq!(indices, [0, 1, 2]);
    assert_eq!((seen.new, seen.is_good()), (3, false));
    let alarms = seen.alarms.iter().map(|alarm| match alarm {
        Alarm::Entry(entry) => entry.index,
        other => panic!("{other:?}"),
    });
    assert_eq!(alarms.collect::<Vec<_>>(), [1, 2]);
    let last = seen.followed.expect("a log").checkpoint;
    let seen = look(&watch, Some(last.checkpoint()), now_s(), |_| {
        panic!("nothing is new")
    });
    assert!(seen.is_good());
}
