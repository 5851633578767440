//! TLS before a server of a test: it takes connections, shakes hands with a key of its own, and passes on what is inside.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Issued, Key};

/// A key, and a certificate for it.
#[derive(Clone)]
pub(crate) struct TlsKey {
    public_key: Vec<u8>,
    certificate: Vec<u8>,
    config: Arc<ServerConfig>,
}

impl TlsKey {
    /// With a certificate that it has signed itself.
    pub(crate) fn generate() -> Self {
        let key = Key::generate();
        Self::with(key.public_key(), key.self_signed(), &key)
    }

    /// With a certificate of an authority.
    pub(crate) fn issued(issued: &Issued) -> Self {
        let Issued { certificate, key } = issued;
        Self::with(key.public_key(), certificate.clone(), key)
    }

    /// Shows the other's certificate without having its private key.
    pub(crate) fn pretending(other: &Self) -> Self {
        let (public_key, certificate) = (other.public_key.clone(), other.certificate.clone());
        Self::with(public_key, certificate, &Key::generate())
    }

    fn with(public_key: Vec<u8>, certificate: Vec<u8>, key: &Key) -> Self {
        let chain = vec![CertificateDer::from(certificate.clone())];
        let shown = CertifiedKey::new(chain, Arc::clone(&key.signing));
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        Self {
            public_key,
            certificate,
            config: Arc::new(config),
        }
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

/// The front.
pub(crate) struct TlsFront {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    key: Mutex<TlsKey>,
    /// Keys for the next connections; then it is `key` again.
    next: Mutex<VecDeque<TlsKey>>,
    handshakes: AtomicUsize,
    open: AtomicUsize,
    cuts: watch::Sender<usize>,
}

impl TlsFront {
    pub(crate) fn before(server: SocketAddr, key: &TlsKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            key: Mutex::new(key.clone()),
            next: Mutex::default(),
            handshakes: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(pass(stream, server, Arc::clone(&serving)));
                }
            });
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// By name, as authorities want it.
    pub(crate) fn named_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// New connections are shown this key; those that are open stay.
    pub(crate) fn set_key(&self, key: &TlsKey) {
        *self.shared.key.lock().unwrap() = key.clone();
    }

    /// The next connections are shown these keys, one each.
    pub(crate) fn show_next<'a>(&self, keys: impl IntoIterator<Item = &'a TlsKey>) {
        let mut next = self.shared.next.lock().unwrap();
        next.extend(keys.into_iter().cloned());
    }

    /// Ends every connection, and waits until all have ended.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        while self.shared.open.load(Ordering::SeqCst) > 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many were completed, as the server's side sees it.
    pub(crate) fn handshakes(&self) -> usize {
        self.shared.handshakes.load(Ordering::SeqCst)
    }
}

/// A connection that is open, until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn pass(stream: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(Arc::clone(&shared));
    let next = shared.next.lock().unwrap().pop_front();
    let key = next.unwrap_or_else(|| shared.key.lock().unwrap().clone());
    // The client may refuse the key.
    let Ok(mut inside) = TlsAcceptor::from(key.config).accept(stream).await else {
        return;
    };
    shared.handshakes.fetch_add(1, Ordering::SeqCst);
    let mut behind = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        // Either side may end it at any point.
        _ = tokio::io::copy_bidirectional(&mut inside, &mut behind) => {}
        _ = cuts.changed() => {}
    }
}
