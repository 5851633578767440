//! RAM that nobody uses yet, in a few ranges.

use super::{PAGE_BYTES, PhysAddr, PhysRange};

/// Most ranges that are kept apart; a range that would be one too many is given up.
pub const RANGES_MAX: usize = 64;

/// Unused RAM: disjoint ranges of whole pages.
#[derive(Clone, Debug)]
pub struct Frames {
    ranges: [PhysRange; RANGES_MAX],
    count: usize,
}

impl Default for Frames {
    fn default() -> Self {
        let none = PhysRange::default();
        Self {
            ranges: [none; RANGES_MAX],
            count: 0,
        }
    }
}

impl Frames {
    /// Adds the whole pages of a range that overlaps none that was added.
    pub fn add(&mut self, range: PhysRange) {
        let range = range.inward(PAGE_BYTES);
        if range.is_empty() {
            return;
        }
        if let Some(place) = self.ranges.get_mut(self.count) {
            *place = range;
            self.count += 1;
        }
    }

    /// Removes everything that overlaps `hole`.
    pub fn exclude(&mut self, hole: PhysRange) {
        let Some(hole) = hole.outward(PAGE_BYTES) else {
            return;
        };
        let before = self.clone();
        self.count = 0;
        for &range in before.ranges() {
            if range.overlaps(hole) {
                self.add_between(range.start(), hole.start());
                self.add_between(hole.end(), range.end());
            } else {
                self.add(range);
            }
        }
    }

    /// Takes `bytes` (rounded up to pages) at a multiple of `alignment` from the smallest range that
    /// has them.
    pub fn take(&mut self, bytes: u64, alignment: u64) -> Option<PhysRange> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE_BYTES)
            .filter(|&bytes| bytes > 0)?;
        let place = |range: &PhysRange| {
            let start = range.start().align_up(alignment.max(PAGE_BYTES))?;
            PhysRange::from_len(start, bytes).filter(|&taken| range.contains(taken))
        };
        let smallest = self
            .ranges()
            .iter()
            .filter(|r| place(r).is_some())
            .min_by_key(|r| r.len())?;
        let taken = place(smallest)?;
        self.exclude(taken);
        Some(taken)
    }

    /// The ranges, in no particular order.
    pub fn ranges(&self) -> &[PhysRange] {
        &self.ranges[..self.count]
    }

    /// All unused bytes.
    pub fn bytes(&self) -> u64 {
        self.ranges().iter().map(|range| range.len()).sum()
    }

    /// Takes everything that is left, the largest range first.
    pub fn drain(mut self) -> impl Iterator<Item = PhysRange> {
        self.ranges[..self.count].sort_unstable_by_key(|range| core::cmp::Reverse(range.len()));
        self.ranges.into_iter().take(self.count)
    }

    fn add_between(&mut self, start: PhysAddr, end: PhysAddr) {
        if let Some(range) = PhysRange::new(start, end) {
            self.add(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
    }

    fn frames(ranges: &[(u64, u64)]) -> Frames {
        let mut frames = Frames::default();
        ranges
            .iter()
            .for_each(|&(start, end)| frames.add(range(start, end)));
        frames
    }

    #[test]
    fn only_whole_pages_count() {
        let frames = frames(&[(0x1001, 0x4fff), (0x5001, 0x5fff)]);
        assert_eq!(frames.ranges(), [range(0x2000, 0x4000)]);
    }

    #[test]
    fn holes_split_and_cut() {
        let mut frames = frames(&[(0x1000, 0x9000)]);
        frames.exclude(range(0x3000, 0x3001));
        assert_eq!(frames.bytes(), 0x7000);
        frames.exclude(range(0, 0x2000));
        frames.exclude(range(0x8000, u64::MAX - 0x1000));
        assert_eq!(frames.bytes(), 0x5000);
        assert!(
            !frames
                .ranges()
                .iter()
                .any(|r| r.overlaps(range(0x3000, 0x4000)))
        );
    }

    #[test]
    fn the_smallest_fitting_range_serves() {
        let mut frames = frames(&[(0x10_0000, 0x90_0000), (0x100_0000, 0x140_0000)]);
        assert_eq!(
            frames.take(0x20_0000, 0x20_0000),
            Some(range(0x100_0000, 0x120_0000))
        );
        assert_eq!(
            frames.take(0x60_0000, 0x20_0000),
            Some(range(0x20_0000, 0x80_0000))
        );
        assert_eq!(frames.take(0x60_0000, 0x20_0000), None);
        assert_eq!(frames.take(0, 1), None);
        assert_eq!(frames.take(u64::MAX, 1), None);
        assert_eq!(frames.bytes(), 0x10_0000 * 2 + 0x20_0000);
    }

    #[test]
    fn drained_ranges_come_largest_first() {
        let frames = frames(&[(0x1000, 0x2000), (0x10_0000, 0x20_0000), (0x4000, 0x9000)]);
        let lengths: Vec<_> = frames.drain().map(|r| r.len()).collect();
        assert_eq!(lengths, [0x10_0000, 0x5000, 0x1000]);
    }

    #[test]
    fn too_many_ranges_are_given_up_not_confused() {
        let mut frames = Frames::default();
        for page in 0..200 {
            frames.add(range(page * 0x4000, page * 0x4000 + 0x1000));
        }
        assert_eq!(frames.ranges().len(), RANGES_MAX);
    }
}
