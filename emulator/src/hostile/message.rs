//! Lies in the responses to guest messages. The security processor is honest: the hypervisor is in between.

use crate::page::Page;

/// A lie about a guest message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageLie {
    /// The second response is the first one again.
    Replayed,
    /// The response page stays empty.
    Absent,
    /// One bit of the ciphertext is flipped.
    Ciphertext,
    /// One authenticated bit of the header is flipped that the guest does not look at.
    Header,
    /// The header names another message type.
    Type,
    /// One bit of the tag is flipped.
    Tag,
    /// The message count is that of a later message.
    Count,
    /// The response is sealed with the key of another guest.
    OtherGuest,
    /// The report has other report data, as if the hypervisor had the key.
    OtherReportData,
    /// The security processor is said to have refused.
    Refused,
    /// The security processor is said to be busy, for ever.
    Busy,
}

/// Offsets in a message (SNP firmware ABI, 8.26).
const COUNT: usize = 0x20;
const MESSAGE_TYPE: usize = 0x34;
const RESERVED: usize = 0x40;
const PAYLOAD: usize = 0x60;

impl MessageLie {
    /// `SW_EXITINFO2` in place of a response.
    pub fn status(self) -> Option<u64> {
        const INVALID_GUEST: u64 = 0x16;
        const BUSY: u64 = 2 << 32;
        match self {
            Self::Refused => Some(INVALID_GUEST),
            Self::Busy => Some(BUSY),
            _ => None,
        }
    }

    /// Changes response number `number`, from 1. `first` is the first one. False if this one passes.
    pub fn tell(self, response: &mut Page, number: u32, first: &Page) -> bool {
        let mut flip = |at: usize| response.bytes_mut()[at] ^= 1;
        match self {
            Self::Replayed if number == 1 => return false,
            Self::Replayed => *response = first.clone(),
            Self::Absent => *response = Page::ZERO,
            Self::Ciphertext => flip(PAYLOAD + 0x40),
            Self::Header => flip(RESERVED),
            Self::Type => flip(MESSAGE_TYPE),
            Self::Tag => flip(0),
            Self::Count => response.set_u64(COUNT, response.u64(COUNT) + 2),
            Self::OtherGuest | Self::OtherReportData | Self::Refused | Self::Busy => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_changes_what_it_says() {
        let mut first = Page::ZERO;
        first.set_u64(COUNT, 2);
        let told = |lie: MessageLie, number| {
            let mut response = Page::ZERO;
            response.set_u64(COUNT, 2 * u64::from(number));
            let told = lie.tell(&mut response, number, &first);
            (told, response)
        };
        assert!(!told(MessageLie::Replayed, 1).0);
        assert_eq!(told(MessageLie::Replayed, 2).1.u64(COUNT), 2);
        assert_eq!(told(MessageLie::Count, 1).1.u64(COUNT), 4);
        for (lie, at) in [
            (MessageLie::Ciphertext, 0xa0),
            (MessageLie::Header, 0x40),
            (MessageLie::Type, 0x34),
            (MessageLie::Tag, 0),
        ] {
            let (told, response) = told(lie, 1);
            let changed = response
                .bytes()
                .iter()
                .zip(first.bytes())
                .filter(|(one, other)| one != other)
                .count();
            assert!(told && changed == 1 && response.bytes()[at] == 1, "{lie:?}");
        }
        assert_eq!(MessageLie::Busy.status(), Some(2 << 32));
        assert!(!told(MessageLie::Busy, 1).0);
    }
}
