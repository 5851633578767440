//! What a server with TLS shows: its certificate, and that it has the key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use cloister_protocol::api::media;
use cloister_protocol::api::problem::Problem;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{Error, InconsistentKeys, ServerConfig};
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use super::Limits;
use super::stall::Stalling;
use super::stop::one_thread;
use crate::keys::{self, KeyArgumentError};
use crate::tls::certificates;

/// The first byte of every connection of TLS: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A certificate and its private key, out of two files that can be read again. Clones are the same one.
#[derive(Clone)]
pub struct TlsIdentity {
    files: Arc<Files>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What new connections are shown.
    shown: RwLock<Arc<CertifiedKey>>,
}

/// A server cannot show who it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsIdentityError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] KeyArgumentError),
    /// The file has no certificate.
    #[error(
        "{path}: {reason}; expected the server's certificate, and after it those of the authorities between, PEM"
    )]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file has no key that can be used.
    #[error(
        "{path}: {reason}; expected a private key without a passphrase (ECDSA, RSA or Ed25519), PEM"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The two do not belong together.
    #[error(
        "{key}: this is not the key of the first certificate in {certificate}, which has to be the server's own"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS cannot be had.
    #[error("TLS cannot be had: {0}")]
    Tls(Error),
}

impl TlsIdentity {
    /// Reads both files, PEM. The server's own certificate stands first in `certificate`.
    ///
    /// # Errors
    /// [`TlsIdentityError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsIdentityError> {
        let shown = read(certificate, key)?;
        let files = Arc::new(Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            shown: RwLock::new(Arc::new(shown)),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsIdentityError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&files) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A ticket is a name: nothing is kept of one connection by which its client would be known in the next.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            files,
            acceptor: Arc::new(config).into(),
        })
    }

    /// Reads the files again, for connections that begin from now on. After an error they are shown what they were before.
    ///
    /// # Errors
    /// [`TlsIdentityError`].
    pub fn reload(&self) -> Result<(), TlsIdentityError> {
        let shown = Arc::new(read(&self.files.certificate, &self.files.key)?);
        let place = self.files.shown.write();
        *place.unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(())
    }

    /// Reads the files again at each SIGHUP; `report` hears what came of it.
    ///
    /// # Errors
    /// Where signals cannot be waited for.
    pub(crate) fn reload_at_hangup(
        &self,
        report: impl Fn(Result<(), TlsIdentityError>) + Send + 'static,
    ) -> io::Result<()> {
        let runtime = one_thread()?;
        let mut hangup = {
            let _entered = runtime.enter();
            signal(SignalKind::hangup())?
        };
        let identity = self.clone();
        let thread = thread::Builder::new().name("hangups".into());
        thread.spawn(move || {
            while runtime.block_on(hangup.recv()).is_some() {
                report(identity.reload());
            }
        })?;
        Ok(())
    }

    /// The inside of a connection, once both have shaken hands; nothing of one that is too slow or speaks otherwise.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        limits: &Limits,
    ) -> Option<TlsStream<Stalling<TcpStream>>> {
        let shaking = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] != HANDSHAKE => {
                    refuse(stream).await;
                    None
                }
                Ok(1) => {
                    let stream = Stalling::new(stream, limits.write_timeout);
                    self.acceptor.accept(stream).await.ok()
                }
                _ => None,
            }
        };
        let shaken = tokio::time::timeout(limits.head_timeout, shaking).await;
        shaken.ok().flatten()
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsIdentityError> {
    let no_certificate = |reason: String| TlsIdentityError::Certificate {
        path: certificate.to_owned(),
        reason,
    };
    let no_key = |reason: String| TlsIdentityError::Key {
        path: key.to_owned(),
        reason,
    };
    let chain = certificates(&keys::read(certificate)?).map_err(no_certificate)?;
    let bytes = Zeroizing::new(keys::read(key)?);
    let private = PrivateKeyDer::from_pem_slice(&bytes);
    let private = private.map_err(|error| no_key(error.to_string()))?;
    let private = ring::sign::any_supported_type(&private);
    let shown = CertifiedKey::new(chain, private.map_err(|error| no_key(error.to_string()))?);
    match shown.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(shown),
        Err(Error::InconsistentKeys(_)) => Err(TlsIdentityError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) => Err(no_certificate(format!(
            "the first one cannot be read: {error}"
        ))),
    }
}

/// Tells somebody who speaks HTTP in the clear what is spoken here. Whether it arrives is their affair.
async fn refuse(mut stream: TcpStream) {
    let detail = "TLS is spoken at this port: ask it with https:// in place of http://";
    let body = Problem::from_status(400).with_detail(detail).to_json();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        media::PROBLEM_JSON,
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
        // What is closed with bytes unread is reset, and the answer may be lost.
        let _ = copy(&mut stream, &mut sink()).await;
    }
}
