//! Every exception ends the guest, with a reason and the registers that say where. No memory
//! content and no general register is printed: they may hold a request.
//!
//! One comes back: "VMM communication" for a CPUID instruction, which libraries use to choose their
//! code, on a machine where the host may not see registers.

use crate::memory::{PhysAddr, cpu_areas, kernel_image};
use crate::platform;
use crate::stop::{self, Reason};
use core::{ptr, slice};
use x86_64::registers::control::Cr2;

/// What the stub and the processor pushed.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const _: () = assert!(size_of::<Frame>() == 56);

/// What the stub of "VMM communication" pushed before that.
#[repr(C)]
struct CommunicationFrame {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    others: [u64; 11],
    exception: Frame,
}

const _: () = assert!(size_of::<CommunicationFrame>() == 15 * 8 + 56);

/// Length of the CPUID instruction.
const CPUID_BYTES: u64 = 2;
/// Length of the longest instruction.
const INSTRUCTION_MAX_BYTES: u64 = 15;

const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;

const NAMES: [&str; 32] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor overrun",
    "invalid task state",
    "segment not present",
    "stack",
    "general protection",
    "page fault",
    "reserved (15)",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved (22)",
    "reserved (23)",
    "reserved (24)",
    "reserved (25)",
    "reserved (26)",
    "reserved (27)",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved (31)",
];

#[unsafe(no_mangle)]
extern "C" fn exception_entry(frame: &Frame) -> ! {
    let name = usize::try_from(frame.vector)
        .ok()
        .and_then(|vector| NAMES.get(vector));
    let address = Cr2::read_raw();
    let is_guard = |address| kernel_image::is_guard(address) || cpu_areas::is_guard(address);
    let reason = match frame.vector {
        DOUBLE_FAULT => Reason::DoubleFault,
        PAGE_FAULT if is_guard(PhysAddr::new(address)) => Reason::StackOverflow,
        PAGE_FAULT => Reason::PageFault,
        _ => Reason::Exception,
    };
    stop::stop(
        reason,
        format_args!(
            "vector {} ({}) error {:#x} rip {:#x} rsp {:#x} rflags {:#x} cs {:#x} ss {:#x} cr2 {address:#x}",
            frame.vector,
            name.unwrap_or(&"interrupt"),
            frame.error,
            frame.rip,
            frame.rsp,
            frame.rflags,
            frame.cs,
            frame.ss,
        ),
    )
}

#[unsafe(no_mangle)]
extern "C" fn vmm_communication_entry(frame: &mut CommunicationFrame) {
    let platform = platform::current();
    let exception = &mut frame.exception;
    if !platform.is_intercepted_cpuid(exception.error, instruction_at(exception.rip)) {
        exception_entry(exception);
    }
    let result = platform.cpuid(frame.rax as u32, frame.rcx as u32);
    frame.rax = result.eax.into();
    frame.rbx = result.ebx.into();
    frame.rcx = result.ecx.into();
    frame.rdx = result.edx.into();
    exception.rip += CPUID_BYTES;
}

/// The bytes of the kernel's code from `rip` on; none if it is not the kernel's.
fn instruction_at(rip: u64) -> &'static [u8] {
    let text = kernel_image::text();
    if !(text.start().as_u64()..text.end().as_u64()).contains(&rip) {
        return &[];
    }
    let length = INSTRUCTION_MAX_BYTES.min(text.end().as_u64() - rip);
    let start = ptr::with_exposed_provenance(rip as usize);
    // SAFETY: the bytes lie in the kernel's code, which is mapped for ever and never changes.
    unsafe { slice::from_raw_parts(start, length as usize) }
}
