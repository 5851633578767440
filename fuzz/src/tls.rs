//! The first bytes of a TLS connection, which anybody can send.

use std::sync::{Arc, LazyLock};

use cloister_kernel::net::{SocketState, Sockets};
use cloister_kernel::tls::{Identity, Tls};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

const HANDSHAKE_MS: u64 = 10_000;

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::generate().expect("a key"));

/// One place with a client that has sent all that it will ever send.
struct Wire<'a> {
    unread: &'a [u8],
    sent: Vec<u8>,
    write_closed: bool,
    released: bool,
}

impl Sockets for Wire<'_> {
    fn count(&self) -> usize {
        1
    }

    fn state(&self, _: usize) -> SocketState {
        match self.released {
            true => SocketState::Free,
            false => SocketState::Open {
                peer_finished: false,
                has_unread: !self.unread.is_empty(),
                all_sent: true,
            },
        }
    }

    fn receive(&mut self, _: usize, take: &mut dyn FnMut(&[u8]) -> usize) {
        while !self.unread.is_empty() {
            let taken = take(self.unread);
            assert!(taken <= self.unread.len());
            self.unread = &self.unread[taken..];
            if taken == 0 {
                break;
            }
        }
    }

    fn send(&mut self, _: usize, bytes: &[u8]) -> usize {
        assert!(!self.write_closed, "nothing follows the end");
        self.sent.extend_from_slice(bytes);
        bytes.len()
    }

    fn close_write(&mut self, _: usize) {
        self.write_closed = true;
    }

    fn release(&mut self, _: usize) {
        self.released = true;
    }
}

/// Bytes on a fresh connection: an answer of bounded length, and nobody holds the place for longer than a handshake may
/// take. Accepted is what is answered by a ServerHello.
pub fn tls(data: &[u8]) -> bool {
    let mut wire = Wire {
        unread: data,
        sent: Vec::new(),
        write_closed: false,
        released: false,
    };
    let mut tls = Tls::new(&IDENTITY, 1, HANDSHAKE_MS);
    let mut now_ms = 0;
    while !wire.released {
        let mut clear = tls.over(&mut wire, now_ms);
        if let SocketState::Open { .. } = clear.state(0) {
            clear.receive(0, &mut |_| panic!("no text without a handshake"));
            assert_eq!(clear.send(0, b"text"), 0);
        }
        now_ms += 1000;
        assert!(now_ms <= HANDSHAKE_MS + 4000, "the place is free by then");
    }
    assert!(wire.sent.len() < 8192, "{}", wire.sent.len());
    wire.sent.first() == Some(&22)
}

/// What rustls begins with, whole and in small records.
pub fn tls_seeds() -> Vec<Vec<u8>> {
    let hello = |fragment: Option<usize>| {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("ring has TLS 1.3")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.max_fragment_size = fragment;
        let name = ServerName::try_from("cloister").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("good settings");
        let mut out = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut out).expect("a vector takes all");
        }
        out
    };
    vec![hello(None), hello(Some(64))]
}
