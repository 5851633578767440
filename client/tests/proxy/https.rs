//! The two hops of a way with a relay, each with TLS and each judged in its own way: the relay by authorities, the guest by
//! its evidence.

use std::path::PathBuf;
use std::time::Duration;

use cloister_client::relay::Limits;
use cloister_client::{Authorities, Client, ClientError, Policy, TlsIdentity, Way};

use super::behaviour::{CHAT, ask, said};
use super::certificates::{Authority, EXPIRED, Issued, VALID};
use super::process::Proxy;
use super::raw::Relaying;
use super::server::Server;
use super::tls_front::{TlsFront, TlsKey};

const TIMEOUT: Duration = Duration::from_secs(30);

/// An authority that is trusted.
struct Trusted {
    authority: Authority,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Trusted {
    fn new() -> Self {
        let (authority, folder) = (Authority::new("authority"), tempfile::tempdir().unwrap());
        Self {
            file: authority.file(folder.path()),
            authority,
            folder,
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities::default().with_file(&self.file).unwrap()
    }

    fn argument(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// A relay that has one of its certificates.
    fn relay(&self, gateway: &str) -> Relaying {
        let files = Issued::by(&self.authority).files(self.folder.path());
        let identity = TlsIdentity::load(&files.0, &files.1).unwrap();
        Relaying::secured(gateway, Limits::default(), identity)
    }

    fn way(&self, server: &str, relay: &str, evidence_direct: bool) -> Way {
        Way {
            relay: Some(relay.to_owned()),
            evidence_direct,
            authorities: self.authorities(),
            ..Way::direct(server)
        }
    }
}

/// By the name that its certificate is for.
fn named(relay: &Relaying) -> String {
    format!("https://localhost:{}", relay.address.port())
}

/// Nobody listens there.
const NOWHERE: &str = "https://127.0.0.1:1";

fn connect(way: &Way) -> Result<Client, ClientError> {
    let policy = Policy {
        accept_unattested: true,
        ..Policy::default()
    };
    Client::connect_by(way, TIMEOUT, policy)
}

fn reason(way: &Way) -> String {
    let error = connect(way).and_then(|client| client.models());
    error.unwrap_err().to_string()
}

/// A guest with TLS, whose evidence binds its key.
fn guest() -> (Server, TlsFront) {
    let (server, key) = (Server::start(), TlsKey::generate());
    server.bind_tls_key(key.public_key());
    let front = TlsFront::before(server.address, &key);
    (server, front)
}

#[test]
fn client_and_proxy_ask_through_a_relay_with_https() {
    let trusted = Trusted::new();
    let (server, front) = guest();
    let relay = trusted.relay(&front.url());
    let client = connect(&trusted.way(NOWHERE, &named(&relay), false)).unwrap();
    assert!(!client.models().unwrap().data.is_empty());

    let (relay, file) = (named(&relay), trusted.argument());
    let proxy = Proxy::start(NOWHERE, &["--relay", &relay, "--ca-certificate", file]);
    let answer = proxy.post(CHAT, &ask("good day", false));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = proxy.post(CHAT, &ask("good day", true));
    assert_eq!(said(&answer.body), "You said: good day");
    assert_eq!(server.inner().len(), 3);
}

#[test]
fn each_hop_has_its_own_rule() {
    let trusted = Trusted::new();
    let (server, front) = guest();
    let relay = trusted.relay(&front.url());
    // Evidence from the guest itself, whose key it binds and nobody has signed; requests through the relay.
    let way = trusted.way(&front.url(), &named(&relay), true);
    assert!(!connect(&way).unwrap().models().unwrap().data.is_empty());
    let words = [
        "--relay",
        &named(&relay),
        "--evidence-direct",
        "--ca-certificate",
        trusted.argument(),
    ];
    let proxy = Proxy::start(&front.url(), &words);
    assert_eq!(proxy.post(CHAT, &ask("hi", false)).status, 200);
    assert_eq!(server.inner().len(), 2);

    // A guest with a certificate of an authority, and another key than its evidence binds.
    let vouched = TlsKey::issued(&Issued::by(&trusted.authority));
    front.set_key(&vouched);
    front.cut();
    let direct = Way {
        authorities: trusted.authorities(),
        ..Way::direct(&front.named_url())
    };
    for way in [way, direct] {
        let error = connect(&way).map(drop).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error}");
    }
    // A relay with the key that the evidence binds, and no authority's certificate.
    let attested = TlsKey::generate();
    server.bind_tls_key(attested.public_key());
    let plain = Relaying::start(&server.url(), Limits::default());
    let before_relay = TlsFront::before(plain.address, &attested);
    let error = reason(&trusted.way(NOWHERE, &before_relay.named_url(), false));
    assert!(error.contains("no authority"), "{error}");
    assert_eq!(server.inner().len(), 2, "nothing more was sent");
}

/// What is wrong, where, and what to do; to the client and to the proxy's requests.
#[test]
fn a_relay_that_nobody_vouches_for_gets_nothing() {
    let trusted = Trusted::new();
    let server = Server::start();
    let plain = Relaying::start(&server.url(), Limits::default());
    let stranger = Authority::new("stranger");
    let authority = &trusted.authority;
    for (issued, word, to_do) in [
        (
            stranger.issue("localhost", VALID),
            "no authority that is trusted here has signed its certificate",
            "--ca-certificate",
        ),
        (
            Authority::new("authority").issue("localhost", VALID),
            "a signature does not hold",
            "another key is trusted here",
        ),
        (
            authority.issue("relay.example", VALID),
            "for another name than `localhost` (DnsName(\"relay.example\"))",
            "ask it by one",
        ),
        (
            authority.issue("localhost", EXPIRED),
            "has expired",
            "has to renew it",
        ),
        (
            authority.issue("localhost", ("480101000000Z", "491231235959Z")),
            "not valid yet",
            "clock",
        ),
    ] {
        let front = TlsFront::before(plain.address, &TlsKey::issued(&issued));
        let url = front.named_url();
        let text = reason(&trusted.way(NOWHERE, &url, false));
        for part in [word, to_do, &url] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let words = [
            "--relay",
            &url,
            "--evidence-direct",
            "--ca-certificate",
            trusted.argument(),
        ];
        let proxy = Proxy::start(&server.url(), &words);
        let answer = proxy.post(CHAT, &ask("hi", false));
        assert_eq!(answer.status, 502);
        let text = answer.error("message");
        assert!(text.contains(word) && text.contains(to_do), "{text}");
    }
    assert!(server.inner().is_empty());
}

#[test]
fn an_address_is_a_name_too() {
    let trusted = Trusted::new();
    let server = Server::start();
    let plain = Relaying::start(&server.url(), Limits::default());
    let issued = trusted.authority.issue("127.0.0.1", VALID);
    let front = TlsFront::before(plain.address, &TlsKey::issued(&issued));
    assert!(connect(&trusted.way(NOWHERE, &front.url(), false)).is_ok());
    let text = reason(&trusted.way(NOWHERE, &front.named_url(), false));
    assert!(text.contains("for another name"), "{text}");
}

#[test]
fn the_wrong_scheme_is_said() {
    let trusted = Trusted::new();
    let server = Server::start();
    let secured = trusted.relay(&server.url());
    let text = reason(&trusted.way(NOWHERE, &secured.url(), false));
    assert!(text.contains("https:// in place of http://"), "{text}");
    let plain = Relaying::start(&server.url(), Limits::default());
    let text = reason(&trusted.way(NOWHERE, &named(&plain), false));
    assert!(text.contains("is its address one with http://?"), "{text}");
}

#[test]
fn a_file_of_authorities_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (content, word) in [
        ("", "no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1",
        ),
        ("-----BEGIN CERTIFICATE-----\n", "PEM"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = Authorities::default().with_file(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("file"), "{text}");
    }
    let error = Authorities::default().with_file(&folder.path().join("none"));
    assert!(error.unwrap_err().to_string().contains("No such file"));
}
