//! Processor instructions that are not Rust operations.

use cloister_emulator::cpuid::Registers;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// Reads a byte from a port.
pub(crate) fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: a port reaches a device of QEMU, none of which L0's own memory depends on. (DMA that a
    // guest starts can reach L0; the guest under test is not L0's adversary.)
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
    value
}

/// Reads two bytes from a port.
pub(crate) fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: see `in8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
    value
}

/// Reads four bytes from a port.
pub(crate) fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: see `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value
}

/// Writes a byte to a port.
pub(crate) fn out8(port: u16, value: u8) {
    // SAFETY: see `in8`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) };
}

/// Writes two bytes to a port.
pub(crate) fn out16(port: u16, value: u16) {
    // SAFETY: see `in8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack)) };
}

/// Writes four bytes to a port.
pub(crate) fn out32(port: u16, value: u32) {
    // SAFETY: see `in8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

/// CPUID as this processor answers it.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Registers {
    let result = __cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Reads a model-specific register that exists.
pub(crate) fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading a register changes no memory; one that does not exist raises #GP, which ends L0.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register that exists.
pub(crate) fn write_msr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: L0 writes only registers of SVM and, for the guest, of the interrupt controller and
    // memory types. None of them moves L0's memory.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack)) };
}

/// The timestamp counter.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction and it changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Sets XCR0. The value must hold bit 0 and only bits that CPUID offers.
pub(crate) fn set_xcr0(value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: CR4.OSXSAVE is set by the start code; the caller vouches for the value.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nostack)) };
}

/// Halts this processor for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: the processor waits; what wakes it changes nothing.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
