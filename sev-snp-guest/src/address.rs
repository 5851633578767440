//! Guest physical pages, by frame number.

use core::fmt;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// 4 KiB pages in a 2 MiB page.
pub const LARGE_PAGE_FRAMES: u64 = 512;
/// Frame numbers have 40 bits: guest physical addresses have at most 52.
const FRAME_LIMIT: u64 = 1 << 40;

/// The size of a page in the RMP and in a page state change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB; the first frame is a multiple of 512.
    Size2M,
}

impl PageSize {
    /// How many 4 KiB frames the page has.
    pub const fn frames(self) -> u64 {
        match self {
            Self::Size4K => 1,
            Self::Size2M => LARGE_PAGE_FRAMES,
        }
    }
}

/// A guest frame number: the guest physical address of a 4 KiB page without its low 12 bits, and without C-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gfn(u64);

impl Gfn {
    /// A frame by its number; `None` beyond 40 bits.
    pub const fn new(number: u64) -> Option<Self> {
        if number < FRAME_LIMIT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The frame at a guest physical address; `None` if that is not the first byte of a page, or beyond 52 bits.
    pub const fn at(address: u64) -> Option<Self> {
        if address.is_multiple_of(PAGE_BYTES as u64) {
            Self::new(address >> 12)
        } else {
            None
        }
    }

    /// The frame number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The guest physical address of the first byte.
    pub const fn address(self) -> u64 {
        self.0 << 12
    }

    /// Whether a 2 MiB page can begin here.
    pub const fn is_large_aligned(self) -> bool {
        self.0.is_multiple_of(LARGE_PAGE_FRAMES)
    }
}

impl fmt::Display for Gfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address())
    }
}

/// Consecutive frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    start: u64,
    end: u64,
}

impl FrameRange {
    /// `frames` frames from `first` on; `None` if the last has more than 40 bits.
    pub const fn new(first: Gfn, frames: u64) -> Option<Self> {
        match first.0.checked_add(frames) {
            Some(end) if end <= FRAME_LIMIT => Some(Self {
                start: first.0,
                end,
            }),
            _ => None,
        }
    }

    /// How many frames there are.
    pub const fn frames(self) -> u64 {
        self.end - self.start
    }

    /// The pages that make up the range, as large as alignment allows.
    pub fn pages(self) -> impl Iterator<Item = (Gfn, PageSize)> {
        let mut next = self.start;
        core::iter::from_fn(move || {
            if next >= self.end {
                return None;
            }
            let page = Gfn(next);
            let large = page.is_large_aligned() && self.end - next >= LARGE_PAGE_FRAMES;
            let size = if large {
                PageSize::Size2M
            } else {
                PageSize::Size4K
            };
            next += size.frames();
            Some((page, size))
        })
    }
}

/// The 4 KiB pages of a page.
pub(crate) fn small_pages(page: Gfn, size: PageSize) -> impl Iterator<Item = Gfn> {
    (page.0..page.0 + size.frames()).map(Gfn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn only_whole_pages_of_52_bit_addresses_have_a_frame() {
        assert_eq!(Gfn::at(0x1000).map(Gfn::number), Some(1));
        assert_eq!(Gfn::at(0x1001), None);
        assert_eq!(
            Gfn::at((1 << 52) - 0x1000).map(Gfn::number),
            Some((1 << 40) - 1)
        );
        assert_eq!(Gfn::at(1 << 52), None);
    }

    #[test]
    fn a_range_stays_within_40_bits() {
        let last = Gfn::new((1 << 40) - 1).unwrap();
        assert!(FrameRange::new(last, 1).is_some());
        assert!(FrameRange::new(last, 2).is_none());
        assert!(FrameRange::new(last, u64::MAX).is_none());
    }

    #[test]
    fn pages_are_as_large_as_alignment_allows() {
        let range = FrameRange::new(Gfn::new(510).unwrap(), 2 + 512 + 3).unwrap();
        let pages: Vec<_> = range
            .pages()
            .map(|(page, size)| (page.number(), size.frames()))
            .collect();
        let expected = [
            (510, 1),
            (511, 1),
            (512, 512),
            (1024, 1),
            (1025, 1),
            (1026, 1),
        ];
        assert_eq!(pages, expected);
    }
}
