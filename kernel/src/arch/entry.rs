//! The kernel's first instructions and its stacks.

use crate::start;
use cloister_boot::handover::Handover;
use core::arch::global_asm;
use core::ptr;

/// Bytes of the stack that everything but exceptions runs on. Cryptography with ML-KEM takes about
/// 100 KiB of it.
const MAIN_STACK_BYTES: usize = 1 << 20;
/// Bytes of each stack for exceptions.
const EXCEPTION_STACK_BYTES: usize = 32 << 10;

global_asm!(
    ".pushsection .text.kernel_start, \"ax\"",
    ".globl kernel_start",
    // Boot jumps here: interrupts off, vector state usable, `rdi` = hand-over.
    "kernel_start:",
    "    lea kernel_main_stack_end(%rip), %rsp",
    "    xor %ebp, %ebp",
    "    call kernel_entry",
    "    ud2",
    ".popsection",
    ".pushsection .main_stack, \"aw\", @nobits",
    "    .p2align 12",
    "    .skip {main}",
    ".popsection",
    ".pushsection .exception_stack, \"aw\", @nobits",
    "    .p2align 12",
    "    .skip {exception}",
    ".popsection",
    ".pushsection .double_fault_stack, \"aw\", @nobits",
    "    .p2align 12",
    "    .skip {exception}",
    ".popsection",
    main = const MAIN_STACK_BYTES,
    exception = const EXCEPTION_STACK_BYTES,
    options(att_syntax)
);

#[unsafe(no_mangle)]
extern "C" fn kernel_entry(handover: *const Handover) -> ! {
    // SAFETY: boot wrote the structure, keeps the page mapped, and nothing changes it. It is
    // copied, because the kernel's own tables do not map boot's memory.
    let handover = unsafe { ptr::read(handover) };
    start::kernel_main(&handover)
}
