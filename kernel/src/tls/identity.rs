//! The guest's TLS key and the certificate for it.
//!
//! ECDSA with P-256 rather than Ed25519, because every client knows it. Nobody but the key itself signs the certificate:
//! what makes it worth something is that the evidence binds the key.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::crypto::ring::{cipher_suite, kx_group, sign};
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{Error, ServerConfig};

use super::der::{self, element};

/// Subject and issuer, and the name that the certificate is for. No client judges it by its name.
const NAME: &[u8] = b"cloister";
/// `not_before` and `not_after`: the guest's clock is the host's, and a key ends with its guest. 9999-12-31 is what RFC
/// 5280, section 4.1.2.5, has for "no end".
const NOT_BEFORE: &[u8] = b"700101000000Z";
const NOT_AFTER: &[u8] = b"99991231235959Z";

/// 1.2.840.10045.4.3.2, ecdsa-with-SHA256.
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7, secp256r1.
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17, subjectAltName.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const SERIAL_BYTES: usize = 16;
const HTTP_1_1: &[u8] = b"http/1.1";

/// The key could not be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum IdentityError {
    /// By ring.
    Key,
    /// rustls does not take it.
    Settings(Error),
}

impl From<Unspecified> for IdentityError {
    fn from(_: Unspecified) -> Self {
        Self::Key
    }
}

/// A fresh key with its certificate.
pub struct Identity {
    config: Arc<ServerConfig>,
    public_key: Vec<u8>,
}

impl Identity {
    /// Makes a key. Random bytes come from `getrandom`, and so from the kernel.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn generate() -> Result<Self, IdentityError> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        let pair = pair.map_err(|_| IdentityError::Key)?;
        let public_key = public_key_info(pair.public_key().as_ref());
        let certificate = certificate(&pair, &public_key, &random)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref()));
        let key = sign::any_ecdsa_type(&private).map_err(IdentityError::Settings)?;
        let config = settings(certificate, key).map_err(IdentityError::Settings)?;
        Ok(Self {
            config: Arc::new(config),
            public_key,
        })
    }

    /// The public key: SubjectPublicKeyInfo in DER (RFC 5480).
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

/// TLS 1.3 alone, HTTP/1.1 alone, nothing that outlives a connection.
fn settings(certificate: Vec<u8>, key: Arc<dyn SigningKey>) -> Result<ServerConfig, Error> {
    let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    let builder = ServerConfig::builder_with_details(Arc::new(provider()), Arc::new(NoTime));
    let mut config = builder
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// ring's algorithms, and of them only what a server that judges no certificate needs.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: &[],
            mapping: &[],
        },
        secure_random: &Kernel,
        key_provider: &Kernel,
    }
}

/// What the provider takes from the kernel.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::getrandom(bytes).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Kernel {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("no key is loaded".into()))
    }
}

/// Only tickets and clients' certificates have a time, and there are neither. A client that offers a ticket of another
/// server makes rustls ask, though.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

/// SubjectPublicKeyInfo (RFC 5480, section 2) of a point in the uncompressed form.
fn public_key_info(point: &[u8]) -> Vec<u8> {
    let algorithm = element(
        der::SEQUENCE,
        &[
            &element(der::OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]),
            &element(der::OBJECT_IDENTIFIER, &[SECP256R1]),
        ],
    );
    element(der::SEQUENCE, &[&algorithm, &der::bit_string(point)])
}

/// A certificate of version 3 (RFC 5280, section 4.1) that the key signs itself.
fn certificate(
    pair: &EcdsaKeyPair,
    public_key: &[u8],
    random: &SystemRandom,
) -> Result<Vec<u8>, IdentityError> {
    let algorithm = element(
        der::SEQUENCE,
        &[&element(der::OBJECT_IDENTIFIER, &[ECDSA_WITH_SHA256])],
    );
    let to_be_signed = element(
        der::SEQUENCE,
        &[
            &element(der::EXPLICIT_0, &[&element(der::INTEGER, &[&[2]])]),
            &element(der::INTEGER, &[&serial()?]),
            &algorithm,
            &name(),
            &validity(),
            &name(),
            public_key,
            &element(der::EXPLICIT_3, &[&extensions()]),
        ],
    );
    let signature = pair.sign(random, &to_be_signed)?;
    Ok(element(
        der::SEQUENCE,
        &[
            &to_be_signed,
            &algorithm,
            &der::bit_string(signature.as_ref()),
        ],
    ))
}

/// Positive, and without a first byte that could be left out.
fn serial() -> Result<[u8; SERIAL_BYTES], IdentityError> {
    let mut serial = [0; SERIAL_BYTES];
    getrandom::getrandom(&mut serial).map_err(|_| IdentityError::Key)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn name() -> Vec<u8> {
    let attribute = element(
        der::SEQUENCE,
        &[
            &element(der::OBJECT_IDENTIFIER, &[COMMON_NAME]),
            &element(der::UTF8_STRING, &[NAME]),
        ],
    );
    element(der::SEQUENCE, &[&element(der::SET, &[&attribute])])
}

fn validity() -> Vec<u8> {
    element(
        der::SEQUENCE,
        &[
            &element(der::UTC_TIME, &[NOT_BEFORE]),
            &element(der::GENERALIZED_TIME, &[NOT_AFTER]),
        ],
    )
}

fn extensions() -> Vec<u8> {
    let names = element(der::SEQUENCE, &[&element(der::IMPLICIT_2, &[NAME])]);
    let extension = element(
        der::SEQUENCE,
        &[
            &element(der::OBJECT_IDENTIFIER, &[SUBJECT_ALT_NAME]),
            &element(der::OCTET_STRING, &[&names]),
        ],
    );
    element(der::SEQUENCE, &[&extension])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use rustls::pki_types::CertificateDer;
    use rustls::server::ParsedCertificate;
    use x509_cert::Certificate;
    use x509_cert::der::{Decode, Encode};

    fn fresh() -> (Vec<u8>, Vec<u8>) {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let public_key = public_key_info(pair.public_key().as_ref());
        let certificate = certificate(&pair, &public_key, &random).unwrap();
        (certificate, public_key)
    }

    #[test]
    fn other_readers_understand_the_certificate() {
        let (encoded, public_key) = fresh();
        let read = Certificate::from_der(&encoded).unwrap();
        assert_eq!(read.to_der().unwrap(), encoded, "it is DER");
        let signed = read.tbs_certificate();
        let key = signed.subject_public_key_info();
        assert_eq!(key.to_der().unwrap(), public_key);
        assert_eq!(signed.subject(), signed.issuer());
        assert_eq!(signed.subject().to_string(), "CN=cloister");
        let parsed = CertificateDer::from(encoded);
        let parsed = ParsedCertificate::try_from(&parsed).unwrap();
        assert_eq!(parsed.subject_public_key_info()[..], public_key);
    }

    #[test]
    fn the_key_signs_its_certificate() {
        let (encoded, _) = fresh();
        let read = Certificate::from_der(&encoded).unwrap();
        let signed = read.tbs_certificate();
        let point = signed
            .subject_public_key_info()
            .subject_public_key
            .raw_bytes();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        let mut message = signed.to_der().unwrap();
        let signature = read.signature().raw_bytes();
        assert!(key.verify(&message, signature).is_ok());
        message[20] ^= 1;
        assert!(key.verify(&message, signature).is_err());
    }

    #[test]
    fn every_start_has_another_key() {
        let keys = [(); 2].map(|()| Identity::generate().unwrap().public_key().to_vec());
        assert_ne!(keys[0], keys[1]);
        // SubjectPublicKeyInfo of a P-256 point (RFC 5480): 26 bytes of header, and the point.
        assert_eq!(
            (keys[0].len(), &keys[0][23..27]),
            (91, &[3, 0x42, 0, 4][..])
        );
    }

    #[test]
    fn lengths_are_the_shortest() {
        let length = |bytes: usize| element(der::SEQUENCE, &[&vec![0; bytes]])[1..].to_vec();
        assert_eq!(length(127)[..1], [127]);
        assert_eq!(length(128)[..2], [0x81, 128]);
        assert_eq!(length(255)[..2], [0x81, 255]);
        assert_eq!(length(256)[..3], [0x82, 1, 0]);
    }
}
