//! Every exception ends the guest, with a reason and the registers that say where. No memory
//! content and no general register is printed: they may hold a request.

use crate::memory::{PhysAddr, kernel_image};
use crate::stop::{self, Reason};
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
    let reason = match frame.vector {
        DOUBLE_FAULT => Reason::DoubleFault,
        PAGE_FAULT if kernel_image::is_guard(PhysAddr::new(address)) => Reason::StackOverflow,
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
