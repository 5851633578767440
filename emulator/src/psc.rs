//! Page state changes (GHCB specification, 4.1.6): the list in the GHCB's shared buffer.

use crate::rmp::Size;

/// Bytes before the entries: current entry, last entry, reserved.
pub const HEADER_BYTES: usize = 8;
/// Entries that the shared buffer has room for.
pub const MAX_ENTRIES: u16 = 253;
/// The answer when the header makes no sense, in `SW_EXITINFO2`.
pub const BAD_HEADER: u64 = 1 << 32 | 1;
/// The answer when an entry makes no sense.
pub const BAD_ENTRY: u64 = 1 << 32 | 2;

/// What shall become of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Private, to be validated by the guest.
    Private,
    /// Shared.
    Shared,
    /// One entry of 2 MiB becomes 512 of 4 KiB.
    Smash,
    /// The reverse. Only a hint.
    Unsmash,
}

impl Operation {
    /// Decodes the four bits of an entry or of the MSR protocol.
    pub fn decode(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::Private),
            2 => Some(Self::Shared),
            3 => Some(Self::Smash),
            4 => Some(Self::Unsmash),
            _ => None,
        }
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest-physical address.
    pub gpa: u64,
    /// What to do.
    pub operation: Operation,
    /// With which size.
    pub size: Size,
}

impl Entry {
    /// Decodes an entry. One that is partly done (current page not 0) is not supported.
    pub fn decode(entry: u64) -> Option<Self> {
        let size = if entry >> 56 & 1 == 0 {
            Size::Small
        } else {
            Size::Large
        };
        let operation = Operation::decode((entry >> 52) as u8 & 15)?;
        (entry & 0xfff == 0).then_some(Self {
            gpa: entry & 0x000f_ffff_ffff_f000,
            operation,
            size,
        })
    }
}

/// Marks an entry as done.
pub fn done(entry: u64, size: Size) -> u64 {
    entry & !0xfff | (size.bytes() / 4096).min(0xfff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_page_operation_and_size() {
        let entry = Entry::decode(1 << 56 | 2 << 52 | 0x20_0000);
        let wanted = Entry {
            gpa: 0x20_0000,
            operation: Operation::Shared,
            size: Size::Large,
        };
        assert_eq!(entry, Some(wanted));
        assert_eq!(Entry::decode(0x20_0000), None);
        assert_eq!(done(1 << 52 | 0x3000, Size::Large) & 0xfff, 512);
    }
}
