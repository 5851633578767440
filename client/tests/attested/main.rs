//! The client and evidence that an emulated platform signed: what `ask` sends, what `verify` says.

#[path = "../common/mod.rs"]
mod common;
mod logged;
#[path = "../transparency/site.rs"]
mod site;
mod view;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use cloister_emulator::hierarchy::Hierarchy;
use cloister_emulator::report::{CHIP_ID, Contents, LaunchParameters, SIGNED_BYTES, unsigned};
use cloister_protocol::api::{media, paths};
use cloister_protocol::evidence::{Enclosures, Evidence, Kind, parse_nonce, report_data};
use cloister_protocol::keyconfig::Epoch;
use cloister_protocol::ohttp::Gateway;
use common::{ACCEPTED, File, REFUSED, text};
use getrandom::SysRng;
use rand_core::UnwrapErr;

const MEASUREMENT: [u8; 48] = [0xab; 48];

/// The platform's keys, made once.
fn platform() -> &'static Hierarchy {
    static PLATFORM: OnceLock<Hierarchy> = OnceLock::new();
    PLATFORM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated-platform");
        Hierarchy::open_or_create(&folder).expect("keys")
    })
}

/// Evidence of a sound guest with fresh keys.
fn evidence(nonce: Option<[u8; 32]>) -> Evidence {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let start_s = now.expect("a clock").as_secs();
    let epoch = Epoch {
        number: 3,
        start_s,
        end_s: start_s + 3600,
    };
    let keys = Gateway::generate_for_epoch(&mut UnwrapErr(SysRng), epoch).key_configs();
    let mut report = unsigned(&Contents {
        report_data: report_data(epoch.number, &keys, b"", nonce.as_ref()),
        vmpl: 0,
        measurement: MEASUREMENT,
        report_id: [3; 32],
        chip_id: CHIP_ID,
        cpu_signature: 0x00a0_0f11,
        launch: LaunchParameters::default(),
    });
    let (signed, signature) = report.split_at_mut(SIGNED_BYTES);
    let signed: &[u8; SIGNED_BYTES] = (&*signed).try_into().expect("its length");
    signature.copy_from_slice(&platform().sign(signed));
    Evidence {
        kind: Kind::SevSnp(Box::new(report)),
        key_configs: keys,
        epoch: epoch.number,
        nonce,
        tls_public_key: Vec::new(),
        enclosures: Enclosures {
            certificates: fs::read(platform().chain()).expect("the chain"),
            ..Enclosures::default()
        },
    }
}

/// A server that gives evidence, changed by `change`, and notes the paths that it was asked for. It answers nothing else.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

fn serve(change: impl Fn(&mut Evidence) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let line = lines.next().unwrap_or_default();
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = target.split('?').next().unwrap_or_default().to_owned();
            log.lock().expect("no panic").push(path);
            let nonce = target.strip_prefix(&format!("{}?nonce=", paths::EVIDENCE));
            let (status, body) = match nonce {
                Some(nonce) => {
                    let mut evidence = evidence(parse_nonce(nonce));
                    change(&mut evidence);
                    (200, evidence.encode())
                }
                None => (503, Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                media::CMW_CBOR,
                body.len()
            );
            // The client may have heard enough.
            let _ = (&stream).write_all(&[head.as_bytes(), &body].concat());
        }
    });
    Server { url, seen }
}

fn trust() -> Vec<String> {
    let root = platform().root().to_str().expect("a plain name").to_owned();
    let digest = MEASUREMENT.map(|byte| format!("{byte:02x}")).concat();
    vec![
        "--trust-emulated-root".into(),
        root,
        "--measurement".into(),
        digest,
    ]
}

/// With an image that is in no log.
fn cloister(words: &[&str], more: &[String]) -> Output {
    run(&[words, &["--without-log"]].concat(), more)
}

fn run(words: &[&str], more: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloister"));
    command.args(words).args(more).output().expect("it runs")
}

fn verify_file(name: &str, evidence: &Evidence, more: &[String]) -> (Option<i32>, String) {
    let file = File::new(name, &evidence.encode());
    let output = cloister(&["verify", "--evidence", file.path()], more);
    (output.status.code(), text(&output))
}

#[test]
fn saved_evidence_is_judged_without_a_network() {
    let (status, text) = verify_file("sound.cbor", &evidence(None), &trust());
    assert_eq!(status, Some(ACCEPTED), "{text}");
    assert!(text.contains("ACCEPTED AS EMULATED"), "{text}");
    let (status, text) = verify_file("no-reference.cbor", &evidence(None), &trust()[..2]);
    assert_eq!(status, Some(REFUSED), "without a reference value: {text}");
    let (status, text) = verify_file("no-root.cbor", &evidence(None), &trust()[2..]);
    assert_eq!(status, Some(REFUSED), "the root must be named: {text}");
    assert!(text.contains("REFUSED (EMULATED)"), "{text}");
}

#[test]
fn certificates_can_come_from_elsewhere() {
    let without = Evidence {
        enclosures: Enclosures::default(),
        ..evidence(None)
    };
    let (status, text) = verify_file("bare.cbor", &without, &trust());
    assert_eq!(status, Some(REFUSED), "{text}");
    let chain = platform()
        .chain()
        .to_str()
        .expect("a plain name")
        .to_owned();
    let with = [&trust()[..], &["--certs".into(), chain]].concat();
    let (status, text) = verify_file("certified.cbor", &without, &with);
    assert_eq!(status, Some(ACCEPTED), "{text}");
    let broken = Evidence {
        enclosures: Enclosures {
            certificates: b"no certificates".to_vec(),
            ..Enclosures::default()
        },
        ..evidence(None)
    };
    let (status, text) = verify_file("broken.cbor", &broken, &trust());
    assert_eq!(status, Some(REFUSED), "{text}");
    assert!(text.contains("certificates"), "{text}");
}

#[test]
fn keys_that_the_report_does_not_name_are_refused() {
    let other = Evidence {
        key_configs: evidence(None).key_configs,
        ..evidence(None)
    };
    let (status, text) = verify_file("other-keys.cbor", &other, &trust());
    assert_eq!(status, Some(REFUSED), "{text}");
    let failed: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert!(
        matches!(failed[..], [line] if line.contains("key binding")),
        "{text}"
    );
}

#[test]
fn a_server_is_asked_for_fresh_evidence() {
    let server = serve(|_| {});
    let output = cloister(&["verify", "--server", &server.url, "--json"], &trust());
    assert_eq!(output.status.code(), Some(ACCEPTED), "{}", text(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&document["accepted"], &document["emulated"]),
        (&true.into(), &true.into())
    );
    let checks = document["checks"].as_array().expect("a list");
    let nonce = checks.iter().find(|check| check["check"] == "nonce");
    assert_eq!(nonce.expect("a check")["result"], "PASS");

    let unattested = serve(|evidence| evidence.kind = Kind::None);
    let output = cloister(&["verify", "--server", &unattested.url], &trust());
    assert_eq!(output.status.code(), Some(REFUSED), "{}", text(&output));
}

#[test]
fn messages_leave_only_after_the_evidence_was_accepted() {
    let thread = File::new(
        "thread.json",
        br#"[{"from":"Ana","text":"The launch moves."}]"#,
    );
    let ask = |server: &Server, more: &[String]| {
        let words = ["ask", "--server", &server.url, "--messages", thread.path()];
        let output = cloister(&words, more);
        let seen = server.seen.lock().expect("no panic").clone();
        (output.status.code(), text(&output), seen)
    };
    let (status, text, seen) = ask(&serve(|_| {}), &trust());
    assert_eq!(seen, [paths::EVIDENCE, paths::OHTTP_GATEWAY], "{text}");
    assert_eq!(status, Some(1), "this server has no answers: {text}");

    let altered: fn(&mut Evidence) = |evidence| {
        if let Kind::SevSnp(report) = &mut evidence.kind {
            report[0x90] ^= 1;
        }
    };
    for (server, trust, why) in [
        (serve(|_| {}), &trust()[..2], "measurement"),
        (serve(|_| {}), &trust()[2..], "root"),
        (serve(altered), &trust()[..], "report signature"),
        (
            serve(|evidence| evidence.nonce = None),
            &trust()[..],
            "nonce",
        ),
        (serve(|evidence| evidence.epoch += 1), &trust()[..], "epoch"),
    ] {
        let (status, text, seen) = ask(&server, trust);
        assert_eq!(status, Some(REFUSED), "{text}");
        assert!(
            text.contains(why) && text.contains("nothing was sent"),
            "{text}"
        );
        assert_eq!(seen, [paths::EVIDENCE], "{text}");
    }
}
