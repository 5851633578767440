//! TLS to a guest, whose certificate no authority has signed: whatever key it shows first is noted, and every later
//! connection has to show the same one. Whether it is the guest's is the evidence's to say, which binds it.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// The name that is asked for. A guest has only one certificate; and its address is nobody's business on the way.
const NAME: &str = "cloister";

/// The key that the connections to one server have shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownKey(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    /// SubjectPublicKeyInfo, DER.
    first: Option<Vec<u8>>,
    has_changed: bool,
}

impl ShownKey {
    /// The first one, SubjectPublicKeyInfo in DER; none before the first handshake.
    pub(crate) fn first(&self) -> Option<Vec<u8>> {
        self.lock().first.clone()
    }

    /// Whether a connection was refused because it showed another one.
    pub(crate) fn has_changed(&self) -> bool {
        self.lock().has_changed
    }

    fn note(&self, key: &[u8]) -> Result<(), Error> {
        let mut shown = self.lock();
        if shown.first.get_or_insert_with(|| key.to_vec()) == key {
            return Ok(());
        }
        shown.has_changed = true;
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TLS 1.3 over whatever connects; `http` passes unchanged.
pub(crate) struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// Notes the server's key in `shown`.
    ///
    /// # Errors
    /// Whatever rustls has against its own algorithms.
    pub(crate) fn new(shown: ShownKey) -> Result<Self, Error> {
        let config = Arc::new(client_config(shown)?);
        Ok(Self { config })
    }
}

/// TLS 1.3 to a server whose first key is noted in `shown`, and which has to show that one again.
fn client_config(shown: ShownKey) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        shown,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let mut tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut socket = TransportAdapter::new(transport, details.current_time.clone());
        socket.set_timeout(details.timeout);
        tls.complete_io(&mut socket)?;
        Ok(Some(Either::B(TlsTransport {
            buffers: LazyBuffers::new(
                details.config.input_buffer_size(),
                details.config.output_buffer_size(),
            ),
            stream: StreamOwned::new(tls, socket),
        })))
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

/// One connection.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl Drop for TlsTransport {
    /// Says that no more follows. Whether that arrives makes no difference.
    fn drop(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.conn.write_tls(&mut self.stream.sock);
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

/// Judges nothing of a certificate but its key, and that the server has the private one.
#[derive(Debug)]
struct Verifier {
    shown: ShownKey,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        self.shown.note(&certificate.subject_public_key_info())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_has_to_stay() {
        let shown = ShownKey::default();
        assert_eq!(shown.first(), None);
        assert!(shown.note(b"key").is_ok() && shown.note(b"key").is_ok());
        assert!(!shown.has_changed());
        assert!(shown.note(b"other").is_err() && shown.has_changed());
        assert_eq!(shown.first().as_deref(), Some(&b"key"[..]));
    }
}
