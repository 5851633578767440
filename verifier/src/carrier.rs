//! What certificates travel in: DER, PEM (RFC 7468), and the table that a hypervisor hands to a guest with an extended
//! guest request (AMD 56421, structure `cert_table`).
//!
//! The table is a list of entries of 24 bytes (GUID, offset, length; little-endian) up to an entry of zeros, and behind
//! it the certificates. GUIDs are not trusted to say what a certificate is.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// The most bytes of one file or table.
pub const MAX_CARRIER_BYTES: usize = 256 << 10;

/// The most certificates and revocation lists together.
pub const MAX_CERTIFICATES: usize = 16;

/// Bytes of a table's entry.
const ENTRY_BYTES: usize = 24;

/// 92f81bc3-5811-4d3d-97ff-d19f88dc67ea, a revocation list, as it is stored.
const CRL_GUID: [u8; 16] = [
    0xc3, 0x1b, 0xf8, 0x92, 0x11, 0x58, 0x3d, 0x4d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea,
];

/// What table entries may be, as they are stored: ARK, ASK, VCEK, VLEK. Others are passed over.
const CERTIFICATE_GUIDS: [[u8; 16]; 4] = [
    // c0b406a4-a803-4952-9743-3fb6014cd0ae
    [
        0xa4, 0x06, 0xb4, 0xc0, 0x03, 0xa8, 0x52, 0x49, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0,
        0xae,
    ],
    // 4ab7b379-bbac-4fe4-a02f-05aef327c782
    [
        0x79, 0xb3, 0xb7, 0x4a, 0xac, 0xbb, 0xe4, 0x4f, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7,
        0x82,
    ],
    // 63da758d-e664-4564-adc5-f4b93be8accd
    [
        0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd,
    ],
    // a8074bc2-a25a-483e-aae6-39c045a0b8a1
    [
        0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
        0xa1,
    ],
];

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const PEM_END: &[u8] = b"-----END ";
const PEM_DASHES: &[u8] = b"-----";

/// Why certificates cannot be taken out of what they travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarrierError {
    /// It has more bytes or certificates than the limits allow.
    TooLarge,
    /// An entry of the table points outside it, or into its list of entries, or the list does not end.
    Table,
    /// It is neither PEM nor DER nor a table, or is cut off.
    Format,
    /// A PEM block is malformed, or neither a certificate nor a revocation list.
    Pem,
}

impl fmt::Display for CarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(
                f,
                "over {MAX_CARRIER_BYTES} bytes or {MAX_CERTIFICATES} certificates"
            ),
            Self::Table => write!(f, "an entry of the certificate table points outside it"),
            Self::Format => write!(f, "neither PEM, DER nor a certificate table, or cut off"),
            Self::Pem => write!(
                f,
                "a PEM block is malformed, or neither CERTIFICATE nor X509 CRL"
            ),
        }
    }
}

impl core::error::Error for CarrierError {}

/// Certificates and revocation lists, each in DER; not parsed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Certificates, in any order.
    pub certificates: Vec<Vec<u8>>,
    /// Revocation lists.
    pub crls: Vec<Vec<u8>>,
}

impl Carried {
    /// Adds what a file holds: PEM blocks, DER one behind the other, or a table. Which of them is told from the first
    /// bytes.
    ///
    /// # Errors
    /// [`CarrierError`].
    pub fn add_file(&mut self, bytes: &[u8]) -> Result<(), CarrierError> {
        if bytes.len() > MAX_CARRIER_BYTES {
            return Err(CarrierError::TooLarge);
        }
        if find(bytes, PEM_BEGIN).is_some() {
            return self.add_pem(bytes);
        }
        match bytes {
            [] => Ok(()),
            [0x30, 0x81..=0x84, ..] => self.add_der(bytes),
            _ => self.add_table(bytes),
        }
    }

    /// Adds DER elements that stand one behind the other.
    fn add_der(&mut self, mut bytes: &[u8]) -> Result<(), CarrierError> {
        while !bytes.is_empty() {
            let (element, rest) = bytes
                .split_at_checked(der_bytes(bytes)?)
                .ok_or(CarrierError::Format)?;
            self.add_certificate_or_crl(element)?;
            bytes = rest;
        }
        Ok(())
    }

    /// The first element inside the signed part decides: a certificate has an explicit version in front, a list an
    /// integer or an algorithm.
    fn add_certificate_or_crl(&mut self, element: &[u8]) -> Result<(), CarrierError> {
        let signed = crate::asn1::single(element)
            .and_then(|outer| outer.enter(der::Tag::Sequence)?.next())
            .map_err(|_| CarrierError::Format)?;
        match signed.value.first() {
            Some(0xa0) => self.add_certificate(element),
            _ => self.add_crl(element),
        }
    }

    fn add_pem(&mut self, mut bytes: &[u8]) -> Result<(), CarrierError> {
        while let Some(begin) = find(bytes, PEM_BEGIN) {
            let block = &bytes[begin..];
            let end = find(block, PEM_END).ok_or(CarrierError::Pem)? + PEM_END.len();
            let dashes = find(&block[end..], PEM_DASHES).ok_or(CarrierError::Pem)?;
            let (block, rest) = block.split_at(end + dashes + PEM_DASHES.len());
            let (label, der) = pem_rfc7468::decode_vec(block).map_err(|_| CarrierError::Pem)?;
            match label {
                "CERTIFICATE" => self.add_certificate(&der)?,
                "X509 CRL" => self.add_crl(&der)?,
                _ => return Err(CarrierError::Pem),
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Adds what a certificate table holds, in DER or in PEM. An empty table (one entry of zeros) adds nothing.
    ///
    /// # Errors
    /// [`CarrierError`].
    pub fn add_table(&mut self, bytes: &[u8]) -> Result<(), CarrierError> {
        if bytes.len() > MAX_CARRIER_BYTES {
            return Err(CarrierError::TooLarge);
        }
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let count = entries
            .iter()
            .take(MAX_CERTIFICATES + 1)
            .position(|entry| *entry == [0; ENTRY_BYTES])
            .ok_or(CarrierError::Table)?;
        for entry in &entries[..count] {
            let range = table_range(entry).ok_or(CarrierError::Table)?;
            if range.start < (count + 1) * ENTRY_BYTES {
                return Err(CarrierError::Table);
            }
            let content = bytes.get(range).ok_or(CarrierError::Table)?;
            match entry.first_chunk::<16>() {
                _ if content.starts_with(PEM_BEGIN) => self.add_pem(content)?,
                Some(&CRL_GUID) => self.add_crl(content)?,
                Some(guid) if CERTIFICATE_GUIDS.contains(guid) => self.add_certificate(content)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add_certificate(&mut self, der: &[u8]) -> Result<(), CarrierError> {
        self.count_one_more()?;
        self.certificates.push(der.to_vec());
        Ok(())
    }

    fn add_crl(&mut self, der: &[u8]) -> Result<(), CarrierError> {
        self.count_one_more()?;
        self.crls.push(der.to_vec());
        Ok(())
    }

    fn count_one_more(&self) -> Result<(), CarrierError> {
        if self.certificates.len() + self.crls.len() < MAX_CERTIFICATES {
            Ok(())
        } else {
            Err(CarrierError::TooLarge)
        }
    }
}

/// Bytes of the DER element that stands at the front, its header included: a sequence with a length of 1 to 4 bytes.
fn der_bytes(bytes: &[u8]) -> Result<usize, CarrierError> {
    let [0x30, length @ 0x81..=0x84, rest @ ..] = bytes else {
        return Err(CarrierError::Format);
    };
    let octets = usize::from(length & 0x7f);
    let length = rest.get(..octets).ok_or(CarrierError::Format)?;
    let length = length
        .iter()
        .fold(0_u64, |length, octet| length << 8 | u64::from(*octet));
    usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(2 + octets))
        .ok_or(CarrierError::Format)
}

fn table_range(entry: &[u8; ENTRY_BYTES]) -> Option<Range<usize>> {
    let number = |at: usize| -> Option<usize> {
        let bytes = entry.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let (offset, length) = (number(16)?, number(20)?);
    Some(offset..offset.checked_add(length)?)
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

#[cfg(test)]
mod tests;
