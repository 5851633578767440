//! Records: a streamed response leaves in pieces of one size at ticks of the server's clock, whether there is something
//! to say or not, so that neither its length nor the times of its words show.
//!
//! The response to a chunked request (draft-ietf-ohai-chunked-ohttp, section 6.2) is a row of chunks, and the content of
//! each chunk, the final one included, is one record. Nothing of a record is in the clear:
//!
//! ```text
//! record = length (2 bytes, big-endian) || bytes (as many as length says) || zeros
//! ```
//!
//! All records of a response have the same size; a server of this version sends [`RECORD_BYTES`]. The bytes of all
//! records, one behind the other, are one binary HTTP response (RFC 9292) of either framing, without padding. A record
//! of length 0 says nothing, as do all between the acceptance of a request and the first word of its answer, and all
//! between the last word and the end. So the status of the response may come late.
//!
//! The first record leaves when the request is accepted, each other one a tick ([`TICK_MS`]) or more after the one
//! before; one tick brings one record. What does not fit waits for the next tick. How many there are is rounded up to
//! a [`bucket`], so that the end tells little of the length: to 8, 16, 32, 64 or 128 records (2 to 32 s), and to a
//! multiple of 128 beyond.

use crate::ohttp::chunked::MAX_CHUNK_BYTES;
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// Bytes of a record as this version sends it, before it is sealed.
pub const RECORD_BYTES: usize = 256;

/// Milliseconds from one record to the next.
pub const TICK_MS: u64 = 250;

/// Bytes of the length before a record's bytes.
const LENGTH_BYTES: usize = 2;

/// The most bytes that one record carries.
pub const PAYLOAD_BYTES: usize = RECORD_BYTES - LENGTH_BYTES;

/// The fewest records of a response.
const MIN_RECORDS: u64 = 8;
/// From here on a response has a multiple of so many records.
const MAX_DOUBLED_RECORDS: u64 = 128;

/// Why a chunk is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// It is too short for a length, or longer than a chunk may be.
    Size {
        /// Its bytes.
        found_bytes: usize,
    },
    /// It has another size than the records before it.
    Uneven {
        /// Bytes of the first record.
        first_bytes: usize,
        /// Bytes of this one.
        found_bytes: usize,
    },
    /// Its length is larger than the record.
    Length {
        /// The length.
        found: usize,
    },
    /// The padding has bytes other than zero.
    Padding,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found_bytes } => write!(f, "a record cannot have {found_bytes} bytes"),
            Self::Uneven {
                first_bytes,
                found_bytes,
            } => write!(
                f,
                "a record has {found_bytes} bytes, and the first one had {first_bytes}"
            ),
            Self::Length { found } => {
                write!(
                    f,
                    "a record says that it has {found} bytes, and it has fewer"
                )
            }
            Self::Padding => write!(f, "a record's padding is not zero"),
        }
    }
}

impl core::error::Error for RecordError {}

/// The record that carries the beginning of `bytes`, as much of them as fits, and how many these are.
pub fn encode(bytes: &[u8]) -> (Zeroizing<Vec<u8>>, usize) {
    let length = bytes.len().min(PAYLOAD_BYTES);
    // Not an array: a move would leave a copy behind.
    let mut record = Zeroizing::new(alloc::vec![0; RECORD_BYTES]);
    record[..LENGTH_BYTES].copy_from_slice(&(length as u16).to_be_bytes());
    record[LENGTH_BYTES..LENGTH_BYTES + length].copy_from_slice(&bytes[..length]);
    (record, length)
}

/// Reads the records of one response.
#[derive(Debug, Default)]
pub struct Decoder {
    record_bytes: Option<usize>,
}

impl Decoder {
    /// What the next record carries; nothing if it is empty.
    ///
    /// # Errors
    /// [`RecordError`]; nothing more of the response may be used then.
    pub fn read<'r>(&mut self, record: &'r [u8]) -> Result<&'r [u8], RecordError> {
        let found_bytes = record.len();
        let first_bytes = *self.record_bytes.get_or_insert(found_bytes);
        if found_bytes != first_bytes {
            return Err(RecordError::Uneven {
                first_bytes,
                found_bytes,
            });
        }
        if found_bytes > MAX_CHUNK_BYTES {
            return Err(RecordError::Size { found_bytes });
        }
        let (length, rest) = record
            .split_first_chunk::<LENGTH_BYTES>()
            .filter(|(_, rest)| !rest.is_empty())
            .ok_or(RecordError::Size { found_bytes })?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (bytes, padding) = rest
            .split_at_checked(length)
            .ok_or(RecordError::Length { found: length })?;
        // Without a branch on each byte, though nothing secret depends on it.
        match padding.iter().fold(0, |any, byte| any | byte) {
            0 => Ok(bytes),
            _ => Err(RecordError::Padding),
        }
    }
}

/// The number of records that a response has which needs `needed` of them.
#[must_use]
pub fn bucket(needed: u64) -> u64 {
    if needed > MAX_DOUBLED_RECORDS {
        needed.div_ceil(MAX_DOUBLED_RECORDS) * MAX_DOUBLED_RECORDS
    } else {
        needed.max(MIN_RECORDS).next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutate;

    #[test]
    fn every_length_goes_there_and_back_in_a_record_of_one_size() {
        let bytes: Vec<u8> = (0..=255).cycle().skip(1).take(2 * RECORD_BYTES).collect();
        for length in 0..bytes.len() {
            let (record, taken) = encode(&bytes[..length]);
            assert_eq!(record.len(), RECORD_BYTES);
            assert_eq!(taken, length.min(PAYLOAD_BYTES));
            assert_eq!(Decoder::default().read(&record[..]), Ok(&bytes[..taken]));
        }
    }

    #[test]
    fn records_of_any_one_size_are_read() {
        for size in 3..=MAX_CHUNK_BYTES {
            let mut record = vec![0; size];
            let mut decoder = Decoder::default();
            assert_eq!(decoder.read(&record), Ok(&[][..]), "{size}");
            let full = (size - LENGTH_BYTES) as u16;
            record[..LENGTH_BYTES].copy_from_slice(&full.to_be_bytes());
            assert_eq!(decoder.read(&record).map(<[u8]>::len), Ok(size - 2));
            record[..LENGTH_BYTES].copy_from_slice(&(full + 1).to_be_bytes());
            let found = size - 1;
            assert_eq!(decoder.read(&record), Err(RecordError::Length { found }));
        }
        for found_bytes in [0, 1, 2, MAX_CHUNK_BYTES + 1] {
            let outcome = Decoder::default().read(&vec![0; found_bytes]).map(drop);
            assert_eq!(outcome, Err(RecordError::Size { found_bytes }));
        }
    }

    #[test]
    fn uneven_records_and_padding_that_says_something_are_refused() {
        let mut decoder = Decoder::default();
        assert!(decoder.read(&[0; 9]).is_ok());
        assert_eq!(
            decoder.read(&[0; 8]),
            Err(RecordError::Uneven {
                first_bytes: 9,
                found_bytes: 8
            })
        );
        for place in 5..9 {
            let mut record = [0, 3, 1, 2, 3, 0, 0, 0, 0];
            record[place] = 1;
            assert_eq!(
                Decoder::default().read(&record),
                Err(RecordError::Padding),
                "{place}"
            );
        }
        mutate(&encode(b"hello").0[..], 2_000, |bytes| {
            let _ = Decoder::default().read(bytes);
        });
    }

    #[test]
    fn the_number_of_records_is_rounded_up_to_a_bucket() {
        for (needed, bucketed) in [
            (0, 8),
            (8, 8),
            (9, 16),
            (17, 32),
            (64, 64),
            (65, 128),
            (128, 128),
            (129, 256),
            (257, 384),
        ] {
            assert_eq!(bucket(needed), bucketed, "{needed}");
            assert_eq!(bucket(bucketed), bucketed, "a bucket is its own");
        }
    }
}
