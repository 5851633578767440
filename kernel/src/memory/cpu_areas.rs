//! Memory that belongs to one processor each: three stacks, each with an unmapped page below it, and two pages for what
//! the platform needs to start it. The first processor's stacks are part of the kernel's image instead.

use super::frames::Frames;
use super::{PAGE_BYTES, PhysAddr, PhysRange};
use spin::Once;

/// Bytes of the stack that work is done on. The engine's inner loops take a few KiB of it.
const WORK_STACK_BYTES: u64 = 64 << 10;
/// Bytes of each stack for exceptions.
const EXCEPTION_STACK_BYTES: u64 = 32 << 10;
/// Bytes of the pages for the platform.
const PLATFORM_BYTES: u64 = 2 * PAGE_BYTES;
/// Lengths of the mapped parts; an unmapped page lies below each.
const PARTS: [u64; 4] = [
    WORK_STACK_BYTES,
    EXCEPTION_STACK_BYTES,
    EXCEPTION_STACK_BYTES,
    PLATFORM_BYTES,
];
/// Bytes of one processor's area.
const AREA_BYTES: u64 = PARTS[0] + PARTS[1] + PARTS[2] + PARTS[3] + 4 * PAGE_BYTES;

static AREAS: Once<CpuAreas> = Once::new();

/// Areas of all processors but the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuAreas {
    all: PhysRange,
}

impl CpuAreas {
    /// Takes unused RAM for so many processors; `None` if there is not enough in one piece.
    pub fn take(frames: &mut Frames, processors: u32) -> Option<Self> {
        if processors == 0 {
            return Some(Self::default());
        }
        let all = frames.take(AREA_BYTES * u64::from(processors), PAGE_BYTES)?;
        Some(Self { all })
    }

    /// Everything that is to be mapped.
    pub fn parts(self) -> impl Iterator<Item = PhysRange> {
        (1..=self.count())
            .flat_map(move |number| self.of(number).into_iter().flat_map(CpuArea::parts))
    }

    fn count(self) -> u32 {
        (self.all.len() / AREA_BYTES) as u32
    }

    fn of(self, number: u32) -> Option<CpuArea> {
        let offset = u64::from(number.checked_sub(1)?) * AREA_BYTES;
        let start = self.all.start().checked_add(offset)?;
        let range = PhysRange::from_len(start, AREA_BYTES)?;
        (!self.all.is_empty() && self.all.contains(range)).then_some(CpuArea { start })
    }

    fn owner(self, address: PhysAddr) -> Option<u32> {
        let offset = address.as_u64().checked_sub(self.all.start().as_u64())?;
        (offset < self.all.len()).then_some((offset / AREA_BYTES) as u32 + 1)
    }
}

/// The area of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuArea {
    start: PhysAddr,
}

impl CpuArea {
    /// The stack that everything but exceptions runs on.
    pub fn work_stack(self) -> PhysRange {
        self.part(0)
    }

    /// The stack of exceptions.
    pub fn exception_stack(self) -> PhysRange {
        self.part(1)
    }

    /// The stack of the double fault.
    pub fn double_fault_stack(self) -> PhysRange {
        self.part(2)
    }

    /// Two pages for the platform.
    pub fn platform_pages(self) -> PhysRange {
        self.part(3)
    }

    fn parts(self) -> impl Iterator<Item = PhysRange> {
        (0..PARTS.len()).map(move |index| self.part(index))
    }

    fn part(self, index: usize) -> PhysRange {
        let before: u64 = PARTS[..index].iter().sum();
        let guards = (index as u64 + 1) * PAGE_BYTES;
        let start = PhysAddr::new(self.start.as_u64() + before + guards);
        PhysRange::from_len(start, PARTS[index]).expect("the area lies in RAM")
    }
}

/// Makes the areas known, once.
pub fn install(areas: CpuAreas) {
    AREAS.call_once(|| areas);
}

/// The area of processor `number`; `None` for the first one, 0, and those that the machine does not have.
pub fn of(number: u32) -> Option<CpuArea> {
    AREAS.get()?.of(number)
}

/// The processor in whose area `address` lies; 0, the first one, if in none.
pub fn owner(address: PhysAddr) -> u32 {
    AREAS
        .get()
        .and_then(|areas| areas.owner(address))
        .unwrap_or(0)
}

/// Whether `address` lies in the unmapped page below one of these stacks.
pub fn is_guard(address: PhysAddr) -> bool {
    let area = of(owner(address));
    area.is_some_and(|area| {
        let byte = PhysRange::from_len(address, 1);
        byte.is_some_and(|byte| !area.parts().any(|part| part.contains(byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_has_its_own_parts_with_a_gap_below_each() {
        let mut frames = Frames::default();
        frames.add(PhysRange::from_len(PhysAddr::new(0x20_0000), 1 << 20).unwrap());
        let areas = CpuAreas::take(&mut frames, 3).unwrap();
        let parts: std::vec::Vec<_> = areas.parts().collect();
        assert_eq!(parts.len(), 3 * PARTS.len());
        for pair in parts.windows(2) {
            let gap = pair[1].start().as_u64() - pair[0].end().as_u64();
            assert_eq!(gap, PAGE_BYTES);
        }
        assert_eq!(
            parts[0].start().as_u64(),
            areas.all.start().as_u64() + PAGE_BYTES
        );
        assert_eq!(parts.last().unwrap().end(), areas.all.end());
        assert!(frames.ranges().iter().all(|left| !left.overlaps(areas.all)));
        for (index, part) in parts.iter().enumerate() {
            assert!(part.is_aligned(PAGE_BYTES));
            let number = (index / PARTS.len()) as u32 + 1;
            assert_eq!(areas.owner(part.start()), Some(number));
            let below = PhysAddr::new(part.start().as_u64() - 1);
            assert_eq!(
                areas.owner(below),
                Some(number),
                "the guard is the same processor's"
            );
        }
        assert_eq!(areas.of(0), None);
        assert_eq!(areas.of(4), None);
        assert_eq!(areas.owner(areas.all.end()), None);
    }

    #[test]
    fn a_machine_with_one_processor_needs_nothing() {
        let areas = CpuAreas::take(&mut Frames::default(), 0).unwrap();
        assert_eq!(areas.parts().count(), 0);
        assert_eq!((areas.of(1), areas.owner(PhysAddr::new(0))), (None, None));
        assert!(CpuAreas::take(&mut Frames::default(), 1).is_none());
    }
}
