//! A client's side of TLS 1.3 (RFC 8446) of which every secret is known, so that it can be looked for in the guest: what is
//! agreed on, what comes of that, and the keys of records. That the guest understands it shows that they are the true ones.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hkdf::Hkdf;
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error, KeyLog, NamedGroup, SupportedCipherSuite};
use sha2::{Sha256, Sha384};
use x25519_dalek::{PublicKey, StaticSecret};
use xtask::any_key;

use crate::raw;

/// Bytes of the nonce that records are counted from.
const IV_BYTES: usize = 12;

/// The suites that the guest has.
pub use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

/// One connection.
pub struct KnownTls {
    connection: ClientConnection,
    socket: TcpStream,
    known: Known,
    key_bytes: usize,
}

/// What was learned, shared with rustls.
#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<Learned>>);

#[derive(Debug, Default)]
struct Learned {
    secrets: Vec<(String, Vec<u8>)>,
    server_share: Option<[u8; 32]>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyLog for Known {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let secret = (label.to_owned(), secret.to_vec());
        self.lock().secrets.push(secret);
    }
}

impl KnownTls {
    /// A connection to the guest behind `port`, with this suite. Nothing is sent yet.
    pub fn new(port: u16, suite: SupportedCipherSuite) -> Self {
        let known = Known::default();
        // Groups live for ever. There are as many as there are connections in a test.
        let group: &'static KnownX25519 = Box::leak(Box::new(KnownX25519(known.clone())));
        // Which key it is, is looked at elsewhere.
        let mut config = any_key::client_config(CryptoProvider {
            cipher_suites: vec![suite],
            kx_groups: vec![group],
            ..ring::default_provider()
        })
        .expect("TLS 1.3 is there");
        config.key_log = Arc::new(known.clone());
        let name = ServerName::try_from("cloister").expect("a name");
        let key_bytes = match suite == TLS13_AES_128_GCM_SHA256 {
            true => 16,
            false => 32,
        };
        Self {
            connection: ClientConnection::new(Arc::new(config), name).expect("a connection"),
            socket: raw::connect(port),
            known,
            key_bytes,
        }
    }

    /// A connection that has shaken hands.
    pub fn connect(port: u16, suite: SupportedCipherSuite) -> Self {
        let mut tls = Self::new(port, suite);
        while tls.connection.is_handshaking() {
            let done = tls.connection.complete_io(&mut tls.socket);
            done.expect("the guest shakes hands");
        }
        tls
    }

    /// Says hello, and takes the guest's answer without a word of its own.
    pub fn take_hello(&mut self) {
        self.connection.write_tls(&mut self.socket).expect("sent");
        while self.known.lock().server_share.is_none() {
            let read = self.connection.read_tls(&mut self.socket).expect("read");
            assert!(read > 0, "the guest does not say hello");
            let news = self.connection.process_new_packets();
            news.expect("a hello");
        }
    }

    /// The records that carry these bytes, unsent.
    pub fn records(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        // rustls holds a bounded number of bytes.
        for piece in bytes.chunks(16 << 10) {
            let writer = &mut self.connection.writer();
            writer.write_all(piece).expect("there is room");
            while self.connection.wants_write() {
                self.connection.write_tls(&mut records).expect("memory");
            }
        }
        records
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        let records = self.records(bytes);
        raw::send(&mut self.socket, &records);
    }

    /// Sends what may be no record.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        raw::send(&mut self.socket, bytes);
    }

    /// Says that it will send no more, and takes what comes until the guest has ended too.
    pub fn close(mut self) {
        self.connection.send_close_notify();
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.socket).is_err() {
                return;
            }
        }
        raw::read_to_end(&mut self.socket);
    }

    /// All secrets so far: what was agreed on, the secrets that rustls logs, and of each of those that protect traffic the
    /// key, the nonces' beginning and the key of `Finished` (RFC 8446, sections 7.3 and 4.4.4).
    pub fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let logged = self.known.lock().secrets.clone();
        let mut secrets = logged.clone();
        for (label, secret) in logged.iter().filter(|(label, _)| label.contains("TRAFFIC")) {
            for (name, length) in [
                ("key", self.key_bytes),
                ("iv", IV_BYTES),
                ("finished", secret.len()),
            ] {
                let value = expand_label(secret, name, length);
                secrets.push((format!("{label} {name}"), value));
            }
        }
        secrets
    }

    /// The public key of the guest's for this connection alone.
    pub fn server_share(&self) -> Option<[u8; 32]> {
        self.known.lock().server_share
    }
}

impl Read for KnownTls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if self.connection.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let news = self.connection.process_new_packets();
            news.map_err(io::Error::other)?;
        }
    }
}

/// `HKDF-Expand-Label` (RFC 8446, section 7.1) without a context; the hash is the one that the secret is as long as.
fn expand_label(secret: &[u8], label: &str, length: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let length_bytes = (length as u16).to_be_bytes();
    let info = [
        &length_bytes[..],
        &[label.len() as u8],
        label.as_bytes(),
        &[0],
    ]
    .concat();
    let mut out = vec![0; length];
    let outcome = match secret.len() {
        32 => Hkdf::<Sha256>::from_prk(secret)
            .expect("long enough")
            .expand(&info, &mut out),
        _ => Hkdf::<Sha384>::from_prk(secret)
            .expect("long enough")
            .expand(&info, &mut out),
    };
    outcome.expect("short");
    out
}

/// X25519 that tells what was agreed on.
#[derive(Debug)]
struct KnownX25519(Known);

struct Begun {
    secret: StaticSecret,
    public: PublicKey,
    known: Known,
}

impl SupportedKxGroup for KnownX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| Error::FailedToGetRandomBytes)?;
        let secret = StaticSecret::from(bytes);
        Ok(Box::new(Begun {
            public: PublicKey::from(&secret),
            secret,
            known: self.0.clone(),
        }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Begun {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        let share: [u8; 32] = share.try_into().expect("32 bytes");
        let agreed = self.secret.diffie_hellman(&PublicKey::from(share));
        let mut known = self.known.lock();
        known.server_share = Some(share);
        let shared = agreed.as_bytes().to_vec();
        known.secrets.push(("shared secret".to_owned(), shared));
        Ok(SharedSecret::from(&agreed.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl fmt::Debug for KnownTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownTls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8448, section 3: the server's handshake traffic secret, and the key and nonce that come of it.
    #[test]
    fn keys_come_of_secrets_as_in_rfc_8448() {
        let secret = "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38";
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            let pair = |two: &[u8]| u8::from_str_radix(str::from_utf8(two).expect("text"), 16);
            digits.map(|two| pair(two).expect("hexadecimal")).collect()
        };
        let secret = hex(secret);
        let key = expand_label(&secret, "key", 16);
        assert_eq!(key, hex("3fce516009c21727d0f2e4e86ee403bc"));
        assert_eq!(
            expand_label(&secret, "iv", 12),
            hex("5d313eb2671276ee13000b30")
        );
    }
}
