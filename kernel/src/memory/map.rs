//! The machine's RAM, from the host's table `etc/e820`, which may say anything.
//!
//! Format: entries of 20 bytes, little-endian: base `u64`, length `u64`, type `u32`; type 1 is RAM.

use super::frames::Frames;
use super::{DEVICE_WINDOW, PhysAddr, PhysRange};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 20;
/// Most entries that are read.
pub const ENTRIES_MAX: usize = 128;
const TYPE_RAM: u32 = 1;

/// RAM below this address is left alone: the null page, and what belongs to a PC's past.
const USABLE_START: PhysAddr = PhysAddr::new(2 << 20);
/// From the device window up to 4 GiB there are devices and the ROM, never RAM.
const NOT_RAM: PhysRange = match PhysRange::new(DEVICE_WINDOW.start(), PhysAddr::new(1 << 32)) {
    Some(range) => range,
    None => panic!("the window lies below 4 GiB"),
};
/// First address that the page tables cannot reach.
const MAP_LIMIT: u64 = 1 << 47;

/// What the machine has.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// RAM that the guest may use, apart from what it occupies already.
    pub frames: Frames,
    /// All RAM in bytes, used or not.
    pub ram_bytes: u64,
}

/// Why a table is refused. The numbers are those of the entries, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The length is no multiple of an entry's.
    Length(usize),
    /// More than [`ENTRIES_MAX`] entries.
    TooMany(usize),
    /// No entry is RAM.
    NoRam,
    /// The entry is empty.
    EmptyEntry(usize),
    /// The entry ends beyond the addresses that exist.
    WrapAround(usize),
    /// Two entries share memory.
    Overlap(usize, usize),
    /// The entry puts RAM where devices or the ROM are.
    RamOverDevices(usize),
    /// The guest runs in memory that the table does not call RAM.
    OccupiedIsNotRam(PhysRange),
}

impl MemoryMap {
    /// Reads a table. `occupied` is what the guest uses already.
    pub fn parse(bytes: &[u8], occupied: &[PhysRange]) -> Result<Self, MapError> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(MapError::Length(bytes.len()));
        }
        let count = bytes.len() / ENTRY_BYTES;
        if count > ENTRIES_MAX {
            return Err(MapError::TooMany(count));
        }
        let mut entries = [Entry::default(); ENTRIES_MAX];
        for (index, bytes) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
            entries[index] = Entry::parse(index, bytes)?;
        }
        let entries = &mut entries[..count];
        entries.sort_unstable_by_key(|entry| entry.range.start());
        for pair in entries.windows(2) {
            if pair[0].range.overlaps(pair[1].range) {
                let (a, b) = (pair[0].index, pair[1].index);
                return Err(MapError::Overlap(a.min(b), a.max(b)));
            }
        }
        let ram = Ram::collect(entries);
        ram.into_map(occupied)
    }
}

#[derive(Clone, Copy, Default)]
struct Entry {
    index: usize,
    range: PhysRange,
    is_ram: bool,
}

impl Entry {
    fn parse(index: usize, bytes: &[u8]) -> Result<Self, MapError> {
        let word = |at: usize| {
            let bytes: [u8; 8] = bytes[at..at + 8].try_into().expect("8 of 20 bytes");
            u64::from_le_bytes(bytes)
        };
        let kind: [u8; 4] = bytes[16..].try_into().expect("the last 4 of 20 bytes");
        let is_ram = u32::from_le_bytes(kind) == TYPE_RAM;
        let range = PhysRange::from_len(PhysAddr::new(word(0)), word(8))
            .filter(|range| range.end().as_u64() <= cloister_boot::address::PHYS_LIMIT)
            .ok_or(MapError::WrapAround(index))?;
        if range.is_empty() {
            return Err(MapError::EmptyEntry(index));
        }
        if is_ram && range.overlaps(NOT_RAM) {
            return Err(MapError::RamOverDevices(index));
        }
        if is_ram && range.end().as_u64() > MAP_LIMIT {
            return Err(MapError::WrapAround(index));
        }
        Ok(Self {
            index,
            range,
            is_ram,
        })
    }
}

/// RAM ranges in ascending order, neighbours joined.
struct Ram {
    ranges: [PhysRange; ENTRIES_MAX],
    count: usize,
}

impl Ram {
    fn collect(sorted: &[Entry]) -> Self {
        let mut ram = Self {
            ranges: [PhysRange::default(); ENTRIES_MAX],
            count: 0,
        };
        for entry in sorted.iter().filter(|entry| entry.is_ram) {
            let joined = ram.ranges[..ram.count]
                .last()
                .filter(|last| last.end() == entry.range.start())
                .and_then(|last| PhysRange::new(last.start(), entry.range.end()));
            match joined {
                Some(joined) => ram.ranges[ram.count - 1] = joined,
                None => {
                    ram.ranges[ram.count] = entry.range;
                    ram.count += 1;
                }
            }
        }
        ram
    }

    fn into_map(self, occupied: &[PhysRange]) -> Result<MemoryMap, MapError> {
        let ranges = &self.ranges[..self.count];
        if ranges.is_empty() {
            return Err(MapError::NoRam);
        }
        for &used in occupied {
            if !ranges.iter().any(|range| range.contains(used)) {
                return Err(MapError::OccupiedIsNotRam(used));
            }
        }
        let mut frames = Frames::default();
        for range in ranges {
            let start = range.start().max(USABLE_START);
            if let Some(usable) = PhysRange::new(start, range.end()) {
                frames.add(usable);
            }
        }
        for &used in occupied {
            frames.exclude(used);
        }
        Ok(MemoryMap {
            frames,
            ram_bytes: ranges.iter().map(|range| range.len()).sum(),
        })
    }
}

#[cfg(test)]
mod tests;
