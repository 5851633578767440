//! The page tables of boot and kernel: virtual and physical addresses are equal, and what may be
//! written cannot be executed, because [`Access`] has no such value.
//!
//! Entry format: AMD64 Architecture Programmer's Manual volume 2, section 5.3.

use crate::address::{HUGE_PAGE_BYTES, LARGE_PAGE_BYTES, PAGE_BYTES, PhysAddr, PhysRange};
use core::ptr;

/// First address that identity mapping cannot reach (lower half of the canonical addresses).
const MAP_LIMIT: u64 = 1 << 47;
/// Entries in a table.
const ENTRIES: u64 = 512;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
/// Set in advance, so that the processor never writes to a table.
const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
/// A bit that the processor ignores: the host can read the page.
const HOST_VISIBLE: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a page may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Reading and executing.
    Execute,
}

/// Who else sees a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Only the guest: encrypted where the machine can.
    Private,
    /// The host too.
    Shared,
    /// Device registers: the host's, and not cached.
    Device,
}

/// One mapping, as [`PageTables::lookup`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What it may be used for.
    pub access: Access,
    /// Who else sees it.
    pub visibility: Visibility,
    /// Size of the page in bytes.
    pub page_bytes: u64,
}

/// Why a mapping was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagingError {
    /// Not whole pages, or beyond what can be mapped.
    Range(PhysRange),
    /// Something is mapped there already.
    Occupied(PhysAddr),
    /// Nothing is mapped there.
    Unmapped(PhysAddr),
    /// A page reaches beyond the range whose access was to be changed.
    Straddles(PhysAddr),
    /// No memory is left for tables.
    TablesExhausted,
}

/// Memory for tables, handed out page by page and never taken back.
pub struct TableArena {
    memory: PhysRange,
    next: PhysAddr,
}

impl TableArena {
    /// Takes memory over.
    ///
    /// # Safety
    /// `memory` is made of whole pages that are mapped readable and writable at their physical
    /// addresses, for as long as the tables are in use, and nothing else refers to them.
    pub const unsafe fn new(memory: PhysRange) -> Self {
        Self {
            memory,
            next: memory.start(),
        }
    }

    fn allocate(&mut self) -> Result<PhysAddr, PagingError> {
        let table = self.next;
        let end = table
            .checked_add(PAGE_BYTES)
            .ok_or(PagingError::TablesExhausted)?;
        if end > self.memory.end() {
            return Err(PagingError::TablesExhausted);
        }
        self.next = end;
        for index in 0..ENTRIES {
            self.write(table, index, 0);
        }
        Ok(table)
    }

    fn read(&self, table: PhysAddr, index: u64) -> u64 {
        // SAFETY: `table` came from `allocate`, so it is a page of the arena (see `new`), and
        // `entry` keeps the index inside it.
        unsafe { Self::entry(table, index).read_volatile() }
    }

    fn write(&mut self, table: PhysAddr, index: u64, entry: u64) {
        // SAFETY: as in `read`; the arena's memory is not referred to by anything else.
        unsafe { Self::entry(table, index).write_volatile(entry) }
    }

    fn entry(table: PhysAddr, index: u64) -> *mut u64 {
        let address = table.as_u64() + (index % ENTRIES) * 8;
        ptr::with_exposed_provenance_mut(address as usize)
    }
}

/// A set of page tables.
pub struct PageTables {
    arena: TableArena,
    root: PhysAddr,
    encryption_mask: u64,
    largest_page_bytes: u64,
}

impl PageTables {
    /// Empty tables. `encryption_mask` goes into every entry for private memory, and into every
    /// table's address; `huge_pages` says whether the processor has pages of 1 GiB.
    pub fn new(
        mut arena: TableArena,
        encryption_mask: u64,
        huge_pages: bool,
    ) -> Result<Self, PagingError> {
        let root = arena.allocate()?;
        let largest_page_bytes = if huge_pages {
            HUGE_PAGE_BYTES
        } else {
            LARGE_PAGE_BYTES
        };
        Ok(Self {
            arena,
            root,
            encryption_mask,
            largest_page_bytes,
        })
    }

    /// What belongs into CR3.
    pub fn root(&self) -> PhysAddr {
        PhysAddr::new(self.root.as_u64() | self.encryption_mask)
    }

    /// Maps whole pages, with the largest pages that fit.
    pub fn map(
        &mut self,
        range: PhysRange,
        access: Access,
        visibility: Visibility,
    ) -> Result<(), PagingError> {
        self.map_with(range, access, visibility, self.largest_page_bytes)
    }

    /// Maps whole pages of 4 KiB, as a program's segments need it.
    pub fn map_small(
        &mut self,
        range: PhysRange,
        access: Access,
        visibility: Visibility,
    ) -> Result<(), PagingError> {
        self.map_with(range, access, visibility, PAGE_BYTES)
    }

    /// Changes what mapped pages may be used for. Every page must lie inside `range` as a whole.
    /// The caller flushes the translation caches.
    pub fn protect(&mut self, range: PhysRange, access: Access) -> Result<(), PagingError> {
        check(range)?;
        let mut address = range.start();
        while address < range.end() {
            let (table, index, page_bytes) =
                self.find(address).ok_or(PagingError::Unmapped(address))?;
            let inside =
                PhysRange::from_len(address, page_bytes).is_some_and(|p| range.contains(p));
            if !inside || !address.is_aligned(page_bytes) {
                return Err(PagingError::Straddles(address));
            }
            let kept = self.arena.read(table, index) & !(WRITABLE | NO_EXECUTE);
            self.arena.write(table, index, kept | access_bits(access));
            address = PhysAddr::new(address.as_u64() + page_bytes);
        }
        Ok(())
    }

    /// How `address` is mapped, if it is.
    pub fn lookup(&self, address: PhysAddr) -> Option<Mapping> {
        if address.as_u64() >= MAP_LIMIT {
            return None;
        }
        let (table, index, page_bytes) = self.find(address)?;
        let entry = self.arena.read(table, index);
        let access = match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
            (true, _) => Access::ReadWrite,
            (false, true) => Access::Read,
            (false, false) => Access::Execute,
        };
        let visibility = match (entry & HOST_VISIBLE != 0, entry & CACHE_DISABLE != 0) {
            (false, _) => Visibility::Private,
            (true, false) => Visibility::Shared,
            (true, true) => Visibility::Device,
        };
        Some(Mapping {
            access,
            visibility,
            page_bytes,
        })
    }

    fn map_with(
        &mut self,
        range: PhysRange,
        access: Access,
        visibility: Visibility,
        largest_page_bytes: u64,
    ) -> Result<(), PagingError> {
        check(range)?;
        let mut address = range.start();
        while address < range.end() {
            let fits = |bytes: u64| {
                bytes <= largest_page_bytes
                    && address.is_aligned(bytes)
                    && range.end().as_u64() - address.as_u64() >= bytes
            };
            let page_bytes = [HUGE_PAGE_BYTES, LARGE_PAGE_BYTES]
                .into_iter()
                .find(|&bytes| fits(bytes))
                .unwrap_or(PAGE_BYTES);
            self.map_page(address, page_bytes, access, visibility)?;
            address = PhysAddr::new(address.as_u64() + page_bytes);
        }
        Ok(())
    }

    fn map_page(
        &mut self,
        address: PhysAddr,
        page_bytes: u64,
        access: Access,
        visibility: Visibility,
    ) -> Result<(), PagingError> {
        let mut table = self.root;
        let mut covered = MAP_LIMIT * 2 / ENTRIES;
        while covered > page_bytes {
            let index = address.as_u64() / covered % ENTRIES;
            let entry = self.arena.read(table, index);
            if entry & LARGE != 0 {
                return Err(PagingError::Occupied(address));
            }
            table = if entry & PRESENT == 0 {
                let lower = self.arena.allocate()?;
                let entry = lower.as_u64() | PRESENT | WRITABLE | ACCESSED_DIRTY;
                self.arena
                    .write(table, index, entry & !LARGE | self.encryption_mask);
                lower
            } else {
                self.address_in(entry)
            };
            covered /= ENTRIES;
        }
        let index = address.as_u64() / covered % ENTRIES;
        if self.arena.read(table, index) & PRESENT != 0 {
            return Err(PagingError::Occupied(address));
        }
        let visibility = match visibility {
            Visibility::Private => self.encryption_mask,
            Visibility::Shared => HOST_VISIBLE,
            Visibility::Device => HOST_VISIBLE | CACHE_DISABLE | WRITE_THROUGH,
        };
        let large = if page_bytes > PAGE_BYTES { LARGE } else { 0 };
        let bits = PRESENT | ACCESSED_DIRTY | large | access_bits(access) | visibility;
        self.arena.write(table, index, address.as_u64() | bits);
        Ok(())
    }

    /// Table, index and page size of the entry that maps `address`.
    fn find(&self, address: PhysAddr) -> Option<(PhysAddr, u64, u64)> {
        let mut table = self.root;
        let mut covered = MAP_LIMIT * 2 / ENTRIES;
        loop {
            let index = address.as_u64() / covered % ENTRIES;
            let entry = self.arena.read(table, index);
            if entry & PRESENT == 0 {
                return None;
            }
            if covered == PAGE_BYTES || entry & LARGE != 0 {
                return Some((table, index, covered));
            }
            table = self.address_in(entry);
            covered /= ENTRIES;
        }
    }

    fn address_in(&self, entry: u64) -> PhysAddr {
        PhysAddr::new(entry & ADDRESS & !self.encryption_mask)
    }
}

fn check(range: PhysRange) -> Result<(), PagingError> {
    if range.is_aligned(PAGE_BYTES) && range.end().as_u64() <= MAP_LIMIT {
        Ok(())
    } else {
        Err(PagingError::Range(range))
    }
}

const fn access_bits(access: Access) -> u64 {
    match access {
        Access::Read => NO_EXECUTE,
        Access::ReadWrite => WRITABLE | NO_EXECUTE,
        Access::Execute => 0,
    }
}

#[cfg(test)]
mod tests;
