//! GUIDs as firmware tables store them.

use std::fmt;

/// A GUID in the EFI byte order: the first three fields little-endian, the rest as written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// The GUID whose text, without the dashes, is this number in hexadecimal.
    pub const fn from_text(text: u128) -> Self {
        Self(swap_fields(text.to_be_bytes()))
    }

    /// The GUID stored as `bytes`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as stored.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Reverses the bytes of the first three fields (4, 2 and 2 bytes); its own inverse.
const fn swap_fields(b: [u8; 16]) -> [u8; 16] {
    [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ]
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:032x}", u128::from_be_bytes(swap_fields(self.0)));
        let (a, rest) = text.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree_with_the_footer_of_ovmf() {
        let footer = Guid::from_text(0x96b582de_1fb2_45f7_baea_a366c55a082d);
        let stored = [
            0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a,
            0x08, 0x2d,
        ];
        assert_eq!(footer.to_bytes(), stored);
        assert_eq!(footer.to_string(), "96b582de-1fb2-45f7-baea-a366c55a082d");
        assert_eq!(Guid::from_bytes(stored), footer);
    }
}
