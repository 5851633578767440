//! The kernel's address space: its own segments, RAM as data, the ROM to be read, device registers,
//! and the shared pool. Everything else is unmapped.

use super::cpu_areas::{self, CpuAreas};
use super::frames::Frames;
use super::private::PrivateRegion;
use super::shared::{self, SharedPool};
use super::{
    DEVICE_WINDOW, LARGE_PAGE_BYTES, LOCAL_APIC, PAGE_BYTES, PhysAddr, PhysRange, heap,
    kernel_image,
};
use crate::platform::{PageStateError, Platform};
use crate::stop::Reason;
use cloister_boot::handover::Handover;
use cloister_boot::paging::{Access, PageTables, PagingError, TableArena, Visibility};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Pages for tables: enough for 100 GiB of RAM in pages of 2 MiB, and for far more where the
/// processor has pages of 1 GiB.
const TABLE_PAGES: usize = 128;
/// Size of the pool that is shared with the host, in bytes.
pub const POOL_BYTES: u64 = 8 << 20;

#[repr(C, align(4096))]
struct Tables(UnsafeCell<[u8; TABLE_PAGES * PAGE_BYTES as usize]>);

// SAFETY: only `Space::new` uses the memory, and the kernel calls it once.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables(UnsafeCell::new([0; TABLE_PAGES * PAGE_BYTES as usize]));

/// Why the address space could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceError {
    /// A mapping was refused.
    Paging(PagingError),
    /// The host did not change a page's state.
    PageState(PageStateError),
    /// No room for the shared pool or for what other processors need.
    NoRoom,
}

impl SpaceError {
    /// The reason that the guest stops with.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Paging(_) | Self::NoRoom => Reason::PageTables,
            Self::PageState(_) => Reason::PageState,
        }
    }
}

impl From<PagingError> for SpaceError {
    fn from(error: PagingError) -> Self {
        Self::Paging(error)
    }
}

impl From<PageStateError> for SpaceError {
    fn from(error: PageStateError) -> Self {
        Self::PageState(error)
    }
}

/// The address space, and the RAM in it that nobody uses yet.
pub struct Space {
    tables: PageTables,
    frames: Frames,
}

impl Space {
    /// Maps the RAM, switches over, accepts the RAM and makes the shared pool and the areas of so many processors
    /// beside the first.
    ///
    /// # Safety
    /// Called once, on the tables that boot made, with frames that nothing uses.
    pub unsafe fn new(
        platform: &dyn Platform,
        handover: &Handover,
        mut frames: Frames,
        huge_pages: bool,
        other_cpus: u32,
    ) -> Result<Self, SpaceError> {
        let memory = PhysRange::from_len(
            PhysAddr::new(TABLES.0.get().expose_provenance() as u64),
            size_of::<Tables>() as u64,
        );
        let memory = memory.ok_or(SpaceError::NoRoom)?;
        // SAFETY: the static is page-aligned, mapped by boot and below, and used here only (once,
        // as the caller promises).
        let arena = unsafe { TableArena::new(memory) };
        let mut tables = PageTables::new(arena, handover.encryption_mask, huge_pages)?;
        for (segment, access) in kernel_image::segments() {
            tables.map_small(segment, access, Visibility::Private)?;
        }
        tables.map(handover.rom, Access::Read, Visibility::Private)?;
        for registers in [DEVICE_WINDOW, LOCAL_APIC] {
            tables.map(registers, Access::ReadWrite, Visibility::Device)?;
        }
        tables.map_small(handover.start_page, Access::ReadWrite, Visibility::Private)?;
        tables.map_small(handover.host_pages, Access::ReadWrite, Visibility::Shared)?;
        let areas = CpuAreas::take(&mut frames, other_cpus).ok_or(SpaceError::NoRoom)?;
        for part in areas.parts() {
            tables.map_small(part, Access::ReadWrite, Visibility::Private)?;
        }
        let pool = frames
            .take(POOL_BYTES, LARGE_PAGE_BYTES)
            .ok_or(SpaceError::NoRoom)?;
        tables.map(pool, Access::ReadWrite, Visibility::Shared)?;
        for &range in frames.ranges() {
            tables.map(range, Access::ReadWrite, Visibility::Private)?;
        }
        // SAFETY: the tables map this code, this stack and all variables where they are now.
        unsafe { switch_to(&tables) };
        // Each page has one state for ever: the pool is never private, and the rest never shared. Pages
        // are accepted through their mapping, and nothing was in them before.
        platform.share(pool)?;
        for range in frames.ranges().iter().copied().chain(areas.parts()) {
            platform.validate(range)?;
        }
        cpu_areas::install(areas);
        let base = ptr::with_exposed_provenance_mut(pool.start().as_u64() as usize);
        let base = NonNull::new(base).ok_or(SpaceError::NoRoom)?;
        // SAFETY: the range was just taken from unused RAM and is mapped shared for ever.
        shared::install(unsafe { SharedPool::new(base, pool) });
        Ok(Self { tables, frames })
    }

    /// What belongs into CR3.
    pub fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    /// Bytes of the ROM.
    ///
    /// # Panics
    /// If `part` lies outside the ROM that boot named.
    pub fn rom_part(&self, handover: &Handover, part: PhysRange) -> &'static [u8] {
        assert!(handover.rom.contains(part), "only the ROM is read this way");
        let start = ptr::with_exposed_provenance(part.start().as_u64() as usize);
        // SAFETY: the ROM is mapped read-only for ever and never changes.
        unsafe { core::slice::from_raw_parts(start, part.len() as usize) }
    }

    /// Takes RAM for one owner, in whole large pages so that it can be frozen; `None` if no range is
    /// long enough.
    pub fn take_region(&mut self, bytes: u64) -> Option<PrivateRegion> {
        let bytes = bytes.checked_next_multiple_of(LARGE_PAGE_BYTES)?;
        let range = self.frames.take(bytes, LARGE_PAGE_BYTES)?;
        // SAFETY: the range was unused, is mapped private for ever, and is ours now.
        Some(unsafe { PrivateRegion::new(range) })
    }

    /// Makes a region read-only for good.
    pub fn freeze(&mut self, region: PrivateRegion) -> Result<&'static [u8], SpaceError> {
        self.tables.protect(region.range(), Access::Read)?;
        x86_64::instructions::tlb::flush_all();
        Ok(region.into_bytes())
    }

    /// Gives `bytes` of RAM to the heap; false if no range is long enough.
    pub fn grow_heap(&mut self, bytes: u64) -> bool {
        let Some(range) = self.frames.take(bytes, PAGE_BYTES) else {
            return false;
        };
        // SAFETY: the range was unused, is mapped private for ever, and is the heap's now.
        unsafe { heap::HEAP.add(range) };
        true
    }

    /// Gives all RAM that is left to the heap. The tables stay as they are from here on.
    pub fn finish(self) {
        for range in self.frames.drain() {
            // SAFETY: as in `grow_heap`.
            unsafe { heap::HEAP.add(range) };
        }
    }

    /// RAM that nobody uses yet, in bytes.
    pub fn unused_bytes(&self) -> u64 {
        self.frames.bytes()
    }
}

/// Loads the tables' root.
///
/// # Safety
/// The tables map everything that the kernel uses, where it is.
unsafe fn switch_to(tables: &PageTables) {
    let root = x86_64::PhysAddr::new(tables.root().as_u64());
    // SAFETY: see above; the root is page-aligned apart from the encryption bit, which belongs to
    // the address.
    unsafe { Cr3::write(PhysFrame::containing_address(root), Cr3Flags::empty()) };
}
