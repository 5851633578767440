//! A TLS 1.3 handshake (RFC 8446): what it costs the server. Client and server are in one thread and exchange bytes in
//! memory; only the server's calls are timed, with the sessions that they make.
//!
//! Both servers have an ECDSA key with P-256; both clients offer X25519 and AES-256-GCM alone, and no ticket is sent.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloister_kernel::net::{SocketState, Sockets};
use cloister_kernel::tls::{Identity, Tls};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion};

use super::{Peer, Row, failed};
use crate::any_key;
use crate::commands::CommandError;
use crate::statistics::median;

/// Handshakes in a run.
const HANDSHAKES: usize = 500;
/// The only place of the network.
const PLACE: usize = 0;
/// Turns after which a handshake has failed; it takes two.
const TURNS: usize = 8;
/// The other server, and how its libraries are told to use X25519 alone.
const PEER: &str = include_str!("openssl_handshake.py");
const PEER_SETTINGS: &str = "\
openssl_conf = main
[main]
ssl_conf = tls
[tls]
system_default = both
[both]
Groups = X25519
";

/// The guest's handshake, beside OpenSSL's where there is one and a Python that has it.
pub(super) fn handshakes(runs: u32) -> Result<Row, CommandError> {
    let identity = Identity::generate().map_err(|error| failed(format!("{error:?}")))?;
    let client = Arc::new(client_config().map_err(failed)?);
    let peer = OpensslPeer::prepare();
    let (mut ours_us, mut openssl_us) = (Vec::new(), Vec::new());
    let mut name = String::new();
    for _ in 0..runs {
        let mut server = Tls::new(&identity, PLACE + 1, u64::MAX);
        let mut spent = Duration::ZERO;
        for _ in 0..HANDSHAKES {
            spent += handshake(&mut server, &client)?;
        }
        ours_us.push(spent.as_secs_f64() * 1e6 / HANDSHAKES as f64);
        if let Some((us, version)) = peer.as_ref().and_then(OpensslPeer::us) {
            openssl_us.push(us);
            name = format!("{version}, called by Python");
        }
    }
    Ok(Row {
        operation: "TLS handshake, server alone",
        us: median(ours_us).unwrap_or_default(),
        peers: median(openssl_us)
            .map(|us| Peer { name, us })
            .into_iter()
            .collect(),
    })
}

/// The time that the server needs for one handshake with a new client.
fn handshake(server: &mut Tls, config: &Arc<ClientConfig>) -> Result<Duration, CommandError> {
    let name = ServerName::try_from("cloister").map_err(failed)?;
    let mut client = ClientConnection::new(Arc::clone(config), name).map_err(failed)?;
    let mut wire = Wire {
        is_open: true,
        ..Wire::default()
    };
    let mut spent = Duration::ZERO;
    for _ in 0..TURNS {
        while client.wants_write() {
            client.write_tls(&mut wire.to_server).map_err(failed)?;
        }
        let started = Instant::now();
        let mut network = server.over(&mut wire, 0);
        network.receive(PLACE, &mut |text| text.len());
        spent += started.elapsed();
        let mut received = &std::mem::take(&mut wire.to_client)[..];
        while !received.is_empty() {
            client.read_tls(&mut received).map_err(failed)?;
            client.process_new_packets().map_err(failed)?;
        }
        let is_done = !client.is_handshaking() && !client.wants_write();
        // A server that takes text to send has seen the client's end of the handshake.
        if is_done && server.over(&mut wire, 0).send(PLACE, b"x") == 1 {
            check(&client)?;
            wire.is_open = false;
            server.over(&mut wire, 0);
            return Ok(spent);
        }
    }
    Err(failed("the TLS handshake does not end"))
}

/// That it was the handshake that is meant.
fn check(client: &ClientConnection) -> Result<(), CommandError> {
    let is_meant = client.protocol_version() == Some(ProtocolVersion::TLSv1_3)
        && client.handshake_kind() == Some(HandshakeKind::Full)
        && client.alpn_protocol() == Some(b"http/1.1");
    match is_meant {
        true => Ok(()),
        false => Err(failed("another TLS handshake than was meant")),
    }
}

fn client_config() -> Result<ClientConfig, Error> {
    let mut config = any_key::client_config(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// One connection in memory.
#[derive(Default)]
struct Wire {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    is_open: bool,
}

impl Sockets for Wire {
    fn count(&self) -> usize {
        PLACE + 1
    }

    fn state(&self, _: usize) -> SocketState {
        match self.is_open {
            true => SocketState::Open {
                peer_finished: false,
                has_unread: !self.to_server.is_empty(),
                all_sent: true,
            },
            false => SocketState::Free,
        }
    }

    fn receive(&mut self, _: usize, take: &mut dyn FnMut(&[u8]) -> usize) {
        while !self.to_server.is_empty() {
            let taken = take(&self.to_server);
            self.to_server.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    fn send(&mut self, _: usize, bytes: &[u8]) -> usize {
        self.to_client.extend_from_slice(bytes);
        bytes.len()
    }

    fn close_write(&mut self, _: usize) {}

    fn release(&mut self, _: usize) {
        self.is_open = false;
    }
}

/// OpenSSL as Python has it, with a key of its own.
struct OpensslPeer(tempfile::TempDir);

impl OpensslPeer {
    /// `None` without the command `openssl`.
    fn prepare() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let path = |name| folder.path().join(name);
        std::fs::write(path("settings"), PEER_SETTINGS).ok()?;
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj"])
            .args(["/CN=cloister", "-out"])
            .arg(path("certificate"))
            .arg("-keyout")
            .arg(path("key"))
            .output();
        made.ok()?.status.success().then_some(Self(folder))
    }

    /// Microseconds of a handshake, and the version. What goes wrong is said, and then there is no peer.
    fn us(&self) -> Option<(f64, String)> {
        let path = |name| Path::join(self.0.path(), name);
        let output = Command::new("python3")
            .env("OPENSSL_CONF", path("settings"))
            .args(["-c", PEER])
            .args([path("certificate"), path("key")])
            .arg(HANDSHAKES.to_string())
            .output()
            .ok()?;
        if !output.status.success() {
            eprintln!(
                "OpenSSL's handshake: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            return None;
        }
        peer_result(&String::from_utf8_lossy(&output.stdout))
    }
}

/// A number and, on the next line, a version without its date: `OpenSSL 3.0.19 27 Jan 2026`.
fn peer_result(output: &str) -> Option<(f64, String)> {
    let mut lines = output.lines();
    let us: f64 = lines.next()?.parse().ok()?;
    let version: Vec<&str> = lines.next()?.split(' ').take(2).collect();
    (us > 0.0).then(|| (us, version.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_handshake_is_done_again_and_again() {
        let identity = Identity::generate().expect("a key");
        let client = Arc::new(client_config().expect("settings"));
        let mut server = Tls::new(&identity, 1, u64::MAX);
        for _ in 0..3 {
            let spent = handshake(&mut server, &client).expect("a handshake");
            assert!(spent > Duration::ZERO);
        }
    }

    #[test]
    fn the_result_of_openssl_is_read() {
        let output = "211.25\nOpenSSL 3.0.19 27 Jan 2026\n";
        assert_eq!(
            peer_result(output),
            Some((211.25, "OpenSSL 3.0.19".to_owned()))
        );
        assert_eq!(peer_result("0\nOpenSSL 3.0.19\n"), None);
        assert_eq!(peer_result("211.25\n"), None);
        assert_eq!(peer_result(""), None);
    }
}
