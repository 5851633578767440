//! Processors beside the first one, until each is as the first one is: page tables, control registers, vector state,
//! descriptor tables, stacks.

use super::tables;
use crate::memory::PhysAddr;
use crate::memory::cpu_areas::{self, CpuArea};
use crate::smp::{self, MAX_CPUS};
use crate::stop::{self, Reason};
use core::arch::global_asm;
use core::mem::offset_of;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::registers::control::{Cr0, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Efer;
use x86_64::registers::xcontrol::XCr0;

global_asm!(
    include_str!("ap.s"),
    max_cpus = const MAX_CPUS,
    cr0 = const offset_of!(Environment<AtomicU64>, cr0),
    cr3 = const offset_of!(Environment<AtomicU64>, cr3),
    cr4 = const offset_of!(Environment<AtomicU64>, cr4),
    efer = const offset_of!(Environment<AtomicU64>, efer),
    options(att_syntax)
);

/// What decides how a processor runs code. The layout is known to `ap.s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Environment<Word = u64> {
    cr0: Word,
    cr3: Word,
    cr4: Word,
    efer: Word,
    /// 0 while it cannot be read.
    xcr0: Word,
}

impl Environment {
    /// This processor's, with its page tables by another word than CR3's: hosts may hide the encryption bit in it.
    fn of_this_cpu(page_tables: PhysAddr) -> Self {
        let cr4 = Cr4::read();
        let has_xcr0 = cr4.contains(Cr4Flags::OSXSAVE);
        Self {
            cr0: Cr0::read_raw(),
            cr3: page_tables.as_u64(),
            cr4: cr4.bits(),
            efer: Efer::read_raw(),
            xcr0: if has_xcr0 { XCr0::read_raw() } else { 0 },
        }
    }
}

/// The first processor's, written before it starts another.
#[unsafe(export_name = "ap_environment")]
static ENVIRONMENT: Environment<AtomicU64> = Environment {
    cr0: AtomicU64::new(0),
    cr3: AtomicU64::new(0),
    cr4: AtomicU64::new(0),
    efer: AtomicU64::new(0),
    xcr0: AtomicU64::new(0),
};
/// Where the stack of each processor ends; 0 for those that are not wanted.
#[unsafe(export_name = "ap_stack_ends")]
static STACK_ENDS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

unsafe extern "C" {
    static ap_real_mode: u8;
    static ap_real_mode_end: u8;
    static ap_start: u8;
}

/// Takes this processor, the first one, as the model for all others. They are started afterwards.
pub fn set_environment(page_tables: PhysAddr) {
    let own = Environment::of_this_cpu(page_tables);
    for (word, value) in [
        (&ENVIRONMENT.cr0, own.cr0),
        (&ENVIRONMENT.cr3, own.cr3),
        (&ENVIRONMENT.cr4, own.cr4),
        (&ENVIRONMENT.efer, own.efer),
        (&ENVIRONMENT.xcr0, own.xcr0),
    ] {
        word.store(value, Ordering::Release);
    }
}

/// Lets processor `number` in when it comes.
pub fn expect(number: u32, area: CpuArea) {
    let end = area.work_stack().end().as_u64();
    STACK_ENDS[number as usize].store(end, Ordering::Release);
}

/// The first 64-bit instruction of a processor.
pub fn entry() -> PhysAddr {
    PhysAddr::new((&raw const ap_start).expose_provenance() as u64)
}

/// Code that leads from 16-bit mode to [`entry`].
pub fn real_mode_code() -> &'static [u8] {
    let start = &raw const ap_real_mode;
    let length = (&raw const ap_real_mode_end).addr() - start.addr();
    // SAFETY: the code lies between the two symbols, in the constants, which never change.
    unsafe { slice::from_raw_parts(start, length) }
}

/// The first Rust function of every processor but the first.
#[unsafe(no_mangle)]
extern "C" fn ap_entry(number: u32) -> ! {
    let Some(area) = cpu_areas::of(number) else {
        super::cpu::halt();
    };
    tables::install(number, area.exception_stack(), area.double_fault_stack());
    let word = |word: &AtomicU64| word.load(Ordering::Acquire);
    let expected = Environment {
        cr0: word(&ENVIRONMENT.cr0),
        cr3: word(&ENVIRONMENT.cr3),
        cr4: word(&ENVIRONMENT.cr4),
        efer: word(&ENVIRONMENT.efer),
        xcr0: word(&ENVIRONMENT.xcr0),
    };
    adopt(&expected);
    let found = Environment::of_this_cpu(PhysAddr::new(expected.cr3));
    if found != expected {
        stop::stop(
            Reason::Processor,
            format_args!("it runs with {found:x?}, the first one with {expected:x?}"),
        );
    }
    smp::serve(number)
}

/// Sets what the way here did not set.
fn adopt(environment: &Environment) {
    // SAFETY: 1. These are the values under which the first processor runs the same code with the same page tables.
    // 2. No vector state is in use that XCR0 could take away.
    unsafe {
        Cr4::write_raw(environment.cr4);
        Cr0::write_raw(environment.cr0);
        if environment.xcr0 != 0 {
            XCr0::write_raw(environment.xcr0);
        }
    }
}
