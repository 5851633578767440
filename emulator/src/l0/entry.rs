//! L0's first instructions, its stacks, and what it does when one of its own instructions faults.

use crate::log::{self, End, log};
use crate::{cpu, fw_cfg, launch, machine, selftest, smp, vcpu};
use core::arch::{asm, global_asm};
use core::ptr;

/// CPUs that a guest can have.
pub(crate) const MAX_CPUS: usize = 2;
const STACK_BYTES: usize = 256 << 10;
/// PAE, OSFXSR, OSXMMEXCPT, LA57, OSXSAVE.
const CR4: u32 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 18;
/// Where the other CPUs' first code is copied to.
pub(crate) const AP_CODE: u32 = 0x8000;

global_asm!(
    include_str!("start.s"),
    cr4 = const CR4,
    ap_code = const AP_CODE,
    stack_bytes = const STACK_BYTES,
    cpus = const MAX_CPUS,
    options(att_syntax)
);

// One stub per exception: a zero where the processor pushes no error code, then the number.
global_asm!(
    ".pushsection .text.l0_vectors, \"ax\"",
    ".globl l0_vectors",
    ".p2align 4",
    "l0_vectors:",
    ".set vector, 0",
    ".rept 32",
    ".p2align 4",
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17",
    ".else",
    "push $0",
    ".endif",
    "push $vector",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call l0_exception",
    ".set vector, vector + 1",
    ".endr",
    ".popsection",
    options(att_syntax)
);

unsafe extern "C" {
    static l0_vectors: [[u8; VECTOR_BYTES]; 32];
}
/// Bytes between two stubs.
const VECTOR_BYTES: usize = 32;

/// What lies on the stack after an exception.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
}

#[unsafe(no_mangle)]
extern "C" fn l0_exception(frame: &Frame) -> ! {
    let address: u64;
    // SAFETY: reading CR2 changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    log::diagnose(format_args!(
        "L0 itself faulted: vector {} error {:#x} rip {:#x} rsp {:#x} cr2 {address:#x}",
        frame.vector, frame.error, frame.rip, frame.rsp
    ))
}

/// Code and data segment, as the start code has them.
static GDT: [u64; 3] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Lets this CPU use L0's tables above 4 GiB.
fn load_tables() {
    static IDT: spin::Once<[[u64; 2]; 32]> = spin::Once::new();
    let idt = IDT.call_once(|| {
        core::array::from_fn(|vector| {
            let address = (&raw const l0_vectors).addr() as u64 + (vector * VECTOR_BYTES) as u64;
            let low = address & 0xffff | 8 << 16 | 0x8e00 << 32 | (address >> 16 & 0xffff) << 48;
            [low, address >> 32]
        })
    });
    let pointer = |base: *const u8, bytes: usize| TablePointer {
        limit: bytes as u16 - 1,
        base: base.addr() as u64,
    };
    let gdt = pointer(ptr::from_ref(&GDT).cast(), size_of_val(&GDT));
    let idt = pointer(ptr::from_ref(idt).cast(), size_of_val(idt));
    // SAFETY: both tables are static, and the segments are those that are loaded.
    unsafe { asm!("lgdt [{}]", "lidt [{}]", in(reg) &raw const gdt, in(reg) &raw const idt) };
}

#[unsafe(no_mangle)]
extern "C" fn l0_entry(number: u32) -> ! {
    load_tables();
    vcpu::enable(number as usize);
    if number > 0 {
        smp::wait_for_work(number as usize)
    }
    log!("Cloister's SNP platform in software: a guest that runs here has not run on SNP");
    let options = fw_cfg::options();
    selftest::run();
    if options.selftest_only {
        log::end(End::Done)
    }
    smp::start_others();
    let started = cpu::ticks();
    launch::launch(options);
    log!(
        "launch took {} M cycles",
        (cpu::ticks() - started) / 1_000_000
    );
    if options.launch_only {
        log::end(End::Done)
    }
    machine::run(0)
}
