//! The platform's state, and the loop that runs a guest CPU.

use crate::cpu;
use crate::entry::MAX_CPUS;
use crate::exits;
use crate::hostile::Hostile;
use crate::log;
use crate::memory::{self, TablePages};
use crate::vcpu::{CPUS, Cpu};
use cloister_emulator::checks::{Check, Options};
use cloister_emulator::digest::DIGEST_BYTES;
use cloister_emulator::edk2::{self, Deed};
use cloister_emulator::exception;
use cloister_emulator::guest_message::Channel;
use cloister_emulator::memory_map::{MemoryMap, ROM_END};
use cloister_emulator::nested::{NestedTables, Tree};
use cloister_emulator::page::{C_BIT, PAGE_BYTES};
use cloister_emulator::rmp::Rmp;
use cloister_emulator::statistics::Statistics;
use cloister_emulator::vmsa::field;
use cloister_emulator::walk::{Paging, Target, WalkError};
use core::fmt::Arguments;
use core::ops::Range;
use spin::Mutex;

/// What all CPUs of the guest share.
pub(crate) struct Platform {
    pub(crate) options: Options,
    pub(crate) map: MemoryMap,
    pub(crate) rmp: Rmp<'static>,
    pub(crate) tables: NestedTables<TablePages>,
    pub(crate) channel: Channel,
    pub(crate) measurement: [u8; DIGEST_BYTES],
    pub(crate) cpu_signature: u32,
    pub(crate) cpus: [CpuState; MAX_CPUS],
    pub(crate) hostile: Hostile,
    pub(crate) statistics: Statistics,
    /// When the guest was launched, in ticks.
    pub(crate) started: u64,
}

/// What the platform remembers of a CPU beside its registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuState {
    /// The GHCB register.
    pub(crate) ghcb_msr: u64,
    /// The registered GHCB.
    pub(crate) ghcb: Option<u64>,
    /// CR3 as the guest wrote it; the processor's has the C-bit.
    pub(crate) cr3: u64,
    /// It never runs again.
    pub(crate) is_halted: bool,
}

/// After so many exits the statistics are logged.
const EXITS_PER_LOG: u64 = 1_000_000;

/// The platform, from the launch on.
pub(crate) static PLATFORM: Mutex<Option<Platform>> = Mutex::new(None);

/// One exit: the CPU, its number, and the platform.
pub(crate) struct Exit<'a> {
    pub(crate) number: usize,
    pub(crate) cpu: &'a mut Cpu,
    pub(crate) platform: &'a mut Platform,
}

/// Runs a CPU of the guest for good.
pub(crate) fn run(number: usize) -> ! {
    let mut cpu = CPUS[number].lock();
    loop {
        cpu.run();
        if !goes_on(number, &mut cpu) {
            cpu::halt();
        }
    }
}

/// Handles an exit. False: the CPU never runs again.
fn goes_on(number: usize, cpu: &mut Cpu) -> bool {
    let mut platform = PLATFORM.lock();
    let platform = platform.as_mut().expect("launched before it runs");
    platform.statistics.exits += 1;
    if platform.statistics.exits.is_multiple_of(EXITS_PER_LOG) {
        platform.log_statistics();
    }
    exits::handle(&mut Exit {
        number,
        cpu,
        platform,
    });
    !platform.cpus[number].is_halted
}

impl Platform {
    /// Forgets an address's mappings after its state changed.
    pub(crate) fn unmap(&mut self, gpa: u64, large: bool) {
        for tree in [Tree::Private, Tree::Shared] {
            if large {
                self.tables.unmap_large(tree, gpa);
            } else {
                self.tables.unmap(tree, gpa);
            }
        }
    }

    /// Host address of a page's contents, private or shared, if the guest may use it so.
    pub(crate) fn host(&self, gpa: u64, private: bool) -> Option<u64> {
        let entry = self.rmp.entry(gpa)?;
        if private {
            let usable = entry.is_assigned() && entry.is_validated();
            usable.then(|| self.map.private(gpa)).flatten()
        } else {
            entry.is_shared().then_some(gpa)
        }
    }

    /// What the guest did until now.
    pub(crate) fn log_statistics(&self) {
        let cycles = crate::cpu::ticks() - self.started;
        log::log!("after {} M cycles: {}", cycles / 1_000_000, self.statistics);
    }
}

impl Exit<'_> {
    /// How the CPU translates addresses now.
    pub(crate) fn paging(&self) -> Paging {
        Paging {
            cr0: self.cpu.saved(field::CR0),
            cr3: self.cpu.saved(field::CR3),
            cr4: self.cpu.saved(field::CR4),
            efer: self.cpu.saved(field::EFER),
        }
    }

    /// What the platform remembers of this CPU.
    pub(crate) fn state(&mut self) -> &mut CpuState {
        &mut self.platform.cpus[self.number]
    }

    /// Says what the guest did wrong, and where, and ends.
    pub(crate) fn diagnose(&self, text: Arguments<'_>) -> ! {
        let register = |number| self.cpu.register(number);
        log::log!(
            "cpu {} rip {:#x} rsp {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} rflags {:#x}",
            self.number,
            self.cpu.saved(field::RIP),
            self.cpu.saved(field::RSP),
            self.cpu.saved(field::CR0),
            self.cpu.saved(field::CR2),
            self.cpu.saved(field::CR3),
            self.cpu.saved(field::CR4),
            self.cpu.saved(field::EFER),
            self.cpu.saved(field::RFLAGS),
        );
        log::log!(
            "cpu {} rax {:#x} rcx {:#x} rdx {:#x} rbx {:#x} rbp {:#x} rsi {:#x} rdi {:#x}",
            self.number,
            register(0),
            register(1),
            register(2),
            register(3),
            register(5),
            register(6),
            register(7),
        );
        self.platform.log_statistics();
        log::diagnose(text)
    }

    /// Says so if what the guest did is a bug that is known by name.
    pub(crate) fn name_known_bug(&self, address: u64) {
        let map = &self.platform.map;
        let deed = if (map.rom_base()..ROM_END).contains(&(address & !C_BIT)) {
            Deed::SharedImage
        } else {
            let read = |address: u64, bytes: &mut [u8]| {
                let wanted = bytes.len();
                self.read_virtual(address, bytes) == wanted
            };
            Deed::Unvalidated(edk2::file_at(read, self.cpu.saved(field::RIP)))
        };
        if let Some(bug) = edk2::known_bug(deed) {
            log::log!("KNOWN BUG: {bug}");
        }
    }

    /// As [`Exit::diagnose`] if the rule is not relaxed.
    pub(crate) fn require(&self, check: Check, text: Arguments<'_>) {
        if self.platform.options.is_strict(check) {
            self.diagnose(format_args!("{}: {text}", check.name()))
        }
    }

    /// Copies bytes at a guest-virtual address. Gives how many could be read.
    pub(crate) fn read_virtual(&self, address: u64, bytes: &mut [u8]) -> usize {
        let memory = GuestMemory::new(self);
        let count = bytes.len();
        for (at, range) in parts(address, count) {
            let Some(host) = memory.host(at) else {
                return range.start;
            };
            memory::read(host, &mut bytes[range]);
        }
        count
    }
}

/// The guest's memory as the CPU sees it.
pub(crate) struct GuestMemory<'a> {
    paging: Paging,
    platform: &'a Platform,
}

impl<'a> GuestMemory<'a> {
    /// With the CPU's tables.
    pub(crate) fn new(exit: &'a Exit<'_>) -> Self {
        Self {
            paging: exit.paging(),
            platform: exit.platform,
        }
    }

    /// With tables that were read before.
    pub(crate) fn with(paging: Paging, platform: &'a Platform) -> Self {
        Self { paging, platform }
    }

    /// Host address of what lies at a guest-virtual address.
    pub(crate) fn host(&self, address: u64) -> Option<u64> {
        let target = self.translate(address).ok()?;
        self.platform.host(target.gpa, target.private)
    }

    /// Where an address leads in the guest's tables, which are private always.
    pub(crate) fn translate(&self, address: u64) -> Result<Target, WalkError> {
        let read = |slot| self.platform.host(slot, true).map(memory::read_u64);
        self.paging.translate(address, read)
    }
}

impl exception::Memory for GuestMemory<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), WalkError> {
        for (at, range) in parts(address, bytes.len()) {
            let host = self.host(at).ok_or(WalkError::NoTable(at))?;
            memory::read(host, &mut bytes[range]);
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), WalkError> {
        for (at, range) in parts(address, bytes.len()) {
            let host = self.host(at).ok_or(WalkError::NoTable(at))?;
            memory::write(host, &bytes[range]);
        }
        Ok(())
    }
}

/// Splits an access at page boundaries: addresses, and which bytes lie there.
fn parts(address: u64, bytes: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut start = 0;
    core::iter::from_fn(move || {
        let at = address.wrapping_add(start as u64);
        let page_end = (PAGE_BYTES - at % PAGE_BYTES) as usize;
        let range = start..bytes.min(start + page_end);
        start = range.end;
        (!range.is_empty()).then_some((at, range))
    })
}
