//! A bounds-checked cursor over received bytes, and the integers that the formats share.

use alloc::vec::Vec;

/// The largest value of a variable-length integer (RFC 9000, section 16).
pub(crate) const MAX_VARINT: u64 = (1 << 62) - 1;

/// Reads from the front of a byte string; `None` means that it ended too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    /// The next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// A big-endian 16-bit integer.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A variable-length integer of RFC 9000, section 16. Longer forms than needed are allowed there, and so here.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let first = *self.rest.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let value = bytes
            .iter()
            .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
        let value_bits = bytes.len() as u32 * 8 - 2;
        Some(value & ((1 << value_bits) - 1))
    }

    /// A length in the form of a variable-length integer, and as many bytes as it says.
    pub(crate) fn prefixed(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}

/// Appends `value` in the shortest form of RFC 9000, section 16.
///
/// # Panics
/// When `value` is above [`MAX_VARINT`]; every caller passes a length or a status code.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        0x4000_0000..=MAX_VARINT => {
            out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes())
        }
        _ => panic!("a length or status code is below 2^62"),
    }
}

/// Appends `bytes` behind their length.
pub(crate) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    /// The examples of RFC 9000, appendix A.1.
    #[test]
    fn reads_the_examples_of_the_specification() {
        for (encoded, value) in [
            ("c2197c5eff14e88c", 151_288_809_941_952_652_u64),
            ("9d7f3e7d", 494_878_333),
            ("7bbd", 15_293),
            ("25", 37),
            ("4025", 37),
        ] {
            let bytes = hex(encoded);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Some(value), "{encoded}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn writes_the_shortest_form_at_every_boundary() {
        for (value, length) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            ((1 << 30) - 1, 4),
            (1 << 30, 8),
            (MAX_VARINT, 8),
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), length, "{value}");
            assert_eq!(Reader::new(&bytes).varint(), Some(value));
            assert_eq!(Reader::new(&bytes[..length - 1]).varint(), None);
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Reader::new(&[3, 1, 2]).prefixed(), None);
        assert_eq!(Reader::new(&[0xff; 8]).prefixed(), None);
        assert_eq!(Reader::new(&[2, 1, 2]).prefixed(), Some(&[1, 2][..]));
    }
}
