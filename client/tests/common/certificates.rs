//! Keys and certificates of tests: Ed25519, and no more in a certificate than RFC 5280 and its use ask for.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use getrandom::SysRng;
use rand_core::TryRng;
use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;

/// From when and until when: UTCTime (RFC 5280, section 4.1.2.5.1).
pub(crate) type Validity = (&'static str, &'static str);

pub(crate) const VALID: Validity = ("200101000000Z", "491231235959Z");
pub(crate) const EXPIRED: Validity = ("200101000000Z", "210101000000Z");

/// A private key.
#[derive(Clone)]
pub(crate) struct Key {
    /// PKCS #8 (RFC 8410, section 7).
    pkcs8: Vec<u8>,
    pub(crate) signing: Arc<dyn SigningKey>,
}

impl Key {
    pub(crate) fn generate() -> Self {
        let mut pkcs8 = vec![
            0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32,
        ];
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).unwrap();
        pkcs8.extend_from_slice(&seed);
        let signing = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).unwrap();
        Self { pkcs8, signing }
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.signing.public_key().unwrap().to_vec()
    }

    /// A certificate that it has signed itself, without a name that anybody could ask for.
    pub(crate) fn self_signed(&self) -> Vec<u8> {
        certificate((self, "t"), "t", &self.public_key(), VALID, &[])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signer = self.signing.choose_scheme(&[SignatureScheme::ED25519]);
        signer.unwrap().sign(message).unwrap()
    }
}

/// It signs certificates.
pub(crate) struct Authority {
    key: Key,
    name: &'static str,
}

/// A server's certificate, and the key to it.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Key,
}

impl Authority {
    pub(crate) fn new(name: &'static str) -> Self {
        let key = Key::generate();
        Self { key, name }
    }

    /// Its own certificate, in a file of this folder.
    pub(crate) fn file(&self, folder: &Path) -> PathBuf {
        // BasicConstraints with cA, critical (RFC 5280, section 4.2.1.9).
        let constraints = element(0x30, &[&element(1, &[&[0xff]])]);
        let is_authority = element(
            0x30,
            &[
                &element(6, &[&[0x55, 0x1d, 19]]),
                &element(1, &[&[0xff]]),
                &element(4, &[&constraints]),
            ],
        );
        let (key, name) = (&self.key, self.name);
        let own = certificate(
            (key, name),
            name,
            &key.public_key(),
            VALID,
            &[&is_authority],
        );
        write(folder, &format!("{name}.pem"), "CERTIFICATE", &own)
    }

    /// For a server of this name, or of this IPv4 address.
    pub(crate) fn issue(&self, name: &str, validity: Validity) -> Issued {
        // SubjectAltName (RFC 5280, section 4.2.1.6): iPAddress, or dNSName.
        let name = match name.parse::<Ipv4Addr>() {
            Ok(address) => element(0x87, &[&address.octets()]),
            Err(_) => element(0x82, &[name.as_bytes()]),
        };
        let names = element(
            0x30,
            &[
                &element(6, &[&[0x55, 0x1d, 17]]),
                &element(4, &[&element(0x30, &[&name])]),
            ],
        );
        let key = Key::generate();
        let signer = (&self.key, self.name);
        Issued {
            certificate: certificate(signer, "t", &key.public_key(), validity, &[&names]),
            key,
        }
    }
}

impl Issued {
    /// For `localhost`, for a long time.
    pub(crate) fn by(authority: &Authority) -> Self {
        authority.issue("localhost", VALID)
    }

    /// The files of certificate and key in this folder.
    pub(crate) fn files(&self, folder: &Path) -> (PathBuf, PathBuf) {
        (
            write(folder, "server.pem", "CERTIFICATE", &self.certificate),
            write(folder, "server.key", "PRIVATE KEY", &self.key.pkcs8),
        )
    }
}

/// Writes PEM (RFC 7468).
fn write(folder: &Path, name: &str, label: &str, der: &[u8]) -> PathBuf {
    let path = folder.join(name);
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let lines = lines.join("\n");
    let pem = format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n");
    std::fs::write(&path, pem).unwrap();
    path
}

/// An element of DER.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        ..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// RFC 5280, section 4.1.
fn certificate(
    (issuer, issuer_name): (&Key, &str),
    subject: &str,
    public_key: &[u8],
    (begin, end): Validity,
    extensions: &[&[u8]],
) -> Vec<u8> {
    let algorithm = element(0x30, &[&element(6, &[&[0x2b, 0x65, 0x70]])]);
    let name = |text: &str| {
        let common_name = [
            element(6, &[&[0x55, 4, 3]]),
            element(12, &[text.as_bytes()]),
        ];
        let attribute = element(0x30, &[&common_name.concat()]);
        element(0x30, &[&element(0x31, &[&attribute])])
    };
    let time = |text: &str| element(23, &[text.as_bytes()]);
    let extensions = match extensions {
        [] => Vec::new(),
        some => element(0xa3, &[&element(0x30, some)]),
    };
    let to_be_signed = element(
        0x30,
        &[
            &element(0xa0, &[&element(2, &[&[2]])]),
            &element(2, &[&[1]]),
            &algorithm,
            &name(issuer_name),
            &element(0x30, &[&time(begin), &time(end)]),
            &name(subject),
            public_key,
            &extensions,
        ],
    );
    let signature = element(3, &[&[0], &issuer.sign(&to_be_signed)]);
    element(0x30, &[&to_be_signed, &algorithm, &signature])
}
