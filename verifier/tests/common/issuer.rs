//! Issues what AMD and a chip would issue: roots, intermediates, VCEKs and VLEKs with AMD's extensions, revocation lists,
//! signed reports. With keys that are public, for tests and emulated platforms only.
//!
//! Depends on nothing else in these tests, so that it can be moved or included elsewhere.

use cloister_protocol::test_rng::TestRng;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use p384::ecdsa::signature::Signer;
use p384::ecdsa::{Signature, SigningKey};
use rsa::pss;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPrivateKey};
use sha2::Sha384;

/// AlgorithmIdentifier of RSASSA-PSS, SHA-384, salt 48, as AMD's newer certificates have it.
pub(crate) const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0,
    0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03,
    0x02, 0x01, 0x30,
];

pub(crate) const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const SECP384R1: &str = "1.3.132.0.34";
const AMD: &str = "1.3.6.1.4.1.3704.1";

/// One DER element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => {
            let length = u16::try_from(length).expect("certificates are small");
            out.push(0x82);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// A DER sequence.
pub(crate) fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &elements.concat())
}

/// A DER object identifier.
pub(crate) fn oid(text: &str) -> Vec<u8> {
    let oid = ObjectIdentifier::new(text).expect("a valid identifier");
    oid.to_der().expect("it encodes")
}

/// A DER integer that is not negative.
pub(crate) fn integer(big_endian: &[u8]) -> Vec<u8> {
    let start = big_endian.iter().position(|byte| *byte != 0);
    let digits = start.map_or(&[0][..], |start| &big_endian[start..]);
    let sign: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
    tlv(2, &[sign, digits].concat())
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes].concat())
}

/// A DER UTCTime: `YYMMDDHHMMSSZ`.
pub(crate) fn time(text: &str) -> Vec<u8> {
    tlv(0x17, text.as_bytes())
}

/// A distinguished name with an organization and a common name.
pub(crate) fn name(organization: &str, common_name: &str) -> Vec<u8> {
    let attribute = |kind: &str, value: &str| {
        let value = tlv(0x0c, value.as_bytes());
        tlv(0x31, &sequence(&[&oid(kind), &value]))
    };
    sequence(&[
        &attribute("2.5.4.10", organization),
        &attribute("2.5.4.3", common_name),
    ])
}

/// An RSA key from PKCS #1 DER.
pub(crate) fn rsa_key(der: &[u8]) -> RsaPrivateKey {
    let numbers: Vec<der::asn1::Uint> = Vec::from_der(der).expect("a PKCS #1 key");
    let number = |index: usize| {
        let bytes = numbers[index].as_bytes();
        BoxedUint::from_be_slice_vartime(bytes)
    };
    RsaPrivateKey::from_components(number(1), number(2), number(3), vec![number(4), number(5)])
        .expect("the numbers of a key")
}

/// One extension of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    pub(crate) oid: String,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

/// One of AMD's extensions by the end of its identifier, not critical.
pub(crate) fn amd(end: &str, value: Vec<u8>) -> Extension {
    Extension {
        oid: format!("{AMD}.{end}"),
        critical: false,
        value,
    }
}

/// An IA5String.
pub(crate) fn ia5(text: &str) -> Vec<u8> {
    tlv(0x16, text.as_bytes())
}

/// What goes into a certificate; every field can be changed before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    /// AlgorithmIdentifier inside the signed part, and outside.
    pub(crate) algorithms: [Vec<u8>; 2],
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: [Vec<u8>; 2],
    pub(crate) subject: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    pub(crate) extensions: Vec<Extension>,
}

impl Template {
    fn new(issuer: Vec<u8>, subject: Vec<u8>, public_key: Vec<u8>) -> Self {
        Self {
            version: tlv(0xa0, &integer(&[2])),
            serial: integer(&[0]),
            algorithms: [PSS_SHA384.to_vec(), PSS_SHA384.to_vec()],
            issuer,
            validity: [time("250101000000Z"), time("320101000000Z")],
            subject,
            public_key,
            extensions: Vec::new(),
        }
    }

    /// An authority's certificate.
    pub(crate) fn authority(issuer: Vec<u8>, subject: Vec<u8>, key: &RsaPrivateKey) -> Self {
        let mut template = Self::new(issuer, subject, rsa_public_key(key));
        template.serial = integer(&[1, 0, 1]);
        template.validity[1] = time("450101000000Z");
        template.extensions = vec![
            Extension {
                oid: "2.5.29.19".into(),
                critical: true,
                value: sequence(&[&tlv(1, &[0xff])]),
            },
            Extension {
                oid: "2.5.29.15".into(),
                critical: true,
                value: tlv(3, &[2, 0x04]),
            },
        ];
        template
    }

    /// A VCEK's or VLEK's certificate. `levels` are the SPL extensions: end of the identifier behind `.3.`, level.
    pub(crate) fn leaf(
        issuer: Vec<u8>,
        subject: Vec<u8>,
        point: &[u8],
        product: &str,
        levels: &[(u8, u8)],
        last: Extension,
    ) -> Self {
        let mut template = Self::new(issuer, subject, p384_public_key(point));
        template.extensions = vec![amd("1", integer(&[0])), amd("2", ia5(product))];
        for (end, level) in levels {
            let extension = amd(&format!("3.{end}"), integer(&[*level]));
            template.extensions.push(extension);
        }
        template.extensions.push(last);
        template
    }

    /// The extension whose identifier ends like this, under AMD's.
    pub(crate) fn extension(&mut self, end: &str) -> &mut Extension {
        let oid = format!("{AMD}.{end}");
        let found = self.extensions.iter_mut().find(|e| e.oid == oid);
        found.expect("the template has the extension")
    }

    /// Takes an extension out.
    pub(crate) fn remove(&mut self, end: &str) {
        let oid = format!("{AMD}.{end}");
        self.extensions.retain(|extension| extension.oid != oid);
    }

    /// Signs it.
    pub(crate) fn sign(&self, key: &RsaPrivateKey) -> Vec<u8> {
        let signed = sequence(&[
            &self.version,
            &self.serial,
            &self.algorithms[0],
            &self.issuer,
            &sequence(&[&self.validity[0], &self.validity[1]]),
            &self.subject,
            &self.public_key,
            &tlv(0xa3, &encode_extensions(&self.extensions)),
        ]);
        seal(&signed, &self.algorithms[1], key)
    }
}

/// A revocation list of the named issuer, with the serial numbers that it revokes (as DER integers).
pub(crate) fn crl(
    issuer: &[u8],
    times: [&str; 2],
    serials: &[Vec<u8>],
    extensions: &[Extension],
    key: &RsaPrivateKey,
) -> Vec<u8> {
    let entries: Vec<u8> = serials
        .iter()
        .flat_map(|serial| sequence(&[serial, &time("250601000000Z")]))
        .collect();
    let list = tlv(0x30, &entries);
    let list: &[u8] = if serials.is_empty() { &[] } else { &list };
    let signed = sequence(&[
        &integer(&[1]),
        PSS_SHA384,
        issuer,
        &time(times[0]),
        &time(times[1]),
        list,
        &tlv(0xa0, &encode_extensions(extensions)),
    ]);
    seal(&signed, PSS_SHA384, key)
}

fn encode_extensions(extensions: &[Extension]) -> Vec<u8> {
    let encoded: Vec<u8> = extensions
        .iter()
        .flat_map(|extension| {
            let critical = tlv(1, &[0xff]);
            let critical: &[u8] = if extension.critical { &critical } else { &[] };
            let value = tlv(4, &extension.value);
            sequence(&[&oid(&extension.oid), critical, &value])
        })
        .collect();
    tlv(0x30, &encoded)
}

fn seal(signed: &[u8], algorithm: &[u8], key: &RsaPrivateKey) -> Vec<u8> {
    let signer = pss::SigningKey::<Sha384>::new(key.clone());
    let signature = signer.sign_with_rng(&mut TestRng(1), signed);
    sequence(&[signed, algorithm, &bits(&signature.to_bytes())])
}

fn rsa_public_key(key: &RsaPrivateKey) -> Vec<u8> {
    rsa_numbers(RSA_ENCRYPTION, &key.n_bytes(), &key.e_bytes())
}

/// SubjectPublicKeyInfo of any modulus and exponent, big-endian.
pub(crate) fn rsa_numbers(algorithm: &str, modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [modulus, exponent].map(integer);
    let algorithm = sequence(&[&oid(algorithm), &[5, 0]]);
    sequence(&[&algorithm, &bits(&sequence(&[&numbers[0], &numbers[1]]))])
}

/// SubjectPublicKeyInfo of an uncompressed point on P-384.
pub(crate) fn p384_public_key(point: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&oid(EC_PUBLIC_KEY), &oid(SECP384R1)]);
    sequence(&[&algorithm, &bits(point)])
}

/// The uncompressed point of a key.
pub(crate) fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

/// A P-384 key from a small number.
pub(crate) fn p384_key(number: u8) -> SigningKey {
    let mut scalar = [0; 48];
    scalar[47] = number;
    SigningKey::from_slice(&scalar).expect("small numbers are keys")
}

/// Signs a report in place.
pub(crate) fn sign_report(report: &mut [u8], key: &SigningKey) {
    let signature: Signature = key.sign(&report[..0x2a0]);
    let (r, s) = signature.split_bytes();
    report[0x2a0..].fill(0);
    for (offset, number) in [(0x2a0, r), (0x2e8, s)] {
        for (index, byte) in number.iter().rev().enumerate() {
            report[offset + index] = *byte;
        }
    }
}
