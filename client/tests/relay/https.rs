//! A relay that speaks TLS to its clients.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cloister_client::TlsIdentity;
use cloister_client::relay::Limits;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::{Authority, Issued, Key, VALID};
use super::command::start;
use super::raw::{
    ANSWER, PATIENCE, POST, RawGateway, Relaying, answer, generous, read_message, refusal,
    wait_until,
};

/// An authority, and what it issued, in files.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        Self::of("authority")
    }

    fn of(authority: &'static str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new(authority),
        }
    }

    fn identity(&self) -> TlsIdentity {
        let files = Issued::by(&self.authority).files(self.folder.path());
        TlsIdentity::load(&files.0, &files.1).unwrap()
    }

    fn relay(&self, gateway: &RawGateway, limits: Limits) -> Relaying {
        Relaying::secured(&gateway.url(), limits, self.identity())
    }

    /// A client of another make, which trusts the authority.
    fn connect(&self, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
        let own = CertificateDer::from_pem_file(self.authority.file(self.folder.path()));
        let mut roots = RootCertStore::empty();
        roots.add(own.unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(tls, stream)
    }

    /// The answer to a request, or why there is no TLS.
    fn exchange(&self, port: u16) -> io::Result<String> {
        let mut stream = self.connect(port);
        stream.write_all(POST.as_bytes())?;
        let message = read_message(&mut stream, |_| ())?;
        Ok(String::from_utf8(message.expect("an answer")).unwrap())
    }

    /// The same where the time for a handshake is so short that a busy machine may miss it.
    fn exchange_in_time(&self, port: u16) {
        wait_until(|| {
            self.exchange(port)
                .is_ok_and(|answer| answer.ends_with("world"))
        });
    }
}

#[test]
fn requests_pass_over_a_connection_that_stays() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let relay = files.relay(&gateway, generous());
    let mut stream = files.connect(relay.address.port());
    for _ in 0..3 {
        stream.write_all(POST.as_bytes()).unwrap();
        let message = read_message(&mut stream, |_| ()).unwrap().unwrap();
        assert!(message.ends_with(b"world"));
    }
    assert_eq!(stream.conn.alpn_protocol(), None, "none was asked for");
    assert_eq!(stream.conn.tls13_tickets_received(), 0);
    assert_eq!(relay.counter("cloister_relay_connections_total"), 1);
    // A connection without a request ends with the relay, and its end is said.
    relay.end();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn who_stalls_in_the_handshake_is_cut_off_and_others_are_served() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let limits = Limits {
        head_timeout: Duration::from_millis(300),
        ..generous()
    };
    let relay = files.relay(&gateway, limits);
    // Nothing; a record that does not go on; a handshake that is none.
    let beginnings = [&b""[..], &[22], &[22, 3, 1, 2, 0, 1], &[22, 3, 1, 0, 1, 9]];
    let mut stalled: Vec<TcpStream> = Vec::new();
    for beginning in beginnings.iter().cycle().take(40) {
        let mut stream = relay.connect();
        stream.write_all(beginning).unwrap();
        stalled.push(stream);
    }
    files.exchange_in_time(relay.address.port());
    for mut stream in stalled {
        // An alert at the most.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() <= 7, "{rest:?}");
    }
    wait_until(|| relay.counter("cloister_relay_connections") == 0);
    assert_eq!(relay.counter("cloister_relay_requests_total"), 1);
}

#[test]
fn who_takes_nothing_of_an_answer_is_cut_off() {
    // More than the buffers of both sides hold.
    let content = "x".repeat(100_000_000);
    let length = content.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: message/ohttp-chunked-res\r\ncontent-length: {length}\r\n\r\n{content}"
    );
    let (files, gateway) = (Files::new(), RawGateway::answering(&answer));
    let limits = Limits {
        write_timeout: Duration::from_millis(50),
        chunked_answer_bytes: length,
        ..generous()
    };
    let relay = files.relay(&gateway, limits);
    let mut stream = files.connect(relay.address.port());
    let request = POST.replace("ohttp-req", "ohttp-chunked-req");
    stream.write_all(request.as_bytes()).unwrap();
    wait_until(|| relay.counter("cloister_relay_answers_total") == 1);
    wait_until(|| relay.counter("cloister_relay_connections") == 0);
    let mut taken = Vec::new();
    assert!(
        stream.read_to_end(&mut taken).is_err(),
        "no end of it is said"
    );
    assert!(taken.len() < length);
}

#[test]
fn a_handshake_counts_as_a_connection() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let limits = Limits {
        connections: 1,
        head_timeout: Duration::from_millis(300),
        ..generous()
    };
    let relay = files.relay(&gateway, limits);
    let stalled = relay.connect();
    wait_until(|| relay.counter("cloister_relay_connections") == 1);
    // Served once the other one was cut off.
    files.exchange_in_time(relay.address.port());
    drop(stalled);
}

#[test]
fn the_end_does_not_wait_for_handshakes() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    // Whoever waited for one of these would wait for ever.
    let limits = Limits {
        head_timeout: Duration::from_secs(36_000),
        stop_timeout: Duration::from_secs(36_000),
        ..generous()
    };
    let relay = files.relay(&gateway, limits);
    let mut stalled = relay.connect();
    stalled.write_all(&[22, 3, 1]).unwrap();
    wait_until(|| relay.counter("cloister_relay_connections") == 1);
    relay.end();
    assert_eq!(stalled.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn who_speaks_in_the_clear_is_told_what_to_do() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let relay = files.relay(&gateway, generous());
    let long = format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 200000\r\n\r\n{}",
        "x".repeat(200_000)
    );
    for request in [POST, &long] {
        let mut stream = relay.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let (status, detail) = refusal(&answer(&mut stream));
        assert_eq!(status, 400);
        assert!(detail.contains("https://"), "{detail}");
    }
    assert!(gateway.received().is_empty());
}

#[test]
fn older_versions_and_unknown_authorities_get_no_further() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let relay = files.relay(&gateway, generous());
    // A hello of TLS 1.2, as small as there is one (RFC 5246, section 7.4.1.2).
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let mut stream = relay.connect();
    stream.write_all(&hello).unwrap();
    let mut alert = Vec::new();
    let _ = stream.read_to_end(&mut alert);
    assert_eq!(alert[..1], [21], "an alert");
    let stranger = Files::of("stranger");
    let error = stranger.exchange(relay.address.port()).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(relay.counter("cloister_relay_requests_total"), 0);
}

fn words(files: &(impl AsRef<Path>, impl AsRef<Path>)) -> [String; 4] {
    let text = |path: &Path| path.display().to_string();
    [
        "--tls-certificate".to_owned(),
        text(files.0.as_ref()),
        "--tls-key".to_owned(),
        text(files.1.as_ref()),
    ]
}

#[test]
fn the_command_serves_https_and_reads_its_files_again() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let paths = Issued::by(&files.authority).files(files.folder.path());
    let process = start(
        &gateway.url(),
        &words(&paths).each_ref().map(String::as_str),
    );
    let url = process.0.said("url").to_owned();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    assert!(files.exchange(port).unwrap().ends_with("world"));

    let other = Files::new();
    let renewed = Issued::by(&other.authority).files(other.folder.path());
    std::fs::copy(&renewed.0, &paths.0).unwrap();
    std::fs::copy(&renewed.1, &paths.1).unwrap();
    let id = process.0.child.id().to_string();
    let sent = Command::new("kill").args(["-HUP", &id]).status();
    assert!(sent.unwrap().success());
    wait_until(|| other.exchange(port).is_ok());
    assert!(files.exchange(port).is_err(), "the old one is gone");
    let (status, errors) = process.0.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(errors.contains("\"event\":\"tls-reloaded\""), "{errors}");
    assert!(!errors.contains("127.0.0.1"), "{errors}");
}

#[test]
fn files_that_cannot_be_read_again_change_nothing() {
    let (files, gateway) = (Files::new(), RawGateway::answering(ANSWER));
    let (certificate, key) = Issued::by(&files.authority).files(files.folder.path());
    let identity = TlsIdentity::load(&certificate, &key).unwrap();
    let relay = Relaying::secured(&gateway.url(), generous(), identity.clone());
    let mut open = files.connect(relay.address.port());
    open.write_all(POST.as_bytes()).unwrap();
    read_message(&mut open, |_| ()).unwrap().expect("an answer");
    let stranger = Files::of("stranger");
    // The key of another certificate; then both of another authority.
    let others = Issued::by(&stranger.authority).files(stranger.folder.path());
    std::fs::copy(&others.1, &key).unwrap();
    let error = identity.reload().unwrap_err().to_string();
    assert!(error.contains("not the key of the first"), "{error}");
    let port = relay.address.port();
    assert!(files.exchange(port).unwrap().ends_with("world"));
    std::fs::copy(&others.0, &certificate).unwrap();
    identity.reload().unwrap();
    assert!(stranger.exchange(port).unwrap().ends_with("world"));
    assert!(files.exchange(port).is_err());
    // What is open stays.
    open.write_all(POST.as_bytes()).unwrap();
    let message = read_message(&mut open, |_| ()).unwrap();
    assert!(message.expect("an answer").ends_with(b"world"));
}

#[test]
fn what_cannot_be_shown_is_said_before_anything_is_served() {
    let files = Files::new();
    let folder = files.folder.path();
    let good = Issued::by(&files.authority).files(folder);
    let run = |certificate: &Path, key: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_cloister"))
            .args(["relay", "--listen", "127.0.0.1:0", "--gateway", "http://h"])
            .args(words(&(certificate, key)))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let other = Issued {
        key: Key::generate(),
        ..files.authority.issue("localhost", VALID)
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let (missing, empty, broken) = (
        folder.join("missing"),
        folder.join("empty"),
        folder.join("broken"),
    );
    std::fs::write(&empty, "").unwrap();
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let others_key = other.files(elsewhere.path()).1;
    for (certificate, key, file, word) in [
        (&missing, &good.1, &missing, "No such file"),
        (&good.0, &missing, &missing, "No such file"),
        (&empty, &good.1, &empty, "no certificate in it"),
        (&good.0, &empty, &empty, "private key without a passphrase"),
        // Each in the other's place.
        (&good.1, &good.1, &good.1, "no certificate in it"),
        (&good.0, &good.0, &good.0, "private key"),
        (&broken, &good.1, &broken, "cannot be read"),
        (
            &good.0,
            &others_key,
            &others_key,
            "not the key of the first certificate",
        ),
    ] {
        let text = run(certificate, key);
        assert!(text.contains(word), "{word}: {text}");
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
    let alone = Command::new(env!("CARGO_BIN_EXE_cloister"))
        .args(["relay", "--listen", "127.0.0.1:0", "--gateway", "http://h"])
        .args(&words(&good)[..2])
        .output();
    assert_eq!(alone.unwrap().status.code(), Some(2));
}
