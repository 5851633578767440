//! The boot program: from the reset vector to the kernel's first instruction.
//!
//! The assembly in `reset.s` enters long mode; [`boot_start`] then checks the ROM, copies the
//! kernel's segments to RAM, maps them W^X and jumps.

use crate::address::{PAGE_BYTES, PhysAddr, PhysRange};
use crate::elf::{Program, Segment};
use crate::handover::{self, Handover};
use crate::layout;
use crate::machine::{self, Machine, Serial};
use crate::paging::{Access, PageTables, PagingError, TableArena, Visibility};
use crate::rom::{self, Table};
use crate::sev;
use crate::stop::Reason;
use core::arch::{asm, global_asm};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::{ptr, slice};
use sev_snp_guest::termination::{General, REASON_SET, Reason as Cause};

global_asm!(
    include_str!("start/reset.s"),
    stack_top = const layout::BOOT_STACK.end().as_u64(),
    tables = const layout::FIRST_TABLES.start().as_u64(),
    reset_ticks = const layout::RESET_TICKS.as_u64(),
    console = const layout::CONSOLE.as_u64(),
    probe = const layout::MASK_PROBE.as_u64(),
    sev_refused = const sev::REFUSED_LOW,
    unsupported_termination = const termination(0, General::FeatureUnsupported as u8),
    c_bit_termination = const termination(REASON_SET, Cause::CBit.code()),
    own_termination = const termination(REASON_SET, 0),
    large_pages_end = const layout::KERNEL_WINDOW.end().as_u64() >> 21,
    options(att_syntax)
);

/// A request of the GHCB's MSR protocol to end the guest.
const fn termination(reason_set: u8, code: u8) -> u32 {
    0x100 | (reason_set as u32) << 12 | (code as u32) << 16
}

/// First Rust code after reset: long mode, SSE usable, interrupts off, 2 MiB..32 MiB of RAM
/// and the ROM mapped, running in the ROM on boot's stack.
#[unsafe(no_mangle)]
extern "C" fn boot_start(encryption_mask: u64, reset_ticks: u64) -> ! {
    let machine = Machine::with_mask(encryption_mask);
    machine.enable_vectors();
    let (table, rom) = read_rom();
    let kernel = &rom[table.kernel.clone()];
    let program = Program::parse(kernel, layout::KERNEL_WINDOW).unwrap_or_else(|error| {
        machine::stop(
            Reason::BadKernel,
            format_args!("the kernel cannot be loaded: {error:?}"),
        )
    });
    let mut validated_pages = layout::BOOT_RAM.len() / PAGE_BYTES;
    for segment in program.segments() {
        load(machine, segment, &kernel[segment.file.clone()]);
        validated_pages += segment.pages().len() / PAGE_BYTES;
    }
    let rom_range = part(&table, 0..table.rom_bytes);
    let page_table_root = map(machine, &program, rom_range).unwrap_or_else(|error| {
        machine::stop(
            Reason::PageTables,
            format_args!("the kernel cannot be mapped: {error:?}"),
        )
    });
    let handover = Handover {
        magic: handover::MAGIC,
        version: handover::VERSION,
        platform: machine.platform,
        encryption_mask,
        page_table_root,
        kernel: program.span(),
        rom: rom_range,
        manifest: part(&table, table.manifest.clone()),
        boot_ram: layout::BOOT_RAM,
        host_pages: machine.host_pages,
        start_page: machine.start_page,
        validated_pages,
        reset_ticks,
    };
    // Writing to the port cannot fail.
    let _ = writeln!(Serial, "cloister: boot: kernel at {:?}", handover.kernel);
    enter(&handover, program.entry())
}

/// Says where the program is wrong, and ends the guest.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => machine::stop(Reason::Panic, format_args!("boot panicked at {place}")),
        None => machine::stop(Reason::Panic, format_args!("boot panicked")),
    }
}

fn read_rom() -> (Table, &'static [u8]) {
    let place = |from_end: usize| {
        ptr::with_exposed_provenance::<u8>((rom::ROM_END - from_end as u64) as usize)
    };
    // SAFETY: every ROM of ours is longer than `TABLE_FROM_END`, ends at 4 GiB, is mapped by the
    // reset code, and never changes.
    let end = unsafe { slice::from_raw_parts(place(rom::TABLE_FROM_END), rom::TABLE_FROM_END) };
    let table = Table::parse(end).unwrap_or_else(|error| {
        machine::stop(
            Reason::BadRom,
            format_args!("this is no Cloister ROM: {error:?}"),
        )
    });
    // SAFETY: as above; `parse` bounded the size by the 16 MiB that the reset code maps.
    let rom = unsafe { slice::from_raw_parts(place(table.rom_bytes), table.rom_bytes) };
    (table, rom)
}

/// Physical range of a part of the ROM.
fn part(table: &Table, offsets: core::ops::Range<usize>) -> PhysRange {
    let base = rom::ROM_END - table.rom_bytes as u64;
    let start = PhysAddr::new(base + offsets.start as u64);
    PhysRange::from_len(start, offsets.len() as u64).expect("the ROM ends at 4 GiB")
}

/// Fills a segment's pages and makes sure that there is RAM.
fn load(machine: Machine, segment: &Segment, bytes: &[u8]) {
    let pages = segment.pages();
    (machine.accept)(pages);
    if !keeps_what_is_written(pages) {
        machine::stop(
            Reason::TooLittleMemory,
            format_args!("there is no RAM for the kernel at {pages:?}: give the machine more (-m)"),
        );
    }
    let start = ptr::with_exposed_provenance_mut::<u8>(pages.start().as_u64() as usize);
    // SAFETY: 1. The ELF parser bounded the segment by the kernel window, which the reset code maps
    // writable and which holds nothing else yet. 2. Segments share no page. 3. The file part is not
    // longer than the segment.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        start
            .add(bytes.len())
            .write_bytes(0, pages.len() as usize - bytes.len());
    }
}

/// Whether every page is RAM: where there is none, QEMU drops writes and reads give zeros.
fn keeps_what_is_written(pages: PhysRange) -> bool {
    const MARK: u64 = 0x5afe_c10f_f1ce_0001;
    (pages.start().as_u64()..pages.end().as_u64())
        .step_by(PAGE_BYTES as usize)
        .all(|page| {
            let word = ptr::with_exposed_provenance_mut::<u64>(page as usize);
            // SAFETY: the page lies in the kernel window, see `load`.
            unsafe {
                word.write_volatile(MARK);
                word.read_volatile() == MARK
            }
        })
}

/// Builds the tables that the kernel starts with. Holes between segments stay unmapped: they are
/// the guard pages below the kernel's stacks.
fn map(machine: Machine, program: &Program, rom: PhysRange) -> Result<PhysAddr, PagingError> {
    // SAFETY: the range is part of boot's RAM, mapped by the reset code and used for nothing else.
    let arena = unsafe { TableArena::new(layout::KERNEL_TABLES) };
    let mut tables = PageTables::new(arena, machine.encryption_mask, false)?;
    for segment in program.segments() {
        tables.map_small(segment.pages(), segment.access, Visibility::Private)?;
    }
    map_boot_ram(&mut tables)?;
    // This program goes on in the ROM's last part until it jumps.
    let own = PhysAddr::new(rom::ROM_END - rom::BOOT_WINDOW_BYTES as u64);
    let others = PhysRange::new(rom.start(), own).ok_or(PagingError::Range(rom))?;
    let own = PhysRange::new(own, rom.end()).ok_or(PagingError::Range(rom))?;
    tables.map(others, Access::Read, Visibility::Private)?;
    tables.map_small(own, Access::Execute, Visibility::Private)?;
    Ok(tables.root())
}

/// Boot's RAM goes on as it is, with the pages in it that the host sees on some machines.
fn map_boot_ram(tables: &mut PageTables) -> Result<(), PagingError> {
    let shared = layout::HOST_PAGES;
    for (start, end, visibility) in [
        (
            layout::BOOT_RAM.start(),
            shared.start(),
            Visibility::Private,
        ),
        (shared.start(), shared.end(), Visibility::Shared),
        (shared.end(), layout::BOOT_RAM.end(), Visibility::Private),
    ] {
        let range = PhysRange::new(start, end).ok_or(PagingError::Range(shared))?;
        tables.map_small(range, Access::ReadWrite, visibility)?;
    }
    Ok(())
}

fn enter(handover: &Handover, entry: PhysAddr) -> ! {
    let place = layout::HANDOVER.start().as_u64();
    // SAFETY: 1. The page is part of boot's RAM, mapped before and after the switch, and used for
    // nothing else. 2. The new tables map this code, this stack and the kernel. 3. `entry` lies in
    // the kernel's code; its first instruction takes the hand-over in `rdi` and sets its own stack.
    unsafe {
        ptr::with_exposed_provenance_mut::<Handover>(place as usize).write(*handover);
        asm!(
            "mov cr3, {root}",
            "jmp {entry}",
            root = in(reg) handover.page_table_root.as_u64(),
            entry = in(reg) entry.as_u64(),
            in("rdi") place,
            options(noreturn)
        )
    }
}
