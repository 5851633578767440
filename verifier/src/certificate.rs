//! AMD's certificates: X.509 version 3 (RFC 5280), all signed with RSASSA-PSS and SHA-384 by RSA keys of 4096 bits
//! (AMD 57230).
//!
//! Only what AMD issues is accepted: five kinds of certificate by their common names, one signature algorithm, two
//! kinds of key, known extensions. Serial number zero is accepted, since AMD uses it. What is signed stays as it was
//! encoded.

mod extensions;

pub use extensions::{AmdExtension, AmdExtensions};

use crate::asn1::{Element, Elements, NotDer, explicit, single};
use crate::product::Product;
use crate::signature;
use crate::text::Safe;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use der::Tag;
use der::asn1::ObjectIdentifier;
use p384::ecdsa::VerifyingKey;
use rsa::RsaPublicKey;

/// The most bytes of a certificate; AMD's have under 1700.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;

/// The most attributes of a name.
const MAX_NAME_ATTRIBUTES: usize = 16;

/// The most bytes of a serial number (RFC 5280, section 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// Organization of every certificate that vouches for an emulated platform. Its holder is not AMD.
pub const EMULATED_ORGANIZATION: &str = "Cloister emulated platform";

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// AMD root key, self-signed: `ARK-Milan`.
    Ark,
    /// Signs VCEKs: `SEV-Milan`.
    Ask,
    /// Signs VLEKs: `SEV-VLEK-Milan`.
    Asvk,
    /// Key of a chip at a TCB version: `SEV-VCEK`.
    Vcek,
    /// Key of a cloud provider at a TCB version: `SEV-VLEK`.
    Vlek,
}

impl Kind {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Asvk => "ASVK",
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }

    /// Whether its key signs certificates.
    pub const fn is_authority(self) -> bool {
        matches!(self, Self::Ark | Self::Ask | Self::Asvk)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are not a certificate of AMD's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// It has more than [`MAX_CERTIFICATE_BYTES`].
    TooLarge,
    /// It is not DER, is cut off, or has bytes behind it.
    Der,
    /// It is not X.509 version 3.
    Version,
    /// The serial number is negative or over 20 bytes.
    Serial,
    /// It is not signed with RSASSA-PSS, SHA-384 and a salt of 48 bytes, or says so in only one of two places.
    SignatureAlgorithm,
    /// The signature is not one of an RSA key of 4096 bits.
    Signature,
    /// The common name is missing, there twice, or not one of AMD's.
    Name,
    /// It is valid from a time after that until which it is valid.
    Validity,
    /// The public key is not of the kind that goes with the name: RSA of 4096 bits with exponent 65537, or P-384.
    PublicKey,
    /// An extension is malformed.
    Extension,
    /// An extension is there twice.
    ExtensionTwice,
    /// An extension is critical and not known here.
    CriticalExtension,
    /// It may sign certificates though its name is that of an end, or the other way round.
    Authority,
    /// One of AMD's extensions is malformed.
    AmdExtension {
        /// Which one.
        extension: AmdExtension,
    },
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "over {MAX_CERTIFICATE_BYTES} bytes"),
            Self::Der => write!(f, "not DER, cut off, or with bytes behind it"),
            Self::Version => write!(f, "not X.509 version 3"),
            Self::Serial => write!(f, "its serial number is negative or too long"),
            Self::SignatureAlgorithm => {
                write!(f, "not signed with RSASSA-PSS, SHA-384, salt of 48 bytes")
            }
            Self::Signature => write!(
                f,
                "its signature is not {} bytes long",
                signature::RSA_BYTES
            ),
            Self::Name => write!(
                f,
                "its common name is not one of ARK-, SEV-, SEV-VLEK- with a product, SEV-VCEK, SEV-VLEK"
            ),
            Self::Validity => write!(f, "it ends before it begins"),
            Self::PublicKey => write!(
                f,
                "its public key is not the kind that goes with its name (RSA 4096 or P-384)"
            ),
            Self::Extension => write!(f, "an extension is malformed"),
            Self::ExtensionTwice => write!(f, "an extension is there twice"),
            Self::CriticalExtension => write!(f, "it has an unknown critical extension"),
            Self::Authority => write!(f, "its name and its right to sign certificates disagree"),
            Self::AmdExtension { extension } => {
                write!(f, "its extension {extension} is malformed")
            }
        }
    }
}

impl core::error::Error for CertificateError {}

impl From<NotDer> for CertificateError {
    fn from(_: NotDer) -> Self {
        Self::Der
    }
}

#[derive(Clone, Debug)]
enum PublicKey {
    Rsa(RsaPublicKey),
    Ec(VerifyingKey),
}

/// A parsed certificate. Parsing says nothing about who signed it.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    signed: Range<usize>,
    signature: Vec<u8>,
    serial: Vec<u8>,
    kind: Kind,
    subject: Name,
    issuer: Name,
    not_before_s: u64,
    not_after_s: u64,
    public_key: PublicKey,
    amd: AmdExtensions,
}

/// A name: encoded, and the two attributes that have a meaning here.
#[derive(Clone, Debug)]
struct Name {
    der: Vec<u8>,
    common_name: String,
    organization: Option<String>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl Certificate {
    /// Parses a certificate from DER.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLarge);
        }
        let mut outer = single(der)?.enter(Tag::Sequence)?;
        let (signed, algorithm, bits) = (outer.next()?, outer.next()?, outer.next()?);
        outer.finish()?;
        let mut fields = signed.enter(Tag::Sequence)?;
        let version = fields.next()?;
        if version.whole != [0xa0, 3, 2, 1, 2] {
            return Err(CertificateError::Version);
        }
        let serial = fields
            .next()?
            .unsigned()
            .map_err(|_| CertificateError::Serial)?;
        if serial.len() > MAX_SERIAL_BYTES {
            return Err(CertificateError::Serial);
        }
        let inner_algorithm = fields.next()?;
        if !signature::is_pss_sha384(algorithm.whole) || inner_algorithm.whole != algorithm.whole {
            return Err(CertificateError::SignatureAlgorithm);
        }
        let issuer = Name::parse(fields.next()?)?;
        let (not_before_s, not_after_s) = validity(fields.next()?)?;
        let subject = Name::parse(fields.next()?)?;
        let kind = kind(&subject.common_name).ok_or(CertificateError::Name)?;
        let public_key = public_key(fields.next()?, kind)?;
        let extensions = fields.next()?.expect(explicit(3))?;
        fields.finish()?;
        let amd = extensions::parse(single(extensions)?.enter(Tag::Sequence)?, kind)?;
        let signature = bits.bits()?;
        if signature.len() != signature::RSA_BYTES {
            return Err(CertificateError::Signature);
        }
        // The signed part is the first element inside the outer one, whose header is what is in front of it.
        let start = der.len() - (signed.whole.len() + algorithm.whole.len() + bits.whole.len());
        Ok(Self {
            der: der.to_vec(),
            signed: start..start + signed.whole.len(),
            signature: signature.to_vec(),
            serial: serial.to_vec(),
            kind,
            subject,
            issuer,
            not_before_s,
            not_after_s,
            public_key,
            amd,
        })
    }

    /// The encoding.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What it is for, by its name.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The subject's common name.
    pub fn name(&self) -> &str {
        &self.subject.common_name
    }

    /// The issuer's common name.
    pub fn issuer_name(&self) -> &str {
        &self.issuer.common_name
    }

    /// The serial number, big-endian, without leading zeros.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The first and the last second that it is valid in, since 1970, UTC.
    pub fn validity_s(&self) -> (u64, u64) {
        (self.not_before_s, self.not_after_s)
    }

    /// AMD's extensions; all absent in an authority's certificate.
    pub fn amd(&self) -> &AmdExtensions {
        &self.amd
    }

    /// The product: from the name of an authority, from the extension of a VCEK or VLEK.
    pub fn product(&self) -> Option<Product> {
        match self.kind {
            Kind::Vcek | Kind::Vlek => self
                .amd
                .product_name
                .as_deref()
                .and_then(Product::from_name),
            Kind::Ark | Kind::Ask | Kind::Asvk => authority_product(self.name()),
        }
    }

    /// Whether it says of itself that it belongs to an emulated platform.
    pub fn is_emulated(&self) -> bool {
        self.subject.organization.as_deref() == Some(EMULATED_ORGANIZATION)
    }

    /// The key with which a VCEK or VLEK signs reports.
    pub fn report_key(&self) -> Option<&VerifyingKey> {
        match &self.public_key {
            PublicKey::Ec(key) => Some(key),
            PublicKey::Rsa(_) => None,
        }
    }

    /// Whether its issuer's name is the other's name, byte for byte.
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        self.issuer.der == issuer.subject.der
    }

    /// Whether the other's key signed it. Names are not looked at.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        issuer.has_signed(&self.der[self.signed.clone()], &self.signature)
    }

    /// Whether `signature` is its key's RSASSA-PSS signature of the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public_key {
            PublicKey::Rsa(key) => signature::is_pss(key, message, signature),
            PublicKey::Ec(_) => false,
        }
    }

    /// The subject's name, encoded.
    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject.der
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Safe(self.name()))
    }
}

fn kind(common_name: &str) -> Option<Kind> {
    match common_name {
        "SEV-VCEK" => return Some(Kind::Vcek),
        "SEV-VLEK" => return Some(Kind::Vlek),
        _ => authority_product(common_name)?,
    };
    Some(match common_name {
        name if name.starts_with("ARK-") => Kind::Ark,
        name if name.starts_with("SEV-VLEK-") => Kind::Asvk,
        _ => Kind::Ask,
    })
}

fn authority_product(common_name: &str) -> Option<Product> {
    let name = ["ARK-", "SEV-VLEK-", "SEV-"]
        .into_iter()
        .find_map(|prefix| common_name.strip_prefix(prefix))?;
    Product::ALL
        .into_iter()
        .find(|product| product.name() == name)
}

impl Name {
    /// Name ::= SEQUENCE OF SET OF SEQUENCE { type, value }, with exactly one common name.
    fn parse(element: Element<'_>) -> Result<Self, CertificateError> {
        let (mut common_name, mut organization) = (None, None);
        let mut sets = element.enter(Tag::Sequence)?;
        for _ in 0..MAX_NAME_ATTRIBUTES {
            if sets.is_empty() {
                break;
            }
            let mut attribute = single(sets.next()?.expect(Tag::Set)?)?.enter(Tag::Sequence)?;
            let oid: ObjectIdentifier = attribute.next()?.decode()?;
            let value = attribute.next()?;
            attribute.finish()?;
            let slot = match oid {
                COMMON_NAME => &mut common_name,
                ORGANIZATION => &mut organization,
                _ => continue,
            };
            if slot.replace(text(value)?).is_some() {
                return Err(CertificateError::Name);
            }
        }
        sets.finish()?;
        Ok(Self {
            der: element.whole.to_vec(),
            common_name: common_name.ok_or(CertificateError::Name)?,
            organization,
        })
    }
}

fn text(element: Element<'_>) -> Result<String, CertificateError> {
    if !matches!(
        element.tag,
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String
    ) {
        return Err(CertificateError::Name);
    }
    let text = core::str::from_utf8(element.value).map_err(|_| CertificateError::Name)?;
    Ok(text.into())
}

fn validity(element: Element<'_>) -> Result<(u64, u64), CertificateError> {
    let mut times = element.enter(Tag::Sequence)?;
    let (not_before_s, not_after_s) = (times.next()?.time()?, times.next()?.time()?);
    times.finish()?;
    if not_before_s > not_after_s {
        return Err(CertificateError::Validity);
    }
    Ok((not_before_s, not_after_s))
}

/// SubjectPublicKeyInfo ::= SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }.
fn public_key(element: Element<'_>, kind: Kind) -> Result<PublicKey, CertificateError> {
    let mut fields = element.enter(Tag::Sequence)?;
    let mut algorithm = fields.next()?.enter(Tag::Sequence)?;
    let oid: ObjectIdentifier = algorithm.next()?.decode()?;
    let parameters = algorithm.next()?;
    algorithm.finish()?;
    let key = fields.next()?.bits()?;
    fields.finish()?;
    let key = if kind.is_authority() {
        let is_rsa = oid == signature::RSA_ENCRYPTION && parameters.whole == [5, 0];
        let mut numbers = single(key)?.enter(Tag::Sequence)?;
        let (modulus, exponent) = (numbers.next()?.unsigned()?, numbers.next()?.unsigned()?);
        numbers.finish()?;
        signature::rsa_key(modulus, exponent)
            .filter(|_| is_rsa)
            .map(PublicKey::Rsa)
    } else {
        let is_p384 = oid == signature::EC_PUBLIC_KEY
            && parameters.decode::<ObjectIdentifier>()? == signature::SECP384R1;
        signature::ec_key(key)
            .filter(|_| is_p384)
            .map(PublicKey::Ec)
    };
    key.ok_or(CertificateError::PublicKey)
}

/// The elements of an extension: identifier, whether it is critical, content.
pub(crate) fn extension<'a>(
    elements: &mut Elements<'a>,
) -> Result<(ObjectIdentifier, bool, &'a [u8]), NotDer> {
    let mut fields = elements.next()?.enter(Tag::Sequence)?;
    let oid = fields.next()?.decode()?;
    // DER leaves FALSE out, since it is the default.
    let critical = match fields.next_if(Tag::Boolean)? {
        None => false,
        Some(flag) if flag.value == [0xff] => true,
        Some(_) => return Err(NotDer),
    };
    let value = fields.next()?.expect(Tag::OctetString)?;
    fields.finish()?;
    Ok((oid, critical, value))
}

#[cfg(test)]
mod tests;
