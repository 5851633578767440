//! The reverse map table: what the hardware remembers of every page (AMD64 manual, volume 2, 15.36.3).
//!
//! Host and guest addresses stand in a fixed relation here, so an entry needs no address: it says
//! whether the page is assigned to the guest, whether the guest has validated it, and its size.
//!
//! A page that nobody has used or asked for is undecided: KVM and QEMU let its first use decide
//! (a private use assigns it, a shared one shares it), and firmware relies on that.

use crate::memory_map::MemoryMap;
use crate::page::{LARGE_PAGE_BYTES, PAGE_BYTES, PAGES_PER_LARGE};

/// One page's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(u8);

impl Entry {
    const ASSIGNED: u8 = 1;
    const VALIDATED: u8 = 2;
    const LARGE: u8 = 4;
    const VMSA: u8 = 8;
    const UNDECIDED: u8 = 16;

    /// The first use decides whether the page is private.
    pub fn is_undecided(self) -> bool {
        self.0 & Self::UNDECIDED != 0
    }

    /// The page is shared with the hypervisor.
    pub fn is_shared(self) -> bool {
        !self.is_assigned() && !self.is_undecided()
    }

    /// The page is private to the guest.
    pub fn is_assigned(self) -> bool {
        self.0 & Self::ASSIGNED != 0
    }

    /// The guest has accepted the page.
    pub fn is_validated(self) -> bool {
        self.0 & Self::VALIDATED != 0
    }

    /// The page belongs to an entry of 2 MiB.
    pub fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }

    /// The page holds a CPU's state.
    pub fn is_vmsa(self) -> bool {
        self.0 & Self::VMSA != 0
    }
}

/// What may be wrong with an address and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RmpError {
    /// There is no memory, or the address is not aligned to the size: `FAIL_INPUT`.
    NoMemory,
    /// The page is shared, so the instruction would fault to the hypervisor.
    NotAssigned,
    /// 2 MiB were asked for and the entry is of 4 KiB: `FAIL_SIZEMISMATCH`.
    SizeMismatch,
    /// The page holds a CPU's state already, or none: `FAIL_PERMISSION`.
    Permission,
}

/// Size of a page in an instruction or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
}

impl Size {
    /// Bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Small => PAGE_BYTES,
            Self::Large => LARGE_PAGE_BYTES,
        }
    }

    fn pages(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Large => PAGES_PER_LARGE as usize,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Rmp<'a> {
    map: MemoryMap,
    entries: &'a mut [Entry],
}

impl<'a> Rmp<'a> {
    /// A table in which every page is undecided. `None` if there are fewer entries than pages.
    pub fn new(map: MemoryMap, entries: &'a mut [Entry]) -> Option<Self> {
        let entries = entries.get_mut(..map.pages())?;
        entries.fill(Entry(Entry::UNDECIDED));
        let mut rmp = Self { map, entries };
        for base in (0..map.ram_bytes()).step_by(LARGE_PAGE_BYTES as usize) {
            let large = rmp.range(base, Size::Large);
            large
                .into_iter()
                .flatten()
                .for_each(|entry| entry.0 |= Entry::LARGE);
        }
        Some(rmp)
    }

    /// The entry of the page at an address.
    pub fn entry(&self, gpa: u64) -> Option<Entry> {
        self.entries.get(self.map.index(gpa)?).copied()
    }

    /// RMPUPDATE by the hypervisor: the page becomes private and has to be validated again.
    pub fn assign(&mut self, gpa: u64, size: Size) -> Result<(), RmpError> {
        let large = if size == Size::Large { Entry::LARGE } else { 0 };
        self.smash(gpa);
        self.range(gpa, size)?.fill(Entry(Entry::ASSIGNED | large));
        Ok(())
    }

    /// RMPUPDATE by the hypervisor: the page becomes shared.
    pub fn share(&mut self, gpa: u64, size: Size) -> Result<(), RmpError> {
        if size == Size::Small {
            self.smash(gpa);
        }
        self.range(gpa, size)?.fill(Entry::default());
        Ok(())
    }

    /// PSMASH: an entry of 2 MiB becomes 512 of 4 KiB with the same state.
    pub fn smash(&mut self, gpa: u64) {
        let base = gpa & !(LARGE_PAGE_BYTES - 1);
        if self.entry(gpa).is_some_and(Entry::is_large) {
            let pages = self.range(base, Size::Large);
            pages
                .into_iter()
                .flatten()
                .for_each(|entry| entry.0 &= !Entry::LARGE);
        }
    }

    /// PVALIDATE by the guest. Says whether the state changed: if not, the carry flag is set.
    ///
    /// A small page in a large entry makes the hypervisor smash the entry, as Linux does.
    pub fn validate(&mut self, gpa: u64, size: Size, validated: bool) -> Result<bool, RmpError> {
        let entry = self.entry(gpa).ok_or(RmpError::NoMemory)?;
        if entry.is_shared() {
            return Err(RmpError::NotAssigned);
        }
        match (size, entry.is_large()) {
            (Size::Large, false) => return Err(RmpError::SizeMismatch),
            (Size::Small, true) => self.smash(gpa),
            _ => (),
        }
        if entry.is_undecided() {
            self.assign(gpa, size)?;
        }
        let bit = if validated { Entry::VALIDATED } else { 0 };
        let mut changed = false;
        for entry in self.range(gpa, size)? {
            changed |= entry.is_validated() != validated;
            entry.0 = entry.0 & !Entry::VALIDATED | bit;
        }
        Ok(changed)
    }

    /// RMPADJUST by the guest: whether the page holds a CPU's state.
    pub fn set_vmsa(&mut self, gpa: u64, vmsa: bool) -> Result<(), RmpError> {
        let entry = self.entry(gpa).ok_or(RmpError::NoMemory)?;
        if !entry.is_assigned() || !entry.is_validated() {
            return Err(RmpError::NotAssigned);
        }
        self.smash(gpa);
        let bit = if vmsa { Entry::VMSA } else { 0 };
        for entry in self.range(gpa, Size::Small)? {
            entry.0 = entry.0 & !Entry::VMSA | bit;
        }
        Ok(())
    }

    /// Whether all 512 pages around an address can be mapped as one private page.
    pub fn is_large_private(&self, gpa: u64) -> bool {
        let base = gpa & !(LARGE_PAGE_BYTES - 1);
        self.is_uniform(base, |entry| {
            entry.is_assigned() && entry.is_validated() && !entry.is_vmsa()
        })
    }

    /// Whether all 512 pages around an address are shared.
    pub fn is_large_shared(&self, gpa: u64) -> bool {
        let base = gpa & !(LARGE_PAGE_BYTES - 1);
        self.is_uniform(base, Entry::is_shared)
    }

    fn is_uniform(&self, base: u64, test: impl Fn(Entry) -> bool) -> bool {
        let Some(last) = base.checked_add(LARGE_PAGE_BYTES - 1) else {
            return false;
        };
        match (self.map.index(base), self.map.index(last)) {
            (Some(first), Some(end)) if end - first == PAGES_PER_LARGE as usize - 1 => {
                self.entries[first..=end].iter().all(|entry| test(*entry))
            }
            _ => false,
        }
    }

    fn range(&mut self, gpa: u64, size: Size) -> Result<&mut [Entry], RmpError> {
        let last = gpa + size.bytes() - 1;
        let (first, last) = (self.map.index(gpa), self.map.index(last));
        match (first, last) {
            (Some(first), Some(last))
                if gpa.is_multiple_of(size.bytes()) && last - first == size.pages() - 1 =>
            {
                Ok(&mut self.entries[first..=last])
            }
            _ => Err(RmpError::NoMemory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_rmp(test: impl FnOnce(&mut Rmp<'_>)) {
        let map = MemoryMap::new(8 << 20, 0x1_0000, 0).expect("a good map");
        let mut entries = vec![Entry::default(); map.pages()];
        let mut rmp = Rmp::new(map, &mut entries).expect("enough entries");
        test(&mut rmp);
    }

    #[test]
    fn a_second_validation_changes_nothing_and_says_so() {
        with_rmp(|rmp| {
            assert_eq!(rmp.validate(0x20_0000, Size::Large, true), Ok(true));
            assert_eq!(rmp.validate(0x20_0000, Size::Large, true), Ok(false));
            assert!(rmp.is_large_private(0x2f_f000));
            // A small page smashes the entry; then it is no large one any more.
            assert_eq!(rmp.validate(0x20_1000, Size::Small, false), Ok(true));
            assert!(!rmp.is_large_private(0x20_0000));
            let mismatch = rmp.validate(0x20_0000, Size::Large, false);
            assert_eq!(mismatch, Err(RmpError::SizeMismatch));
        });
    }

    #[test]
    fn a_page_that_was_shared_must_be_validated_again() {
        with_rmp(|rmp| {
            assert_eq!(rmp.validate(0x40_3000, Size::Small, true), Ok(true));
            assert_eq!(rmp.share(0x40_3000, Size::Small), Ok(()));
            let refused = rmp.validate(0x40_3000, Size::Small, true);
            assert_eq!(refused, Err(RmpError::NotAssigned));
            assert_eq!(rmp.assign(0x40_3000, Size::Small), Ok(()));
            let entry = rmp.entry(0x40_3000).expect("memory");
            assert!(entry.is_assigned() && !entry.is_validated());
            // Its neighbours are not shared.
            assert!(!rmp.entry(0x40_4000).is_some_and(Entry::is_shared));
        });
    }

    #[test]
    fn the_first_use_of_a_page_decides_about_it_alone() {
        with_rmp(|rmp| {
            assert!(rmp.entry(0x20_0000).is_some_and(Entry::is_undecided));
            assert_eq!(rmp.share(0x20_1000, Size::Small), Ok(()));
            assert!(rmp.entry(0x20_1000).is_some_and(Entry::is_shared));
            assert!(rmp.entry(0x20_0000).is_some_and(Entry::is_undecided));
            assert_eq!(rmp.validate(0x20_2000, Size::Small, true), Ok(true));
            let mismatch = rmp.validate(0x20_0000, Size::Large, true);
            assert_eq!(mismatch, Err(RmpError::SizeMismatch));
        });
    }

    #[test]
    fn where_there_is_no_memory_there_is_no_entry() {
        with_rmp(|rmp| {
            assert_eq!(
                rmp.validate(1 << 30, Size::Small, true),
                Err(RmpError::NoMemory)
            );
            assert_eq!(rmp.assign(0x1000, Size::Large), Err(RmpError::NoMemory));
            assert_eq!(rmp.entry(0xa_0000), None);
            assert_eq!(rmp.share(0x8000_0000, Size::Large), Err(RmpError::NoMemory));
        });
    }
}
