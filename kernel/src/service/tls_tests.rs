//! The service over TLS, from the client's side.

use std::string::String;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use cloister_protocol::api::{paths, summarize as api};
use cloister_protocol::evidence::Evidence;
use cloister_protocol::keyconfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, ProtocolVersion,
    SignatureScheme,
};
use std::io::{Read, Write};

use super::testing::{Answer, World, open, parse_answer, summarize};
use crate::net::lan::Client;
use crate::tls::Identity;

/// Takes any certificate, notes its key, and checks that the server has the private one.
#[derive(Debug, Default)]
struct AnyKey(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let key = certificate.subject_public_key_info().to_vec();
        *self.0.lock().unwrap() = Some(key);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        [SignatureScheme::ECDSA_NISTP256_SHA256].to_vec()
    }
}

/// A connection of the other machine, with TLS on it.
struct TlsClient {
    tcp: Client,
    tls: ClientConnection,
    key: Arc<AnyKey>,
    text: Vec<u8>,
    /// The server has said that it sends no more.
    closed: bool,
}

fn client_config(key: &Arc<AnyKey>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(key) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = [b"h2".to_vec(), b"http/1.1".to_vec()].to_vec();
    config
}

impl TlsClient {
    fn new(world: &mut World) -> Self {
        let key = Arc::new(AnyKey::default());
        let name = ServerName::try_from("x").unwrap();
        let tls = ClientConnection::new(Arc::new(client_config(&key)), name).unwrap();
        Self {
            tcp: world.connect(),
            tls,
            key,
            text: Vec::new(),
            closed: false,
        }
    }

    fn connect(world: &mut World) -> Self {
        let mut client = Self::new(world);
        for _ in 0..100 {
            client.pump(world).unwrap();
            if !client.tls.is_handshaking() {
                return client;
            }
        }
        panic!("no handshake");
    }

    /// What the client has to send.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        out
    }

    /// A turn in which everything moves that can.
    fn pump(&mut self, world: &mut World) -> Result<(), Error> {
        let out = self.outgoing();
        world.send(self.tcp, &out);
        world.turn();
        self.take(world)
    }

    fn take(&mut self, world: &mut World) -> Result<(), Error> {
        let received = world.lan.received(self.tcp);
        let mut rest = &received[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
            self.tls.process_new_packets()?;
            match self.tls.reader().read_to_end(&mut self.text) {
                Ok(_) => self.closed = true,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        Ok(())
    }

    fn exchange(&mut self, world: &mut World, request: &[u8]) -> Answer {
        let mut rest = request;
        for _ in 0..20_000 {
            let written = self.tls.writer().write(rest).unwrap();
            rest = &rest[written..];
            self.pump(world).unwrap();
            if let Some(answer) = parse_answer(&self.text) {
                self.text.clear();
                return answer;
            }
        }
        panic!("no answer: {:?}", String::from_utf8_lossy(&self.text));
    }

    fn get(&mut self, world: &mut World, target: &str) -> Answer {
        let request = std::format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.exchange(world, request.as_bytes())
    }
}

fn world() -> World {
    World::with_tls(&Identity::generate().unwrap())
}

/// Everybody gone, and nothing left of them.
fn settle(world: &mut World) {
    world.skip_s(50);
    assert_eq!(world.tls.as_ref().unwrap().occupied(), 0);
    assert_eq!(world.live.get(), 0);
    let mut client = TlsClient::connect(world);
    let metrics = String::from_utf8(client.get(world, paths::METRICS).body).unwrap();
    assert!(metrics.contains("\ncloister_connections 1\n"), "{metrics}");
    world.lan.socket(client.tcp).abort();
    world.turns(20);
    assert_eq!(world.tls.as_ref().unwrap().occupied(), 0);
}

#[test]
fn a_summary_over_tls_1_3_with_the_key_that_the_evidence_names() {
    let mut world = world();
    let mut client = TlsClient::connect(&mut world);
    assert_eq!(
        client.tls.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    let group = client.tls.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519);
    assert_eq!(client.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(client.tls.tls13_tickets_received(), 0, "no resumption");

    let evidence = client.get(&mut world, paths::EVIDENCE).body;
    let evidence = Evidence::decode(&evidence).unwrap();
    let shown = client.key.0.lock().unwrap().clone().unwrap();
    assert_eq!(evidence.tls_public_key, shown);

    // Requests and answers of many records, one after the other on one connection.
    let keys = client.get(&mut world, paths::OHTTP_GATEWAY).body;
    let keys = keyconfig::decode_list(&keys).unwrap();
    for text in ["short", &"long ".repeat(40_000), "short again"] {
        let (request, opener) = world.encapsulate(&keys, &summarize(text, 3));
        let answer = open(client.exchange(&mut world, &request), opener);
        let summary = api::Response::from_json(&answer.content).unwrap();
        assert_eq!(summary.summary, text);
    }
    settle(&mut world);
}

#[test]
fn what_ends_a_handshake_or_a_connection_leaves_traces_to_be_wiped() {
    let mut world = world();
    let traces = |world: &mut World| world.tls.as_mut().unwrap().take_traces();
    assert!(!traces(&mut world));
    let mut client = TlsClient::connect(&mut world);
    client.pump(&mut world).unwrap();
    world.turns(3);
    assert!(traces(&mut world), "hands are shaken");
    client.get(&mut world, paths::HEALTH);
    assert!(!traces(&mut world), "the connection goes on");
    world.lan.socket(client.tcp).abort();
    world.turns(20);
    assert!(traces(&mut world), "the connection has ended");
    let tcp = world.connect();
    world.send(tcp, b"GET / HTTP/1.1\r\n\r\n");
    world.turns(3);
    assert!(traces(&mut world), "that was no hello");
}

#[test]
fn both_sides_say_that_they_send_no_more() {
    let mut world = world();
    // The client first.
    let mut client = TlsClient::connect(&mut world);
    assert_eq!(client.get(&mut world, paths::HEALTH).status, 200);
    client.tls.send_close_notify();
    for _ in 0..50 {
        client.pump(&mut world).unwrap();
    }
    assert!(client.closed && !world.lan.socket(client.tcp).may_recv());
    // The server first.
    let mut client = TlsClient::connect(&mut world);
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(client.exchange(&mut world, request).body, b"ready\n");
    for _ in 0..50 {
        client.pump(&mut world).unwrap();
    }
    assert!(client.closed && !world.lan.socket(client.tcp).may_recv());
    settle(&mut world);
}

/// Sends bytes on a fresh connection; what comes back until the server closes.
fn answer_to(world: &mut World, bytes: &[u8]) -> Vec<u8> {
    let client = world.connect();
    world.send(client, bytes);
    let mut answer = Vec::new();
    for _ in 0..200 {
        world.turn();
        answer.extend(world.lan.received(client));
        if !world.lan.socket(client).may_recv() {
            return answer;
        }
    }
    panic!("the connection is still open: {answer:?}");
}

/// The alert in a record of its own: type 21, level 2, description.
fn fatal_alert(answer: &[u8]) -> Option<u8> {
    match answer {
        [21, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

/// A ClientHello of TLS 1.2, without the extension `supported_versions`.
fn hello_of_tls_1_2() -> Vec<u8> {
    let mut hello = [1, 0, 0, 0, 3, 3].to_vec();
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // signature_algorithms, supported_groups, ec_point_formats.
    let extensions = [
        [0, 13, 0, 4, 0, 2, 4, 3].as_slice(),
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
    ]
    .concat();
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    hello[3] = (hello.len() - 4) as u8;
    let mut record = [22, 3, 1, 0, hello.len() as u8].to_vec();
    record.extend(hello);
    record
}

#[test]
fn who_speaks_something_else_is_told_and_parted_from() {
    let mut world = world();
    let protocol_version = Some(70);
    let answer = answer_to(&mut world, &hello_of_tls_1_2());
    assert_eq!(fatal_alert(&answer), protocol_version);
    let plain = answer_to(&mut world, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(fatal_alert(&plain).is_some(), "{plain:?}");
    assert!(fatal_alert(&answer_to(&mut world, &[0xff; 4000])).is_some());
    // A record of a message that never ends.
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 40_000]].concat();
    answer_to(&mut world, &endless);
    settle(&mut world);
}

#[test]
fn a_record_that_was_altered_ends_the_connection_and_its_job() {
    let mut world = world();
    let mut client = TlsClient::connect(&mut world);
    let keys = client.get(&mut world, paths::OHTTP_GATEWAY).body;
    let keys = keyconfig::decode_list(&keys).unwrap();
    let (request, _) = world.encapsulate(&keys, &summarize("secret", 500));
    client.tls.writer().write_all(&request).unwrap();
    for _ in 0..20 {
        client.pump(&mut world).unwrap();
    }
    assert_eq!(world.live.get(), 1);
    client.tls.writer().write_all(b"GET ").unwrap();
    let mut record = client.outgoing();
    *record.last_mut().unwrap() ^= 1;
    world.send(client.tcp, &record);
    world.turns(5);
    assert_eq!(
        (world.live.get(), world.server.metrics().jobs_cancelled),
        (0, 1)
    );
    // The alert for it arrives, encrypted.
    let refused = (0..20).find_map(|_| {
        world.turn();
        client.take(&mut world).err()
    });
    assert!(
        matches!(refused, Some(Error::AlertReceived(_))),
        "{refused:?}"
    );
    settle(&mut world);
}

/// Everything that a client sends for one request, up to its close_notify.
fn valid_exchange(world: &mut World) -> Vec<Vec<u8>> {
    let mut client = TlsClient::new(world);
    let mut flights = [client.outgoing()].to_vec();
    world.send(client.tcp, &flights[0]);
    for _ in 0..50 {
        world.turn();
        client.take(world).unwrap();
    }
    assert!(!client.tls.is_handshaking());
    flights.push(client.outgoing());
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    client.tls.writer().write_all(request).unwrap();
    flights.push(client.outgoing());
    client.tls.send_close_notify();
    flights.push(client.outgoing());
    world.lan.socket(client.tcp).abort();
    flights
}

#[test]
fn a_client_can_break_off_at_every_byte() {
    let mut world = world();
    let lengths: Vec<usize> = valid_exchange(&mut world).iter().map(Vec::len).collect();
    // At every byte of a handshake of its own, in three ways to leave.
    let total: usize = lengths.iter().sum();
    assert!(total > 300, "{lengths:?}");
    for cut in 0..total {
        let mut client = TlsClient::new(&mut world);
        let mut left = cut;
        for flight in 0..lengths.len() {
            if flight == 2 {
                let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
                client.tls.writer().write_all(request).unwrap();
            } else if flight == 3 {
                client.tls.send_close_notify();
            }
            let bytes = client.outgoing();
            let sent = bytes.len().min(left);
            world.send(client.tcp, &bytes[..sent]);
            left -= sent;
            if sent < bytes.len() || left == 0 {
                break;
            }
            world.turns(4);
            client.take(&mut world).unwrap();
        }
        match cut % 3 {
            0 => world.lan.socket(client.tcp).abort(),
            1 => world.lan.socket(client.tcp).close(),
            _ => world.lan.vanish(client.tcp),
        }
        world.turns(2);
        if cut % 40 == 0 {
            world.skip_s(45);
            assert_eq!(world.tls.as_ref().unwrap().occupied(), 0, "{cut}");
        }
    }
    settle(&mut world);
}

#[test]
fn slow_handshakes_are_cut_off_and_do_not_hold_up_others() {
    let mut world = world();
    let mut slow: Vec<TlsClient> = (0..40).map(|_| TlsClient::new(&mut world)).collect();
    let hellos: Vec<Vec<u8>> = slow.iter_mut().map(TlsClient::outgoing).collect();
    for second in 0..9 {
        for (client, hello) in slow.iter().zip(&hellos) {
            world.send(client.tcp, &hello[second..=second]);
        }
        world.skip_s(1);
        let mut other = TlsClient::connect(&mut world);
        assert_eq!(other.get(&mut world, paths::HEALTH).status, 200, "{second}");
        world.lan.socket(other.tcp).close();
    }
    world.skip_s(3);
    for client in &slow {
        assert!(!world.lan.socket(client.tcp).may_send(), "cut off");
    }
    settle(&mut world);
}

#[test]
fn the_65th_client_is_told_over_tls_too() {
    let mut world = world();
    let clients: Vec<TlsClient> = (0..64).map(|_| TlsClient::connect(&mut world)).collect();
    let mut extra = TlsClient::connect(&mut world);
    let answer = (0..100).find_map(|_| {
        extra.pump(&mut world).unwrap();
        parse_answer(&extra.text)
    });
    assert_eq!(answer.expect("an answer").status, 503);
    for mut client in clients {
        assert_eq!(client.get(&mut world, paths::HEALTH).status, 200);
        world.lan.socket(client.tcp).close();
        world.turn();
    }
    settle(&mut world);
}

/// What an odd client does to the state machine, without a network of its own: bytes of a valid exchange, altered.
#[test]
fn altered_handshakes_never_panic() {
    let mut world = world();
    let hello = valid_exchange(&mut world).remove(0);
    for at in 0..hello.len() {
        let mut altered = hello.clone();
        altered[at] ^= 1 << (at % 8);
        let client = world.connect();
        world.send(client, &altered);
        world.turns(3);
        world.lan.socket(client).abort();
        world.turn();
    }
    settle(&mut world);
}
