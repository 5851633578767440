//! Logs and witnesses behind https: authorities vouch for who serves them, which says nothing of what they serve.

use std::net::SocketAddr;

use cloister_client::Authorities;
use cloister_client::follow::read_view;
use cloister_client::remote_log::LogLocation;
use cloister_client::witness::{AskError, ask_vouched_witness};
use cloister_transparency::log::LogError;

use super::certificates::{Authority, Issued, VALID};
use super::fixture::{Log, filling, freshness, log_key, policy, release, release_key, witness_key};
use super::monitor::Monitor;
use super::site::Site;
use super::tls_front::{TlsFront, TlsKey};
use super::witness::{Server, TIMEOUT};
use super::witness_command::Process;

/// An authority, with its certificate in a file, and a server's key that it has signed.
fn authority() -> (tempfile::TempDir, Authorities, String, TlsKey) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    let file = authority.file(folder.path());
    let trusted = Authorities::default().with_file(&file).expect("one");
    let key = TlsKey::issued(&Issued::by(&authority));
    (folder, trusted, file.display().to_string(), key)
}

fn address(url: &str) -> SocketAddr {
    let address = url.strip_prefix("http://").expect("http");
    address.parse().expect("an address")
}

#[test]
fn a_log_with_https_is_read_where_somebody_vouches_for_it() {
    let mut log = Log::new();
    log.append(&[release("1.0.0")]);
    log.append(&filling(1..300));
    log.cosign(0);
    let site = Site::new(&log.folder());
    let (folder, trusted, file, key) = authority();
    let front = TlsFront::before(address(&site.url), &key);
    let location: LogLocation = front.named_url().parse().expect("an address");
    let keys = [release_key().verifier().clone()];
    let view =
        |location: &LogLocation| read_view(location, &policy(true), &keys, &freshness(), None);
    let secure = location.clone().vouched_by(&trusted);
    assert_eq!(view(&secure).expect("a log").entries.len(), 300);
    let error = view(&location).expect_err("only the system's authorities");
    assert!(!error.is_accusation(), "it was not read");
    let text = error.to_string();
    assert!(text.contains(&front.named_url()), "{text}");
    assert!(text.contains("--ca-certificate"), "{text}");

    let monitor = Monitor::new();
    let look = monitor.look(&front.named_url(), &["--ca-certificate", &file]);
    assert!(
        look.out.contains("size 300, 300 new"),
        "{} {}",
        look.out,
        look.errors
    );
    // Where the operating system's authorities are, an environment may say.
    let none = folder.path().join("none");
    std::fs::write(&none, "").expect("writable");
    let none = none.to_str().expect("text");
    for (system, word) in [
        (file.as_str(), "ALARM: entry 299 "),
        (none, "this system has no certificate authorities"),
    ] {
        let monitor = Monitor::new();
        let mut command = monitor.command(&front.named_url(), &["--once"]);
        let command = command
            .env("SSL_CERT_FILE", system)
            .env_remove("SSL_CERT_DIR");
        let output = command.output().expect("it is built");
        let errors = String::from_utf8(output.stderr).expect("text");
        assert!(errors.contains(word), "{word}: {errors}");
    }
}

#[test]
fn the_command_witnesses_with_https() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("authority");
    let trusted = Authorities::default().with_file(&authority.file(folder.path()));
    let shown = authority.issue("127.0.0.1", VALID).files(folder.path());
    let [certificate, key] = [&shown.0, &shown.1].map(|path| path.to_str().expect("text"));
    let witness = Process::start(
        folder.path(),
        &[
            "--generate",
            "--name",
            "witness.example",
            "--tls-certificate",
            certificate,
            "--tls-key",
            key,
        ],
    );
    assert!(witness.url().starts_with("https://127.0.0.1:"));
    let mut log = Log::new();
    log.append(&filling(0..3));
    let cosigned = witness.ask_as(&trusted.expect("one"), &log, 0);
    assert_eq!(cosigned.expect("cosigned").len(), 1);
    let error = witness.ask_as(&Authorities::default(), &log, 0);
    assert!(matches!(error, Err(AskError::Transport(_))), "{error:?}");
}

#[test]
fn a_witness_with_https_cosigns() {
    let server = Server::new(witness_key(1), log_key().verifier().clone());
    let mut log = Log::new();
    log.append(&filling(0..3));
    let (_folder, trusted, _, key) = authority();
    let front = TlsFront::before(server.address, &key);
    let ask = |authorities: &Authorities| {
        let mut request = |size| -> Result<_, LogError> { log.log.witness_request(size) };
        let url = front.named_url();
        ask_vouched_witness(authorities, &url, &server.key, TIMEOUT, 0, &mut request)
    };
    assert_eq!(ask(&trusted).expect("cosigned").len(), 1);
    let error = ask(&Authorities::default()).expect_err("unknown");
    assert!(matches!(error, AskError::Transport(_)), "{error}");
}
