//! TLS to other servers, judged in one of two ways, which never stand in for each other.
//!
//! No authority has signed a guest's certificate: whatever key it shows first is noted, and every later connection has to
//! show the same one. Whether it is the guest's is the evidence's to say, which binds it. Every other server is judged by
//! [`Authorities`], and by the name in its address.
//!
//! Here for ureq, which blocks; `upstream/tls.rs` shakes hands with the same settings and the same verifiers.

mod authorities;
mod digest;
mod failure;

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned, WantsVerifier,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

pub(crate) use authorities::certificates;
pub use authorities::{Authorities, AuthoritiesError};
pub use digest::{KeyDigest, KeyDigestError};
pub(crate) use failure::HandshakeError;

/// The name that is asked for. A guest has only one certificate; and its address is nobody's business on the way.
const NAME: &str = "cloister";

/// The key that the connections to one server have shown. Keys are SubjectPublicKeyInfo in DER.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownKey(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    /// What the first one has to be; anything without it.
    expected: Option<KeyDigest>,
    first: Option<Vec<u8>>,
    /// The last one that was refused.
    refused: Option<Vec<u8>>,
}

impl ShownKey {
    /// Takes only the key with this digest, where there is one.
    pub(crate) fn expecting(expected: Option<KeyDigest>) -> Self {
        let shown = Shown {
            expected,
            ..Shown::default()
        };
        Self(Arc::new(Mutex::new(shown)))
    }

    /// The first one, SubjectPublicKeyInfo in DER; none before the first handshake.
    pub(crate) fn first(&self) -> Option<Vec<u8>> {
        self.lock().first.clone()
    }

    /// Whether a connection was refused because it showed another one.
    pub(crate) fn has_changed(&self) -> bool {
        self.lock().refused.is_some()
    }

    /// The key for which a connection was refused. That the server has the private one is not shown then.
    pub(crate) fn refused(&self) -> Option<KeyDigest> {
        self.lock().refused.as_deref().map(KeyDigest::of)
    }

    fn note(&self, key: &[u8]) -> Result<(), Error> {
        let mut shown = self.lock();
        let is_expected = shown.expected.is_none_or(|it| it == KeyDigest::of(key));
        if is_expected && shown.first.get_or_insert_with(|| key.to_vec()) == key {
            return Ok(());
        }
        shown.refused = Some(key.to_vec());
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
    /// The name to ask for; without it, that of the address.
    name: Option<ServerName<'static>>,
}

impl TlsConnector {
    /// To a guest, whose key is noted in `shown`.
    ///
    /// # Errors
    /// Whatever rustls has against its own algorithms.
    pub(crate) fn to_guest(shown: ShownKey) -> Result<Self, Error> {
        Ok(Self {
            config: Arc::new(client_config(shown)?),
            name: Some(guest_name().map_err(|error| Error::General(error.to_string()))?),
        })
    }

    /// To a server with a name that the authorities in `config` vouch for.
    pub(crate) fn to_host(config: Arc<ClientConfig>) -> Self {
        Self { config, name: None }
    }
}

/// The name that every handshake with a guest asks for.
///
/// # Errors
/// None, as it is one.
pub(crate) fn guest_name() -> io::Result<ServerName<'static>> {
    host_name(NAME)
}

/// The name, or the address, of a server as it stands in a URL.
///
/// # Errors
/// It is none.
pub(crate) fn host_name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host).map_err(io::Error::other)
}

/// TLS 1.3 to a server whose first key is noted in `shown`, and which has to show that one again.
///
/// # Errors
/// Whatever rustls has against its own algorithms.
pub(crate) fn client_config(shown: ShownKey) -> Result<ClientConfig, Error> {
    let verifier = Verifier {
        shown,
        provider: Arc::new(ring::default_provider()),
    };
    let builder = config_builder()?.dangerous();
    Ok(finished(
        builder.with_custom_certificate_verifier(Arc::new(verifier)),
    ))
}

fn config_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
}

/// Nothing is kept of a connection by which a server would know the next one for the same client's.
fn finished(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
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
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host_name(details.uri.host().unwrap_or_default())?,
        };
        let mut tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut socket = TransportAdapter::new(transport, details.current_time.clone());
        socket.set_timeout(details.timeout);
        tls.complete_io(&mut socket).map_err(handshake_error)?;
        Ok(Some(Either::B(TlsTransport {
            buffers: LazyBuffers::new(
                details.config.input_buffer_size(),
                details.config.output_buffer_size(),
            ),
            stream: StreamOwned::new(tls, socket),
        })))
    }
}

/// With what there is to say of TLS; a time limit stays one.
fn handshake_error(error: io::Error) -> ureq::Error {
    match ureq::Error::from(error) {
        ureq::Error::Io(error) => ureq::Error::Other(Box::new(HandshakeError::from(error))),
        other => other,
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

    #[test]
    fn an_expected_key_is_the_only_one() {
        let shown = ShownKey::expecting(Some(KeyDigest::of(b"key")));
        assert!(shown.note(b"other").is_err());
        assert_eq!(shown.first(), None);
        assert_eq!(shown.refused(), Some(KeyDigest::of(b"other")));
        assert!(shown.note(b"key").is_ok());
        assert_eq!(shown.first().as_deref(), Some(&b"key"[..]));
    }
}
