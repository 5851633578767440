//! The certificates that a hypervisor hands out with an extended guest request (GHCB specification,
//! "SNP extended guest request").
//!
//! A table of {GUID, u32 offset, u32 length}, ended by one of zeros, and the certificates behind it. Nothing vouches
//! for any of it; the verifier checks the chain.

use core::fmt;
use core::ops::Range;

/// The most certificates that a table may have.
pub const MAX_CERTIFICATES: usize = 16;

const ENTRY_BYTES: usize = 24;

/// Which certificate it is: a GUID in the byte order of EFI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateId(pub [u8; 16]);

impl CertificateId {
    /// The VCEK: 63da758d-e664-4564-adc5-f4b93be8accd.
    pub const VCEK: Self = Self([
        0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd,
    ]);
    /// The VLEK: a8074bc2-a25a-483e-aae6-39c045a0b8a1.
    pub const VLEK: Self = Self([
        0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
        0xa1,
    ]);
    /// The ASK: 4ab7b379-bbac-4fe4-a02f-05aef327c782.
    pub const ASK: Self = Self([
        0x79, 0xb3, 0xb7, 0x4a, 0xac, 0xbb, 0xe4, 0x4f, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7,
        0x82,
    ]);
    /// The ARK: c0b406a4-a803-4952-9743-3fb6014cd0ae.
    pub const ARK: Self = Self([
        0xa4, 0x06, 0xb4, 0xc0, 0x03, 0xa8, 0x52, 0x49, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0,
        0xae,
    ]);
}

/// Why a certificate table was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// No entry of zeros ends the table, or it has more than [`MAX_CERTIFICATES`].
    Unterminated,
    /// A certificate begins within the table, ends beyond the buffer, or is empty.
    Range {
        /// Its place in the table.
        index: usize,
    },
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unterminated => f.write_str("the certificate table has no end"),
            Self::Range { index } => {
                write!(f, "certificate {index} does not lie behind the table")
            }
        }
    }
}

impl core::error::Error for CertificateError {}

/// A certificate table, within a private copy of the shared buffer.
#[derive(Clone, Copy, Debug)]
pub struct CertificateTable<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> CertificateTable<'a> {
    /// Parses a buffer. A table without certificates, which many hosts send, is a table.
    ///
    /// # Errors
    /// A table without end, or a certificate that is not in the buffer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CertificateError> {
        let end = |entry: &[u8]| entry.iter().all(|&byte| byte == 0);
        let count = bytes
            .chunks_exact(ENTRY_BYTES)
            .take(MAX_CERTIFICATES + 1)
            .position(end)
            .ok_or(CertificateError::Unterminated)?;
        let table = Self { bytes, count };
        let behind_table = (count + 1) * ENTRY_BYTES;
        for index in 0..count {
            let (_, range) = table.entry(index);
            let in_buffer =
                range.start >= behind_table && range.start < range.end && range.end <= bytes.len();
            if !in_buffer {
                return Err(CertificateError::Range { index });
            }
        }
        Ok(table)
    }

    /// The certificates, DER or whatever the host wrote.
    pub fn iter(&self) -> impl Iterator<Item = (CertificateId, &'a [u8])> {
        let table = *self;
        (0..table.count).filter_map(move |index| {
            let (id, range) = table.entry(index);
            Some((id, table.bytes.get(range)?))
        })
    }

    /// The first certificate with an id.
    pub fn get(&self, id: CertificateId) -> Option<&'a [u8]> {
        self.iter()
            .find_map(|(found, bytes)| (found == id).then_some(bytes))
    }

    /// Id and place of a certificate; an end that does not fit is beyond any buffer.
    fn entry(&self, index: usize) -> (CertificateId, Range<usize>) {
        let mut entry = [0; ENTRY_BYTES];
        entry.copy_from_slice(&self.bytes[index * ENTRY_BYTES..][..ENTRY_BYTES]);
        let [id @ .., o0, o1, o2, o3, l0, l1, l2, l3] = entry;
        let offset = u32::from_le_bytes([o0, o1, o2, o3]) as usize;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        (CertificateId(id), offset..offset.saturating_add(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;
    use std::vec::Vec;

    fn entry(id: CertificateId, offset: u32, length: u32) -> Vec<u8> {
        [&id.0[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    fn table(entries: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
        [&entries.concat()[..], &[0; ENTRY_BYTES], rest].concat()
    }

    #[test]
    fn certificates_are_found_by_their_id() {
        let entries = [
            entry(CertificateId::VCEK, 72, 3),
            entry(CertificateId::ASK, 75, 2),
        ];
        let bytes = table(&entries, b"vckas");
        let table = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(table.get(CertificateId::VCEK), Some(&b"vck"[..]));
        assert_eq!(table.get(CertificateId::ASK), Some(&b"as"[..]));
        assert_eq!(table.get(CertificateId::ARK), None);
    }

    #[test]
    fn the_empty_table_of_kvm_is_a_table() {
        let table = CertificateTable::parse(&[0; ENTRY_BYTES]).unwrap();
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn a_certificate_outside_the_buffer_is_refused() {
        let lies = [
            (0, 4),
            (47, 4),
            (48, 0),
            (48, 9),
            (u32::MAX, 1),
            (48, u32::MAX),
            (56, 1),
        ];
        for (offset, length) in lies {
            let bytes = table(&[entry(CertificateId::VLEK, offset, length)], &[7; 8]);
            let error = CertificateTable::parse(&bytes).err();
            assert_eq!(
                error,
                Some(CertificateError::Range { index: 0 }),
                "{offset} {length}"
            );
        }
    }

    #[test]
    fn a_table_without_end_is_refused() {
        let one = entry(CertificateId::VLEK, 4000, 1);
        for bytes in [&[][..], &[0; 23], &one, &one.repeat(MAX_CERTIFICATES + 2)] {
            let error = CertificateTable::parse(bytes).err();
            assert_eq!(error, Some(CertificateError::Unterminated));
        }
        let mut long = one.repeat(MAX_CERTIFICATES + 1);
        long.resize(4096, 0);
        assert!(CertificateTable::parse(&long).is_err(), "too many");
        assert!(
            CertificateTable::parse(&long[ENTRY_BYTES..]).is_ok(),
            "as many as there may be"
        );
    }

    #[test]
    fn whatever_is_accepted_lies_in_the_buffer() {
        let mut rng = Rng(11);
        for _ in 0..20_000 {
            let mut bytes = table(
                &[
                    entry(CertificateId::VCEK, 72, 8),
                    entry(CertificateId::ARK, 80, 4),
                ],
                &[1; 16],
            );
            for _ in 0..=rng.next() % 3 {
                rng.alter(&mut bytes);
            }
            if let Ok(table) = CertificateTable::parse(&bytes) {
                let total: usize = table.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(table.iter().count() <= MAX_CERTIFICATES);
                assert!(total <= bytes.len() * MAX_CERTIFICATES);
            }
        }
    }
}
