//! Processor instructions that are not Rust operations.

use crate::memory::{PhysAddr, PhysRange, cpu_areas};
use crate::platform::{Cpuid, Platform};
use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdrand64_step, _rdseed64_step, _rdtsc};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::XCr0;

/// Attempts at one random number before the source counts as empty.
const RANDOM_TRIES: u32 = 64;

const LEAF1_ECX_RDRAND: u32 = 1 << 30;
const LEAF7_EBX_RDSEED: u32 = 1 << 18;

/// CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let result = __cpuid_count(leaf, subleaf);
    Cpuid {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    }
}

/// The timestamp counter, in ticks of a frequency that only calibration tells.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction and it changes nothing.
    unsafe { _rdtsc() }
}

/// Reads a model-specific register. One that does not exist raises #GP, which ends the guest.
pub fn read_msr(register: u32) -> u64 {
    // SAFETY: reading a register changes no memory.
    unsafe { Msr::new(register).read() }
}

/// Writes a model-specific register.
pub fn write_msr(register: u32, value: u64) {
    // SAFETY: the callers, all in `platform` and `arch`, write only registers whose effect is
    // theirs to decide (GHCB address, EFER bits).
    unsafe { Msr::new(register).write(value) }
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// The number of the processor that calls: 0 for the first one. Told by the stack, of which each has its own.
pub fn number() -> u32 {
    let here = 0_u8;
    cpu_areas::owner(PhysAddr::new((&raw const here).addr() as u64))
}

/// An area for XRSTOR in which no component is present: all of them get their initial values. MXCSR alone is always
/// read from it.
#[repr(C, align(64))]
struct InitialVectors {
    before: [u8; 24],
    mxcsr: u32,
    after: [u8; 548],
}

static INITIAL_VECTORS: InitialVectors = InitialVectors {
    before: [0; 24],
    mxcsr: 0x1f80,
    after: [0; 548],
};

/// Wipes what this processor left behind: on `stack`, which it runs on, below its present frame, and in its vector
/// registers. Nothing happens if it runs on another stack.
pub fn wipe_traces(stack: PhysRange) {
    let here = 0_u8;
    let here = PhysAddr::new((&raw const here).addr() as u64);
    if !(stack.start()..stack.end()).contains(&here) {
        return;
    }
    // SAFETY: the processor runs on this stack, so everything from its start up to RSP is memory of its own that nobody
    // uses: no exception stack is there, and without `nostack` no red zone either.
    unsafe {
        asm!(
            "mov rcx, rsp",
            "sub rcx, rdi",
            "shr rcx, 3",
            "rep stosq",
            inout("rdi") stack.start().as_u64() => _,
            out("rcx") _,
            in("rax") 0,
        );
    }
    if has_os_xsave() {
        // SAFETY: the area is aligned and well-formed, and the compiler expects nothing in the registers afterwards.
        // MXCSR and the x87 control word get the values that they were started with.
        unsafe {
            asm!(
                "xrstor64 [{}]",
                in(reg) &INITIAL_VECTORS,
                in("eax") u32::MAX,
                in("edx") u32::MAX,
                clobber_abi("C"),
                options(nostack, readonly),
            );
        }
    }
}

/// Turns on what the processor has against running or reading what it should not: supervisor-mode
/// execution and access prevention, user-mode instruction prevention, write protection.
pub fn harden(platform: &dyn Platform) {
    let known = platform.cpuid(0, 0).eax >= 7;
    let has = platform.cpuid(7, 0);
    let mut flags = Cr4Flags::empty();
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        known && has.ebx & 1 << 7 != 0,
    );
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        known && has.ebx & 1 << 20 != 0,
    );
    flags.set(
        Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        known && has.ecx & 1 << 2 != 0,
    );
    // SAFETY: no page is a user page, so the first two forbid nothing that the kernel does; the
    // third concerns user mode only. Write protection is what boot set already.
    unsafe {
        Cr4::update(|cr4| cr4.insert(flags));
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
    }
}

/// Whether pages can have 1 GiB.
pub fn has_huge_pages(platform: &dyn Platform) -> bool {
    let known = platform.cpuid(0x8000_0000, 0).eax >= 0x8000_0001;
    known && platform.cpuid(0x8000_0001, 0).edx & 1 << 26 != 0
}

/// CR4.OSXSAVE.
pub fn has_os_xsave() -> bool {
    Cr4::read().contains(Cr4Flags::OSXSAVE)
}

/// XCR0, or its value at reset while it cannot be read.
pub fn xcr0() -> u64 {
    if has_os_xsave() { XCr0::read_raw() } else { 1 }
}

/// A number from RDSEED, or from RDRAND where only that exists or RDSEED is exhausted.
pub fn hardware_random(platform: &dyn Platform) -> Option<u64> {
    let known = platform.cpuid(0, 0).eax >= 7;
    let has_rdseed = known && platform.cpuid(7, 0).ebx & LEAF7_EBX_RDSEED != 0;
    let has_rdrand = platform.cpuid(1, 0).ecx & LEAF1_ECX_RDRAND != 0;
    let seed = || {
        let mut value = 0;
        // SAFETY: only called where CPUID shows the instruction.
        (unsafe { _rdseed64_step(&mut value) } == 1).then_some(value)
    };
    let random = || {
        let mut value = 0;
        // SAFETY: only called where CPUID shows the instruction.
        (unsafe { _rdrand64_step(&mut value) } == 1).then_some(value)
    };
    let from_seed = if has_rdseed { retry(seed) } else { None };
    from_seed.or_else(|| if has_rdrand { retry(random) } else { None })
}

fn retry(source: impl Fn() -> Option<u64>) -> Option<u64> {
    (0..RANDOM_TRIES).find_map(|_| {
        let value = source();
        if value.is_none() {
            core::hint::spin_loop();
        }
        value
    })
}
