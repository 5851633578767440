//! L0: runs one SNP guest on QEMU's emulated SVM. See the crate's README for how to start it.
//!
//! It starts in low memory, moves above 4 GiB at once, and leaves low memory to the guest.

#![no_std]
#![no_main]

mod cpu;
mod devices;
mod entry;
mod events;
mod exits;
mod fw_cfg;
mod hostile;
mod instructions;
mod launch;
mod log;
mod machine;
mod memory;
mod msrs;
mod page_state;
mod psp;
mod selftest;
mod signer;
mod smp;
mod vcpu;

// Only its memory functions are used.
use cloister_boot as _;
use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::diagnose(format_args!("L0 itself is wrong: {info}"))
}

/// L0 has no heap. Code that it is linked with names one.
struct NoHeap;

// SAFETY: it never hands out memory, so there is nothing to get wrong.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;
