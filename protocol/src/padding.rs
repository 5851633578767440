//! Buckets: every message is padded to one of a few sizes, so that its length tells an observer little.
//!
//! What is padded is the binary HTTP message before it is encapsulated; the padding is that of RFC 9292, section 3.8:
//! zero bytes behind the message. A decoder needs to know nothing about it.

use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// The sizes in bytes: 1, 2, 4, ... 256 KiB.
pub const BUCKETS_BYTES: [usize; 9] = [
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
];

/// The largest message, in bytes, encoded as binary HTTP.
pub const MAX_MESSAGE_BYTES: usize = BUCKETS_BYTES[BUCKETS_BYTES.len() - 1];

/// Why a message cannot be padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PaddingError {
    /// It is larger than the largest bucket.
    TooLarge {
        /// Bytes of the message.
        found_bytes: usize,
    },
}

impl fmt::Display for PaddingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { found_bytes } => {
                write!(
                    f,
                    "the message has {found_bytes} bytes, and the most is {MAX_MESSAGE_BYTES}"
                )
            }
        }
    }
}

impl core::error::Error for PaddingError {}

/// The smallest bucket, in bytes, that holds a message of `message_bytes`.
///
/// # Errors
/// [`PaddingError::TooLarge`] above [`MAX_MESSAGE_BYTES`].
pub fn bucket(message_bytes: usize) -> Result<usize, PaddingError> {
    BUCKETS_BYTES
        .into_iter()
        .find(|bucket| message_bytes <= *bucket)
        .ok_or(PaddingError::TooLarge {
            found_bytes: message_bytes,
        })
}

/// `message` followed by zeros up to its bucket. The unpadded bytes are wiped.
///
/// # Errors
/// [`PaddingError::TooLarge`] above [`MAX_MESSAGE_BYTES`].
pub fn pad(message: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, PaddingError> {
    let size = bucket(message.len())?;
    // A new allocation, because growing the old one could leave an unwiped copy behind.
    let mut padded = Zeroizing::new(Vec::with_capacity(size));
    padded.extend_from_slice(&message);
    padded.resize(size, 0);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_from_one_kib_to_256_kib() {
        assert_eq!(BUCKETS_BYTES[0], 1024);
        assert!(BUCKETS_BYTES.windows(2).all(|pair| pair[1] == 2 * pair[0]));
        assert_eq!(MAX_MESSAGE_BYTES, 262_144);
    }

    #[test]
    fn the_next_bucket_is_taken_only_when_needed() {
        assert_eq!(bucket(0), Ok(1024));
        assert_eq!(bucket(1024), Ok(1024));
        assert_eq!(bucket(1025), Ok(2048));
        assert_eq!(bucket(262_144), Ok(262_144));
        assert_eq!(
            bucket(262_145),
            Err(PaddingError::TooLarge {
                found_bytes: 262_145
            })
        );
    }

    #[test]
    fn padding_is_zeros_behind_the_message() {
        let padded = pad(Zeroizing::new(vec![7; 1500])).unwrap();
        assert_eq!(padded.len(), 2048);
        assert!(padded[..1500].iter().all(|byte| *byte == 7));
        assert!(padded[1500..].iter().all(|byte| *byte == 0));
    }
}
