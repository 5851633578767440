//! What the guest shows of itself: a Collection CMW (RFC 9999, section 3.3) in CBOR, media type
//! `application/cmw+cbor`.
//!
//! ```cddl
//! evidence = {
//!   "__cmwc_t": "urn:cloister:evidence:v1",
//!   "epoch":    ["application/vnd.cloister.epoch", bytes .size 8],
//!   "evidence": [kind-media-type, bytes, 4],          ; 4: the bit of evidence, RFC 9999 section 3.1.1
//!   "keys":     ["application/ohttp-keys", bytes],
//!   ? "nonce":  ["application/vnd.cloister.nonce", bytes .size 32],
//!   ? "tls-key": ["application/vnd.cloister.tls-key", bytes],               ; SubjectPublicKeyInfo, DER
//!   ? "certificates":  ["application/vnd.cloister.certificates", bytes, 2],   ; 2: the bit of endorsements
//!   ? "release-note":  ["application/vnd.cloister.release-note", bytes, 2],
//!   ? "release-proof": ["application/vnd.cloister.release-proof", bytes, 2],
//!   * tstr => cbor-record                             ; passed over
//! }
//! ```
//! The epoch is a big-endian integer. Labels are unique and in the order of RFC 8949, section 4.2.1, lengths definite,
//! so that a collection has one encoding; decoding takes any order.
//!
//! A machine without a trusted execution environment has no evidence. It says so in the entry where evidence would
//! stand ([`Kind::None`]), and a client refuses it unless it was told otherwise. An SEV-SNP guest has its attestation
//! report there ([`Kind::SevSnp`]), as the security processor made it; [`report_data`] says what it binds. What goes with
//! it ([`Enclosures`]) is what the guest's launcher handed it; the guest has not read it.

use crate::api::media;
use crate::keyconfig;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use sha2::{Digest, Sha256, Sha512};

/// The most bytes of an encoded collection.
pub const MAX_BYTES: usize = 512 << 10;

/// The most entries of a collection.
pub const MAX_ENTRIES: usize = 16;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// The type of the collection, which gives the labels their meaning.
pub const COLLECTION_TYPE: &str = "urn:cloister:evidence:v1";

/// The key that RFC 9999 reserves for the type of a collection.
const TYPE_KEY: &str = "__cmwc_t";

/// The indicator of a record that holds endorsements: bit 1 (RFC 9999, section 3.1.1).
const INDICATOR_ENDORSEMENTS: u32 = 1 << 1;

/// The indicator of a record that holds evidence: bit 2 (RFC 9999, section 3.1.1).
const INDICATOR_EVIDENCE: u32 = 1 << 2;

const EPOCH_MEDIA_TYPE: &str = "application/vnd.cloister.epoch";
const NONCE_MEDIA_TYPE: &str = "application/vnd.cloister.nonce";
const NONE_MEDIA_TYPE: &str = "application/vnd.cloister.no-evidence";

const TLS_KEY_MEDIA_TYPE: &str = "application/vnd.cloister.tls-key";

/// The most bytes of a TLS public key.
pub const MAX_TLS_KEY_BYTES: usize = 1024;

const SEV_SNP_MEDIA_TYPE: &str = "application/vnd.cloister.sev-snp-report";

/// Bytes of an SEV-SNP attestation report (AMD publication 56860).
pub const SEV_SNP_REPORT_BYTES: usize = 1184;

/// The most bytes of each of the [`Enclosures`].
pub const MAX_ENCLOSURE_BYTES: usize = 64 << 10;

/// Labels and media types of the [`Enclosures`], in the order of their encoding.
const ENCLOSURES: [(&str, &str); 3] = [
    ("certificates", "application/vnd.cloister.certificates"),
    ("release-note", "application/vnd.cloister.release-note"),
    ("release-proof", "application/vnd.cloister.release-proof"),
];

/// What vouches for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing: the machine has no trusted execution environment, or does not use it.
    None,
    /// An SEV-SNP attestation report, which nobody has appraised.
    SevSnp(Box<[u8; SEV_SNP_REPORT_BYTES]>),
}

impl Kind {
    /// The name in a client's output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SevSnp(_) => "sev-snp",
        }
    }

    /// Media type and value of the record.
    fn record(&self) -> (&'static str, &[u8]) {
        match self {
            Self::None => (NONE_MEDIA_TYPE, b""),
            Self::SevSnp(report) => (SEV_SNP_MEDIA_TYPE, &report[..]),
        }
    }
}

/// The guest's evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What vouches for the guest.
    pub kind: Kind,
    /// The encoded key config list, `application/ohttp-keys`, byte for byte as it is bound.
    pub key_configs: Vec<u8>,
    /// The number of the epoch that the keys belong to.
    pub epoch: u64,
    /// The nonce that the client sent; none in the cached evidence of an epoch.
    pub nonce: Option<[u8; NONCE_BYTES]>,
    /// The public key of the guest's TLS, a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7), which the report
    /// binds too; empty where the guest speaks none.
    pub tls_public_key: Vec<u8>,
    /// What the launcher handed the guest to go with it.
    pub enclosures: Enclosures,
}

/// What goes with the evidence, as the guest's launcher handed it over. Nothing vouches for it but its own signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enclosures {
    /// The certificates of the key that signed the report: PEM, DER or a table of AMD 56421; empty for none.
    pub certificates: Vec<u8>,
    /// The image's entry in a transparency log, a signed note; empty for none.
    pub release_note: Vec<u8>,
    /// The proof that the log has the entry (C2SP tlog-proof); empty for none.
    pub release_proof: Vec<u8>,
}

impl Enclosures {
    /// In the order of [`ENCLOSURES`].
    fn all(&self) -> [&Vec<u8>; 3] {
        [&self.certificates, &self.release_note, &self.release_proof]
    }
}

/// Why evidence was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvidenceError {
    /// It has more bytes or entries than the limits allow.
    TooLarge,
    /// It is not CBOR, or uses indefinite lengths.
    Cbor,
    /// Bytes follow the collection.
    TrailingBytes,
    /// It is not a collection of [`COLLECTION_TYPE`].
    CollectionType,
    /// A label stands for two entries.
    Duplicate {
        /// The label.
        label: &'static str,
    },
    /// An entry that must be there is not.
    Missing {
        /// The label.
        label: &'static str,
    },
    /// An entry has another media type, indicator or size than it should.
    Entry {
        /// The label.
        label: &'static str,
    },
    /// What vouches for the guest is of a kind that is not known here.
    UnknownKind,
}

impl fmt::Display for EvidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(
                f,
                "the evidence is over {MAX_BYTES} bytes or {MAX_ENTRIES} entries"
            ),
            Self::Cbor => write!(
                f,
                "the evidence is not definite-length CBOR of the expected shape"
            ),
            Self::TrailingBytes => write!(f, "bytes follow the evidence"),
            Self::CollectionType => write!(
                f,
                "the evidence is not a collection of type {COLLECTION_TYPE}"
            ),
            Self::Duplicate { label } => write!(f, "the evidence has two entries `{label}`"),
            Self::Missing { label } => write!(f, "the evidence has no entry `{label}`"),
            Self::Entry { label } => write!(
                f,
                "the evidence's entry `{label}` has another type or size than it should"
            ),
            Self::UnknownKind => write!(f, "the evidence is of a kind that is not known here"),
        }
    }
}

impl core::error::Error for EvidenceError {}

impl From<minicbor::decode::Error> for EvidenceError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Cbor
    }
}

impl Evidence {
    /// The encoded collection.
    pub fn encode(&self) -> Vec<u8> {
        let enclosures: usize = self.enclosures.all().into_iter().map(Vec::len).sum();
        let variable_bytes = self.key_configs.len() + self.tls_public_key.len() + enclosures;
        let mut out = Vec::with_capacity(variable_bytes + SEV_SNP_REPORT_BYTES + 512);
        self.write(&mut Encoder::new(&mut out))
            .expect("a vector takes whatever is written");
        out
    }

    fn write(&self, encoder: &mut Encoder<&mut Vec<u8>>) -> WriteResult {
        // RFC 8949 orders keys by their encoding: shorter ones first, then byte by byte.
        let enclosures = ENCLOSURES.into_iter().zip(self.enclosures.all());
        let enclosures = enclosures.filter(|(_, value)| !value.is_empty());
        let has_tls_key = !self.tls_public_key.is_empty();
        let optional = [self.nonce.is_some(), has_tls_key].map(usize::from);
        let optional = optional.iter().sum::<usize>() + enclosures.clone().count();
        encoder.map(4 + optional as u64)?;
        write_record(encoder, "keys", media::OHTTP_KEYS, &self.key_configs, None)?;
        write_record(
            encoder,
            "epoch",
            EPOCH_MEDIA_TYPE,
            &self.epoch.to_be_bytes(),
            None,
        )?;
        if let Some(nonce) = &self.nonce {
            write_record(encoder, "nonce", NONCE_MEDIA_TYPE, nonce, None)?;
        }
        if has_tls_key {
            let key = &self.tls_public_key;
            write_record(encoder, "tls-key", TLS_KEY_MEDIA_TYPE, key, None)?;
        }
        encoder.str(TYPE_KEY)?.str(COLLECTION_TYPE)?;
        let (media_type, value) = self.kind.record();
        let indicator = Some(INDICATOR_EVIDENCE);
        write_record(encoder, "evidence", media_type, value, indicator)?;
        for ((label, media_type), value) in enclosures {
            let indicator = Some(INDICATOR_ENDORSEMENTS);
            write_record(encoder, label, media_type, value, indicator)?;
        }
        Ok(())
    }

    /// Decodes a collection. Entries with labels that are not known are passed over.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_BYTES {
            return Err(EvidenceError::TooLarge);
        }
        let entries = Entries::read(bytes)?;
        let [certificates, release_note, release_proof] = entries.enclosures()?;
        let keys = entries
            .keys
            .ok_or(EvidenceError::Missing { label: "keys" })?;
        let epoch = entries
            .epoch
            .ok_or(EvidenceError::Missing { label: "epoch" })?;
        let evidence = entries
            .evidence
            .ok_or(EvidenceError::Missing { label: "evidence" })?;
        let key_configs = keys.value("keys", media::OHTTP_KEYS)?;
        if key_configs.len() > keyconfig::MAX_LIST_BYTES {
            return Err(EvidenceError::TooLarge);
        }
        let nonce = entries
            .nonce
            .map(|nonce| nonce.array("nonce", NONCE_MEDIA_TYPE))
            .transpose()?;
        let tls_public_key = match entries.tls_key {
            None => Vec::new(),
            Some(key) => key.tls_key()?.to_vec(),
        };
        Ok(Self {
            kind: evidence.kind()?,
            tls_public_key,
            key_configs: key_configs.to_vec(),
            epoch: u64::from_be_bytes(epoch.array("epoch", EPOCH_MEDIA_TYPE)?),
            nonce,
            enclosures: Enclosures {
                certificates,
                release_note,
                release_proof,
            },
        })
    }
}

type WriteResult = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn write_record(
    encoder: &mut Encoder<&mut Vec<u8>>,
    label: &str,
    media_type: &str,
    value: &[u8],
    indicator: Option<u32>,
) -> WriteResult {
    encoder
        .str(label)?
        .array(2 + u64::from(indicator.is_some()))?
        .str(media_type)?
        .bytes(value)?;
    indicator.map_or(Ok(()), |indicator| encoder.u32(indicator).map(drop))
}

/// The entries of a collection that have a meaning here.
#[derive(Default)]
struct Entries<'a> {
    keys: Option<Record<'a>>,
    epoch: Option<Record<'a>>,
    nonce: Option<Record<'a>>,
    tls_key: Option<Record<'a>>,
    evidence: Option<Record<'a>>,
    enclosures: [Option<Record<'a>>; 3],
    has_type: bool,
}

impl<'a> Entries<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, EvidenceError> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.map()?.ok_or(EvidenceError::Cbor)?;
        if count > MAX_ENTRIES as u64 {
            return Err(EvidenceError::TooLarge);
        }
        let mut entries = Self::default();
        for _ in 0..count {
            entries.read_entry(&mut decoder)?;
        }
        if decoder.position() != bytes.len() {
            return Err(EvidenceError::TrailingBytes);
        }
        if entries.has_type {
            Ok(entries)
        } else {
            Err(EvidenceError::CollectionType)
        }
    }

    fn read_entry(&mut self, decoder: &mut Decoder<'a>) -> Result<(), EvidenceError> {
        let (label, slot) = match decoder.str()? {
            TYPE_KEY => return self.read_type(decoder),
            "keys" => ("keys", &mut self.keys),
            "epoch" => ("epoch", &mut self.epoch),
            "nonce" => ("nonce", &mut self.nonce),
            "tls-key" => ("tls-key", &mut self.tls_key),
            "evidence" => ("evidence", &mut self.evidence),
            other => match ENCLOSURES.iter().position(|(label, _)| *label == other) {
                Some(index) => (ENCLOSURES[index].0, &mut self.enclosures[index]),
                None => return Record::read(decoder).map(drop),
            },
        };
        match slot.replace(Record::read(decoder)?) {
            None => Ok(()),
            Some(_) => Err(EvidenceError::Duplicate { label }),
        }
    }

    /// The values of the enclosures, empty for those that are not there.
    fn enclosures(&self) -> Result<[Vec<u8>; 3], EvidenceError> {
        let mut values = [const { Vec::new() }; 3];
        for ((value, record), (label, media_type)) in
            values.iter_mut().zip(&self.enclosures).zip(ENCLOSURES)
        {
            if let Some(record) = record {
                *value = record.enclosure(label, media_type)?.to_vec();
            }
        }
        Ok(values)
    }

    fn read_type(&mut self, decoder: &mut Decoder<'a>) -> Result<(), EvidenceError> {
        if decoder.str()? != COLLECTION_TYPE {
            return Err(EvidenceError::CollectionType);
        }
        if core::mem::replace(&mut self.has_type, true) {
            return Err(EvidenceError::Duplicate { label: TYPE_KEY });
        }
        Ok(())
    }
}

/// A Record CMW (RFC 9999, section 3.1): type, value, and what the value is.
struct Record<'a> {
    media_type: &'a str,
    value: &'a [u8],
    indicator: Option<u32>,
}

impl<'a> Record<'a> {
    fn read(decoder: &mut Decoder<'a>) -> Result<Self, EvidenceError> {
        let members = decoder.array()?;
        let media_type = decoder.str()?;
        // A string in pieces is the one place left where an indefinite length could hide.
        let value = match decoder.datatype()? {
            Type::Bytes => decoder.bytes()?,
            _ => return Err(EvidenceError::Cbor),
        };
        let indicator = match members {
            Some(2) => None,
            Some(3) => Some(decoder.u32()?),
            _ => return Err(EvidenceError::Cbor),
        };
        Ok(Self {
            media_type,
            value,
            indicator,
        })
    }

    /// The value of a record that is not a conceptual message of RATS, and so has no indicator.
    fn value(&self, label: &'static str, media_type: &str) -> Result<&'a [u8], EvidenceError> {
        if self.media_type == media_type && self.indicator.is_none() {
            Ok(self.value)
        } else {
            Err(EvidenceError::Entry { label })
        }
    }

    fn array<const N: usize>(
        &self,
        label: &'static str,
        media_type: &str,
    ) -> Result<[u8; N], EvidenceError> {
        self.value(label, media_type)?
            .try_into()
            .map_err(|_| EvidenceError::Entry { label })
    }

    /// Not empty: a guest without TLS has no such entry.
    fn tls_key(&self) -> Result<&'a [u8], EvidenceError> {
        const LABEL: &str = "tls-key";
        match self.value(LABEL, TLS_KEY_MEDIA_TYPE)? {
            b"" => Err(EvidenceError::Entry { label: LABEL }),
            key if key.len() > MAX_TLS_KEY_BYTES => Err(EvidenceError::TooLarge),
            key => Ok(key),
        }
    }

    fn enclosure(&self, label: &'static str, media_type: &str) -> Result<&'a [u8], EvidenceError> {
        if self.value.len() > MAX_ENCLOSURE_BYTES {
            return Err(EvidenceError::TooLarge);
        }
        if self.media_type == media_type && self.indicator == Some(INDICATOR_ENDORSEMENTS) {
            Ok(self.value)
        } else {
            Err(EvidenceError::Entry { label })
        }
    }

    fn kind(&self) -> Result<Kind, EvidenceError> {
        if self.indicator != Some(INDICATOR_EVIDENCE) {
            return Err(EvidenceError::Entry { label: "evidence" });
        }
        match (self.media_type, self.value) {
            (NONE_MEDIA_TYPE, b"") => Ok(Kind::None),
            (SEV_SNP_MEDIA_TYPE, report) => match report.try_into() {
                Ok(report) => Ok(Kind::SevSnp(Box::new(report))),
                Err(_) => Err(EvidenceError::Entry { label: "evidence" }),
            },
            (NONE_MEDIA_TYPE, _) => Err(EvidenceError::Entry { label: "evidence" }),
            _ => Err(EvidenceError::UnknownKind),
        }
    }
}

/// What an attestation report binds: SHA-512 over a domain string, the epoch, the SHA-256 of the key config list, the
/// SHA-256 of the TLS public key (empty for none), and the nonce (zeros for none).
pub fn report_data(
    epoch: u64,
    key_configs: &[u8],
    tls_public_key: &[u8],
    nonce: Option<&[u8; NONCE_BYTES]>,
) -> [u8; 64] {
    Sha512::new()
        .chain_update(b"cloister report data v1")
        .chain_update(epoch.to_be_bytes())
        .chain_update(Sha256::digest(key_configs))
        .chain_update(Sha256::digest(tls_public_key))
        .chain_update(nonce.unwrap_or(&[0; NONCE_BYTES]))
        .finalize()
        .into()
}

/// A nonce from the hex of a query parameter; `None` unless it is exactly 64 hex digits.
pub fn parse_nonce(hex: &str) -> Option<[u8; NONCE_BYTES]> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut nonce = [0; NONCE_BYTES];
    if pairs.len() != NONCE_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in nonce.iter_mut().zip(pairs) {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        *byte = (digit(high)? * 16 + digit(low)?) as u8;
    }
    Some(nonce)
}

/// Lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests;
