//! Addresses as types of their own, so that a physical one is never taken for a virtual one.

use core::fmt;

/// Bytes in a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a large page (one page-directory entry).
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Bytes in a huge page (one page-directory-pointer entry).
pub const HUGE_PAGE_BYTES: u64 = 1 << 30;
/// First address that x86-64 cannot give to a physical byte (52 address bits).
pub const PHYS_LIMIT: u64 = 1 << 52;

macro_rules! address_type {
    ($name:ident, $what:literal) => {
        #[doc = concat!("A ", $what, " address.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a number; whoever uses the address checks that it is one it may use.
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The address as a number.
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The address `bytes` higher, or `None` if that wraps around.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The nearest multiple of `alignment` (a power of two) that is not above the address.
            pub const fn align_down(self, alignment: u64) -> Self {
                Self(self.0 & !(alignment - 1))
            }

            /// The nearest multiple of `alignment` (a power of two) that is not below the address,
            /// or `None` if that wraps around.
            pub const fn align_up(self, alignment: u64) -> Option<Self> {
                match self.0.checked_add(alignment - 1) {
                    Some(sum) => Some(Self(sum & !(alignment - 1))),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `alignment` (a power of two).
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.0 & (alignment - 1) == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address_type!(PhysAddr, "physical");
address_type!(VirtAddr, "virtual");

/// A half-open range of physical memory, never wrapping.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct PhysRange {
    start: PhysAddr,
    end: PhysAddr,
}

impl PhysRange {
    /// The range from `start` up to, not including, `end`; `None` if `end` is below `start`.
    pub const fn new(start: PhysAddr, end: PhysAddr) -> Option<Self> {
        if end.0 < start.0 {
            return None;
        }
        Some(Self { start, end })
    }

    /// The `bytes` from `start`; `None` if that wraps around.
    pub const fn from_len(start: PhysAddr, bytes: u64) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// First address.
    pub const fn start(self) -> PhysAddr {
        self.start
    }

    /// First address behind the range.
    pub const fn end(self) -> PhysAddr {
        self.end
    }

    /// Length in bytes. Zero for a range whose bytes came from elsewhere and are no range.
    pub const fn len(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether all of `other` lies inside.
    pub const fn contains(self, other: Self) -> bool {
        other.start.0 >= self.start.0 && other.end.0 <= self.end.0
    }

    /// Whether the two ranges have a byte in common.
    pub const fn overlaps(self, other: Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.start.0 < other.end.0
            && other.start.0 < self.end.0
    }

    /// Whether both ends are multiples of `alignment` (a power of two).
    pub const fn is_aligned(self, alignment: u64) -> bool {
        self.start.is_aligned(alignment) && self.end.is_aligned(alignment)
    }

    /// The smallest range of whole pages around this one; `None` if that wraps around.
    pub const fn outward(self, alignment: u64) -> Option<Self> {
        match self.end.align_up(alignment) {
            Some(end) => Some(Self {
                start: self.start.align_down(alignment),
                end,
            }),
            None => None,
        }
    }

    /// The largest range of whole pages inside this one (it may be empty).
    pub const fn inward(self, alignment: u64) -> Self {
        let end = self.end.align_down(alignment);
        match self.start.align_up(alignment) {
            Some(start) if start.0 <= end.0 => Self { start, end },
            _ => Self {
                start: self.start,
                end: self.start,
            },
        }
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
    }

    #[test]
    fn ranges_never_wrap() {
        assert!(PhysRange::new(PhysAddr::new(2), PhysAddr::new(1)).is_none());
        assert!(PhysRange::from_len(PhysAddr::new(u64::MAX), 2).is_none());
        assert!(range(1, u64::MAX).outward(PAGE_BYTES).is_none());
    }

    #[test]
    fn empty_ranges_overlap_nothing() {
        assert!(!range(5, 5).overlaps(range(0, 10)));
        assert!(range(5, 6).overlaps(range(0, 10)));
        assert!(!range(0, 5).overlaps(range(5, 10)));
    }

    #[test]
    fn inward_and_outward_are_whole_pages() {
        assert_eq!(range(1, 0x2fff).inward(PAGE_BYTES), range(0x1000, 0x2000));
        assert_eq!(range(1, 0x2fff).outward(PAGE_BYTES), Some(range(0, 0x3000)));
        assert!(range(1, 0xfff).inward(PAGE_BYTES).is_empty());
    }
}
