//! A kernel of its own for the tests: it breaks the one rule that the host names in the file
//! `opt/cloister/selftest`. An image that serves is built without this module.

mod crypto;

use crate::arch::tables;
use crate::device::fw_cfg::FwCfg;
use crate::memory::kernel_image;
use crate::smp;
use crate::stop::{self, Reason};
use core::arch::asm;
use core::hint::{self, black_box};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "opt/cloister/selftest";

/// What a rule's name begins with if another processor shall break it.
const ON_ANOTHER_CPU: &[u8] = b"other-";

/// Breaks the rule that the host names; returns if it names none, or one for another processor.
pub fn run(device: FwCfg<'_>) {
    let mut buffer = [0; 32];
    let name = named(device, &mut buffer);
    if !name.is_empty() && !name.starts_with(ON_ANOTHER_CPU) {
        break_rule(name);
    }
}

/// The same for another processor, which the first one waits for until it has come and then until its part is done.
pub fn run_on_another_cpu(device: FwCfg<'_>) {
    let mut buffer = [0; 32];
    if let Some(name) = named(device, &mut buffer).strip_prefix(ON_ANOTHER_CPU) {
        let workers = smp::workers();
        // Of one processor nobody else comes.
        let has_come = AtomicBool::new(workers.count() == 1);
        workers.run(&|worker| match worker {
            0 => {
                while !has_come.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            }
            1 => {
                has_come.store(true, Ordering::Relaxed);
                break_rule(name);
            }
            _ => {}
        });
        break_rule(b"");
    }
}

/// The name that the host gives; empty if it gives none.
fn named<'b>(device: FwCfg<'_>, buffer: &'b mut [u8]) -> &'b [u8] {
    let file = device.find(FILE).ok().flatten();
    let name = file.and_then(|file| device.read_small(file, buffer).ok());
    name.map_or(&[], |name| name)
}

fn break_rule(name: &[u8]) -> ! {
    // SAFETY: none of these is safe, which is the point: each must end in an exception.
    unsafe {
        match name {
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
            b"cryptography" => cryptography(),
            _ => {}
        }
    }
    stop::stop(
        Reason::Done,
        format_args!("the rule could be broken, or is not known"),
    );
}

/// No rule: what has C and assembly in it does here what it does elsewhere, with random numbers from the kernel.
fn cryptography() -> ! {
    let outcome = match crypto::run() {
        Ok(()) => "cryptography works",
        Err(_) => "cryptography is broken",
    };
    stop::stop(Reason::Done, format_args!("{outcome}"));
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
