//! A kernel of its own for the tests: it breaks the one rule that the host names in the file
//! `opt/cloister/selftest`. An image that serves is built without this module.

use crate::arch::tables;
use crate::device::fw_cfg::FwCfg;
use crate::memory::kernel_image;
use crate::stop::{self, Reason};
use core::arch::asm;
use core::hint::black_box;
use core::ptr;

const FILE: &str = "opt/cloister/selftest";

/// Breaks the rule that the host names; returns if it names none.
pub fn run(device: FwCfg<'_>) {
    let mut buffer = [0; 32];
    let Ok(Some(file)) = device.find(FILE) else {
        return;
    };
    let Ok(name) = device.read_small(file, &mut buffer) else {
        return;
    };
    // SAFETY: none of these is safe, which is the point: each must end in an exception.
    unsafe {
        match &*name {
            b"null-read" => drop(black_box(
                ptr::with_exposed_provenance::<u8>(8).read_volatile(),
            )),
            b"text-write" => write(kernel_image::text().start().as_u64()),
            b"rodata-write" => write(kernel_image::rodata().start().as_u64()),
            b"rom-write" => write(0xffff_0000),
            b"data-execute" => execute(kernel_image::data().start().as_u64()),
            b"heap-execute" => execute(0x80_0000),
            b"stack-overflow" => drop(black_box(overflow(0))),
            b"invalid-opcode" => asm!("ud2"),
            b"divide" => asm!("xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _),
            b"interrupt" => asm!("int 0x80"),
            b"double-fault" => double_fault(),
            b"panic" => panic!("never printed"),
            _ => {}
        }
    }
    stop::stop(
        Reason::Done,
        format_args!("the rule could be broken, or is not known"),
    );
}

/// # Safety
/// The address must not hold anything that is used.
unsafe fn write(address: u64) {
    // SAFETY: the caller's.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(address as usize).write_volatile(0xc3) }
}

/// # Safety
/// The address must hold no code.
unsafe fn execute(address: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) }
}

#[expect(unconditional_recursion, reason = "it must run out of stack")]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[(depth % 64) as usize]
}

/// Lets a page fault find no gate: its delivery fails, and that is a double fault.
fn double_fault() {
    tables::remove_page_fault_gate();
    // SAFETY: reading the null page faults and does nothing else.
    unsafe { black_box(ptr::with_exposed_provenance::<u8>(8).read_volatile()) };
}
