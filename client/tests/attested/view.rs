//! The log itself, read by `verify` and `ask`: what it withdraws, and whether it is the log that was seen last.

use std::fs;
use std::path::{Path, PathBuf};

use cloister_protocol::api::paths;
use cloister_transparency::log::{Locking, LogFolders, LogReader, TileLog};
use cloister_transparency::note::{self, Note, Signature};
use cloister_transparency::release::Withdrawal;
use cloister_transparency::{Hash, KeyType, SigningKey, Statement};
use tempfile::TempDir;

use crate::common::{ACCEPTED, File, REFUSED, text};
use crate::logged::{
    DAY_S, FAILED, WRONG_USAGE, enclose, image, key, log_arguments, log_key, now_s, policy_file,
    release_key, root_and, witness,
};
use crate::site::Site;
use crate::{evidence, run, serve};

/// A log in a folder of its own.
struct Log {
    root: TempDir,
    log: TileLog,
}

impl Log {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let folders = LogFolders {
            log: root.path().join("log"),
            state: root.path().join("state"),
        };
        drop(TileLog::init(folders.clone(), Box::new(log_key())).expect("an empty folder"));
        let log = TileLog::open(folders, Box::new(log_key()), Locking::Fail);
        Self {
            root,
            log: log.expect("a log"),
        }
    }

    /// Appends an entry, which the witness sees.
    fn append(&mut self, entry: &[u8]) -> u64 {
        let index = self.log.append(&[entry]).expect("room")[0].index;
        let text = self.log.checkpoint().note().text().to_owned();
        let seen = note::sign(&witness(), &text, now_s());
        self.log.publish(&[seen]).expect("published");
        index
    }

    /// Appends a released image, and gives what its guest shows of it.
    fn release(&mut self, note: Note) -> [Vec<u8>; 2] {
        let note = note.to_string().into_bytes();
        let index = self.append(&note);
        let checkpoint = self.log.checkpoint().clone();
        let proof = self.log.reader().prove(index, &checkpoint);
        [note, proof.expect("in the log").to_string().into_bytes()]
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn path(&self) -> String {
        argument(&self.folder())
    }

    /// The folder as it is now, elsewhere.
    fn copied(&self, name: &str) -> PathBuf {
        let to = self.root.path().join(name);
        copy(&self.folder(), &to);
        to
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

fn argument(path: &Path) -> String {
    path.to_str().expect("a plain name").to_owned()
}

fn signed(statement: &Statement, key: &SigningKey) -> Note {
    let mut note = Note::new(&statement.to_text()).expect("a text");
    note.sign(key, 0).expect("room");
    note
}

fn released() -> Note {
    signed(&Statement::Image(image(DAY_S)), &release_key())
}

/// The entry that withdraws `note`, in force from `not_before_s`.
fn withdrawal(note: &[u8], not_before_s: u64, reason: &str, key: &SigningKey) -> Vec<u8> {
    let statement = Statement::Withdraw(Withdrawal {
        subjects: image(DAY_S).subjects,
        not_before_s,
        reason: reason.into(),
        withdraws: Hash::leaf(note),
    });
    statement.check().expect("a statement");
    signed(&statement, key).to_string().into_bytes()
}

/// A client with saved evidence.
struct Verifier {
    evidence: File,
    policy: File,
}

impl Verifier {
    /// `name` is of this test alone.
    fn new(name: &str, release: &[Vec<u8>; 2]) -> Self {
        let mut shown = evidence(None);
        enclose(&mut shown, release.clone());
        Self {
            evidence: File::new(&format!("{name}.cbor"), &shown.encode()),
            policy: policy_file(&format!("{name}.log-policy")),
        }
    }

    fn verify(&self, more: &[&str]) -> (Option<i32>, String) {
        let more = more.iter().map(|word| (*word).to_owned());
        let words = log_arguments(&self.policy).into_iter().chain(more);
        let words: Vec<String> = words.collect();
        let output = run(&["verify", "--evidence", self.evidence.path()], &words);
        (output.status.code(), text(&output))
    }

    /// With this exit status, and a line that contains `line`.
    fn expect(&self, more: &[&str], status: i32, line: &str) {
        let (found, said) = self.verify(more);
        assert_eq!(found, Some(status), "{said}");
        assert!(said.lines().any(|one| one.contains(line)), "{said}");
    }
}

#[test]
fn a_withdrawal_that_is_younger_than_the_proof_counts() {
    let mut log = Log::new();
    log.append(b"another entry");
    let release = log.release(released());
    let note = &release[0];
    let client = Verifier::new("withdrawn", &release);
    let folder = log.path();
    let accepted = |entries: &str| client.expect(&["--log", &folder], ACCEPTED, &passed(entries));
    accepted("2");
    log.append(b"one more");
    accepted("3");
    let stranger = key("example.org/release", KeyType::Ed25519, 99);
    log.append(&withdrawal(note, now_s(), "not ours", &stranger));
    accepted("4");
    log.append(&withdrawal(note, now_s() + DAY_S, "later", &release_key()));
    accepted("5");
    log.append(&withdrawal(b"other", now_s(), "another", &release_key()));
    accepted("6");
    log.append(&withdrawal(note, now_s(), "a defect", &release_key()));

    let reason = "FAIL         not withdrawn        the release is withdrawn: a defect";
    client.expect(&["--log", &folder], REFUSED, reason);
    let site = Site::new(&log.folder());
    client.expect(&["--log", &site.url], REFUSED, reason);
    assert_eq!(site.count("checkpoint"), 1);
    // Who does not read the log does not know, and is told so.
    let unread =
        "NOT CHECKED  not withdrawn        the log itself was not read; name it with --log";
    client.expect(&[], ACCEPTED, unread);
}

fn passed(entries: &str) -> String {
    format!("PASS         not withdrawn        not withdrawn in {entries} entries")
}

#[test]
fn no_message_leaves_for_a_release_that_is_withdrawn() {
    let mut log = Log::new();
    let release = log.release(released());
    let (folder, policy) = (log.path(), policy_file("ask-withdrawn.log-policy"));
    let thread = File::new(
        "withdrawn.json",
        br#"[{"from":"Ana","text":"The launch moves."}]"#,
    );
    let ask = |location: &str| {
        let release = release.clone();
        let server = serve(move |shown| enclose(shown, release.clone()));
        let words = ["ask", "--server", &server.url, "--messages", thread.path()];
        let words = [&words[..], &["--log", location]].concat();
        let output = run(&words, &log_arguments(&policy));
        let seen = server.seen.lock().expect("no panic").clone();
        (output.status.code(), text(&output), seen)
    };
    let (status, said, seen) = ask(&folder);
    assert_eq!(seen, [paths::EVIDENCE, paths::OHTTP_GATEWAY], "{said}");
    assert_eq!(status, Some(FAILED), "this server has no answers: {said}");
    log.append(&withdrawal(&release[0], now_s(), "a hole", &release_key()));
    let (status, said, seen) = ask(&folder);
    assert_eq!(status, Some(REFUSED), "{said}");
    assert!(
        said.contains("withdrawn: a hole") && said.contains("nothing was sent"),
        "{said}"
    );
    assert_eq!(seen, [paths::EVIDENCE], "{said}");
    // Before a server is spoken to at all, the log has to be there.
    let (status, said, seen) = ask("/nowhere");
    assert_eq!(status, Some(FAILED), "{said}");
    assert!(seen.is_empty() && said.contains("/nowhere"), "{said}");
}

/// Who may write to the log cannot enter a withdrawn release a second time, as an entry of its own.
#[test]
fn the_same_statement_in_another_entry_is_withdrawn_too() {
    let mut log = Log::new();
    let [first, _] = log.release(released());
    let mut again = Note::parse(&first).expect("a note");
    let stranger = key("example.org/stranger", KeyType::Ed25519, 98);
    let line: Signature = note::sign(&stranger, again.text(), 0);
    again.add(line).expect("room");
    let release = log.release(again);
    assert_ne!(release[0], first);
    let client = Verifier::new("again", &release);
    client.expect(&["--log", &log.path()], ACCEPTED, &passed("2"));
    log.append(&withdrawal(&first, now_s(), "a defect", &release_key()));
    let reason = "the release is withdrawn: a defect";
    client.expect(&["--log", &log.path()], REFUSED, reason);
}

#[test]
fn a_log_that_is_not_the_one_seen_last_is_refused() {
    let mut log = Log::new();
    let release = log.release(released());
    let client = Verifier::new("state", &release);
    let kept = log.root.path().join("seen");
    let state = argument(&kept);
    let with = |location: &str, status: i32, line: &str| {
        client.expect(&["--log", location, "--log-state", &state], status, line);
    };
    with(&log.path(), ACCEPTED, &passed("1"));
    let old = log.copied("old");
    log.append(b"one more");
    with(&log.path(), ACCEPTED, &passed("2"));
    let seen = fs::read_to_string(&kept).expect("kept");
    assert_eq!(seen, log.log.checkpoint().to_string(), "it went on");

    // Set back, as by one who hides the withdrawal that came since.
    let set_back = "the log was set back: it has 1 entries, and had 2";
    with(&argument(&old), REFUSED, set_back);
    // Another history, longer, and as well signed.
    let mut fork = Log::new();
    fork.append(&release[0]);
    for entry in [&b"another"[..], b"and another"] {
        fork.append(entry);
    }
    with(&fork.path(), REFUSED, "the log shows two histories");
    assert_eq!(fs::read_to_string(&kept).expect("kept"), seen, "unchanged");
    with(&log.path(), ACCEPTED, &passed("2"));

    fs::write(&kept, "no checkpoint").expect("writable");
    with(&log.path(), FAILED, "the log's state:");
}

/// Also without a state: the proof is of a tree that the log must have had.
#[test]
fn a_proof_of_another_history_than_the_log_shows_is_refused() {
    let mut log = Log::new();
    log.append(b"another entry");
    let old = log.copied("old");
    let release = log.release(released());
    let client = Verifier::new("fork", &release);
    let line = "the log had 1 entries when it was read, the proof is of 2";
    client.expect(&["--log", &argument(&old)], REFUSED, line);

    let mut fork = Log::new();
    fork.append(b"something else");
    fork.append(&release[0]);
    let line = "the log shows two different trees of 2 entries";
    client.expect(&["--log", &fork.path()], REFUSED, line);
    fork.append(b"and more");
    client.expect(&["--log", &fork.path()], REFUSED, line);
    client.expect(&["--log", &log.path()], ACCEPTED, &passed("2"));
}

#[test]
fn out_of_reach_is_no_refusal_and_a_broken_log_is() {
    let mut log = Log::new();
    let release = log.release(released());
    let client = Verifier::new("broken", &release);
    let unread = "the log cannot be read, so what it withdraws is not known";
    // No one listens on port 1, and a server that is overloaded says so.
    client.expect(&["--log", "http://127.0.0.1:1"], FAILED, unread);
    let busy = Site::with(&log.folder(), Some(("checkpoint".into(), 503, 0)));
    client.expect(&["--log", &busy.url], FAILED, "503");
    client.expect(&["--log", "/nowhere"], FAILED, unread);

    let refused = "refused: the log is not to be believed";
    let altered = log.copied("altered");
    let bundle = altered.join("tile/entries/000.p/1");
    let mut bytes = fs::read(&bundle).expect("a bundle");
    bytes[40] ^= 1;
    fs::write(&bundle, bytes).expect("writable");
    let altered = argument(&altered);
    client.expect(&["--log", &altered], REFUSED, refused);
    let (status, said) = client.verify(&["--log", &altered, "--json"]);
    assert_eq!(status, Some(REFUSED), "{said}");
    assert!(said.contains("\"exit_status\":3"), "{said}");

    // Nobody has seen this tree: it is not what the policy asks for.
    log.log.append(&[b"unseen"]).expect("room");
    let reader = LogReader::new(&log.folder());
    let published = reader.checkpoint().expect("one").checkpoint().size;
    assert_eq!(published, 2, "the log publishes before its witnesses sign");
    client.expect(&["--log", &log.path()], REFUSED, "too few witnesses");
}

#[test]
fn a_policy_file_says_where_the_log_is() {
    let mut log = Log::new();
    let release = log.release(released());
    let client = Verifier::new("located", &release);
    log.append(&withdrawal(&release[0], now_s(), "why", &release_key()));
    let vkey = release_key().verifier().to_string();
    let policy = |location: &str| {
        let entry = serde_json::json!({ "policy": client.policy.path(), "release_keys": [vkey],
            "location": location });
        let path = log.root.path().join("policy.json");
        let text = serde_json::json!({ "log": entry }).to_string();
        fs::write(&path, text).expect("writable");
        argument(&path)
    };
    let verify = |more: &[&str]| {
        let words = ["verify", "--evidence", client.evidence.path()];
        let output = run(&words, &root_and(more));
        (output.status.code(), text(&output))
    };
    let (status, said) = verify(&["--policy", &policy("log")]);
    assert_eq!(status, Some(REFUSED), "{said}");
    assert!(said.contains("the release is withdrawn: why"), "{said}");
    // The argument takes its place.
    let (status, said) = verify(&["--policy", &policy("log"), "--log", "/nowhere"]);
    assert_eq!(status, Some(FAILED), "{said}");
    for (location, why) in [
        ("ftp://log.example", "behind http"),
        ("", "it is empty"),
        ("https://", "empty"),
    ] {
        let (status, said) = verify(&["--policy", &policy(location)]);
        assert_eq!(status, Some(FAILED), "{said}");
        assert!(said.contains("policy.json") && said.contains(why), "{said}");
    }
}

#[test]
fn mistakes_about_the_log_that_is_read_are_named() {
    let mut log = Log::new();
    let release = log.release(released());
    let client = Verifier::new("mistaken", &release);
    let verify = |more: &[&str]| {
        let words = ["verify", "--evidence", client.evidence.path()];
        let output = run(&words, &root_and(more));
        (output.status.code(), text(&output))
    };
    let folder = log.path();
    for (more, wanted, why) in [
        (&["--log", &folder][..], FAILED, "no log policy to judge"),
        (&["--without-log", "--log", &folder], WRONG_USAGE, "--log"),
        (
            &["--without-log", "--log-state", "seen"],
            WRONG_USAGE,
            "--log-state",
        ),
        (&["--log", "ftp://x"], WRONG_USAGE, "behind http"),
    ] {
        let (status, said) = verify(more);
        assert_eq!(status, Some(wanted), "{more:?}: {said}");
        assert!(said.contains(why), "{more:?}: {said}");
    }
    client.expect(&["--log-state", "seen"], FAILED, "no log to read");
    let nowhere = ["--log", &folder, "--log-state", "/nowhere/seen"];
    client.expect(&nowhere, FAILED, "/nowhere/seen");
}
