//! Nested page tables of five levels, filled on demand.
//!
//! Bit 51 of a guest-physical address, the C-bit, is bit 3 of the uppermost table's index: private
//! and shared accesses go through two trees. A second root, for CPUs with paging off, has the
//! private tree at both places, because the hardware takes such accesses as private.

use crate::page::{ADDRESS_MASK, C_BIT, LARGE_PAGE_BYTES, PAGE_BYTES};

const ENTRIES: u64 = 512;
const PRESENT_WRITE_USER: u64 = 7;
const LARGE: u64 = 1 << 7;
/// Shift of the address bits that index a table of levels 5 to 1.
const SHIFTS: [u32; 5] = [48, 39, 30, 21, 12];
const LARGE_LEVEL: usize = 3;
const SMALL_LEVEL: usize = 4;

/// Where the tables lie.
pub trait TableMemory {
    /// A page of zeros, by its host-physical address.
    fn allocate(&mut self) -> Option<u64>;
    /// The entry at a host-physical address.
    fn read(&self, address: u64) -> u64;
    /// Writes an entry.
    fn write(&mut self, address: u64, entry: u64);
}

/// Which tree an access goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// C-bit 1.
    Private,
    /// C-bit 0.
    Shared,
}

/// No page is left for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// The tables.
#[derive(Debug)]
pub struct NestedTables<M> {
    memory: M,
    root: u64,
    unpaged_root: u64,
}

impl<M: TableMemory> NestedTables<M> {
    /// Empty tables.
    pub fn new(mut memory: M) -> Result<Self, OutOfTables> {
        let mut allocate = || memory.allocate().ok_or(OutOfTables);
        let (root, unpaged_root, private) = (allocate()?, allocate()?, allocate()?);
        let private_slot = (C_BIT >> SHIFTS[0]) * 8;
        for slot in [
            root + private_slot,
            unpaged_root + private_slot,
            unpaged_root,
        ] {
            memory.write(slot, private | PRESENT_WRITE_USER);
        }
        Ok(Self {
            memory,
            root,
            unpaged_root,
        })
    }

    /// Value of `N_CR3` for a CPU with paging on or off.
    pub fn root(&self, paging: bool) -> u64 {
        if paging { self.root } else { self.unpaged_root }
    }

    /// Maps one page, of 2 MiB or 4 KiB.
    pub fn map(&mut self, tree: Tree, gpa: u64, host: u64, large: bool) -> Result<(), OutOfTables> {
        let gpa = with_tree(tree, gpa);
        let last = if large { LARGE_LEVEL } else { SMALL_LEVEL };
        let mut table = self.root;
        for shift in &SHIFTS[..last] {
            let slot = table + (gpa >> shift) % ENTRIES * 8;
            let entry = self.memory.read(slot);
            table = if entry & PRESENT_WRITE_USER == 0 || entry & LARGE != 0 {
                let next = self.memory.allocate().ok_or(OutOfTables)?;
                self.memory.write(slot, next | PRESENT_WRITE_USER);
                next
            } else {
                entry & ADDRESS_MASK
            };
        }
        let slot = table + (gpa >> SHIFTS[last]) % ENTRIES * 8;
        let (size, flag) = if large {
            (LARGE_PAGE_BYTES, LARGE)
        } else {
            (PAGE_BYTES, 0)
        };
        if large && self.is_table(slot) {
            // Small pages are there already: their table stays, and gets what was asked for.
            return self.map(tree, gpa, host, false);
        }
        let entry = host & !(size - 1) | flag | PRESENT_WRITE_USER;
        self.memory.write(slot, entry);
        Ok(())
    }

    /// Forgets what is mapped at an address; a page of 2 MiB around it as a whole.
    pub fn unmap(&mut self, tree: Tree, gpa: u64) {
        let gpa = with_tree(tree, gpa);
        let mut table = self.root;
        for (level, shift) in SHIFTS.iter().enumerate() {
            let slot = table + (gpa >> shift) % ENTRIES * 8;
            let entry = self.memory.read(slot);
            if entry & PRESENT_WRITE_USER == 0 {
                return;
            }
            if level == SMALL_LEVEL || entry & LARGE != 0 {
                self.memory.write(slot, 0);
                return;
            }
            table = entry & ADDRESS_MASK;
        }
    }

    /// Forgets everything in 2 MiB; the table of small pages stays for later use.
    pub fn unmap_large(&mut self, tree: Tree, gpa: u64) {
        let base = gpa & !(LARGE_PAGE_BYTES - 1);
        let full = with_tree(tree, base);
        let mut table = self.root;
        for shift in &SHIFTS[..SMALL_LEVEL] {
            let slot = table + (full >> shift) % ENTRIES * 8;
            let entry = self.memory.read(slot);
            if entry & PRESENT_WRITE_USER == 0 {
                return;
            }
            if entry & LARGE != 0 {
                self.memory.write(slot, 0);
                return;
            }
            table = entry & ADDRESS_MASK;
        }
        for slot in 0..ENTRIES {
            self.memory.write(table + slot * 8, 0);
        }
    }

    /// Whether an entry of the 2 MiB level leads to a table of small pages.
    fn is_table(&self, slot: u64) -> bool {
        let entry = self.memory.read(slot);
        entry & PRESENT_WRITE_USER != 0 && entry & LARGE == 0
    }
}

fn with_tree(tree: Tree, gpa: u64) -> u64 {
    match tree {
        Tree::Private => gpa | C_BIT,
        Tree::Shared => gpa & !C_BIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake(Vec<u64>);

    impl TableMemory for Fake {
        fn allocate(&mut self) -> Option<u64> {
            let page = self.0.len() as u64 * 8;
            self.0.resize(self.0.len() + 512, 0);
            Some(page)
        }
        fn read(&self, address: u64) -> u64 {
            self.0[(address / 8) as usize]
        }
        fn write(&mut self, address: u64, entry: u64) {
            self.0[(address / 8) as usize] = entry;
        }
    }

    fn translate(tables: &NestedTables<Fake>, root: u64, gpa: u64) -> Option<u64> {
        let mut table = root;
        for (level, shift) in SHIFTS.iter().enumerate() {
            let entry = tables.memory.read(table + (gpa >> shift) % 512 * 8);
            if entry & 1 == 0 {
                return None;
            }
            if level == SMALL_LEVEL || entry & LARGE != 0 {
                let mask = (1 << shift) - 1;
                return Some(entry & ADDRESS_MASK & !mask | gpa & mask);
            }
            table = entry & ADDRESS_MASK;
        }
        None
    }

    #[test]
    fn the_c_bit_chooses_the_tree_and_unpaged_accesses_are_private() {
        let mut tables = NestedTables::new(Fake::default()).expect("tables");
        tables
            .map(Tree::Private, 0x5000, 0x1_0000_5000, false)
            .expect("mapped");
        tables
            .map(Tree::Shared, 0x5000, 0x5000, false)
            .expect("mapped");
        let at = |paging, gpa| translate(&tables, tables.root(paging), gpa);
        assert_eq!(at(true, 0x5123 | C_BIT), Some(0x1_0000_5123));
        assert_eq!(at(true, 0x5123), Some(0x5123));
        assert_eq!(at(false, 0x5123), Some(0x1_0000_5123));
        assert_eq!(at(true, 0x6000), None);
    }

    #[test]
    fn large_and_small_pages_give_way_to_each_other() {
        let mut tables = NestedTables::new(Fake::default()).expect("tables");
        tables
            .map(Tree::Private, 0x40_1000, 0x1_0040_1000, true)
            .expect("mapped");
        let root = tables.root(true);
        let gpa = 0x5f_f004 | C_BIT;
        assert_eq!(translate(&tables, root, gpa), Some(0x1_005f_f004));
        tables.unmap(Tree::Private, 0x5f_f000);
        assert_eq!(translate(&tables, root, 0x40_0000 | C_BIT), None);
        tables
            .map(Tree::Private, 0x5f_f000, 0x1_005f_f000, false)
            .expect("mapped");
        assert_eq!(translate(&tables, root, gpa), Some(0x1_005f_f004));
        assert_eq!(translate(&tables, root, 0x40_0000 | C_BIT), None);
        // Small pages stay small.
        tables
            .map(Tree::Private, 0x40_0000, 0x1_0040_0000, true)
            .expect("mapped");
        assert_eq!(translate(&tables, root, gpa), Some(0x1_005f_f004));
        assert_eq!(
            translate(&tables, root, 0x40_0000 | C_BIT),
            Some(0x1_0040_0000)
        );
        assert_eq!(translate(&tables, root, 0x40_1000 | C_BIT), None);
        tables.unmap_large(Tree::Private, 0x40_0000);
        assert_eq!(translate(&tables, root, gpa), None);
    }
}
