//! What boot needs of the machine that it finds itself on, as data: the kernel of a machine with
//! memory encryption is loaded by the same code, with another mask and another way to accept pages.

use crate::address::PhysRange;
use crate::handover;
use crate::layout::{self, console};
use crate::snp;
use crate::stop::Reason;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::{fmt, ptr};
use sev_snp_guest::cpuid::CpuidResult;

/// Data port of the first serial port.
pub(crate) const SERIAL: u16 = 0x3f8;
/// Port of QEMU's `isa-debug-exit` device.
pub(crate) const DEBUG_EXIT: u16 = 0xf4;

/// A machine.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Its number in the hand-over.
    pub(crate) platform: u32,
    /// Bits to set in every page-table entry of private memory.
    pub(crate) encryption_mask: u64,
    /// Pages of boot's RAM that the host reads and writes too.
    pub(crate) host_pages: PhysRange,
    /// Page below 1 MiB in which other processors begin, if they do.
    pub(crate) start_page: PhysRange,
    /// Accepts whole pages of RAM as private, before their first use, or ends the guest.
    pub(crate) accept: fn(PhysRange),
    /// CPUID of a leaf and subleaf.
    pub(crate) cpuid: fn(u32, u32) -> CpuidResult,
}

impl Machine {
    /// The machine whose private memory is marked by `encryption_mask`, as the reset code found it. One
    /// that is not as it should be ends here.
    pub(crate) fn with_mask(encryption_mask: u64) -> Self {
        if encryption_mask == 0 {
            return Self {
                platform: handover::PLAIN,
                encryption_mask,
                host_pages: PhysRange::default(),
                start_page: layout::START_PAGE,
                accept: |_| {},
                cpuid: plain_cpuid,
            };
        }
        snp::start(encryption_mask);
        Self {
            platform: handover::SEV_SNP,
            encryption_mask,
            host_pages: layout::HOST_PAGES,
            start_page: PhysRange::default(),
            accept: snp::accept,
            cpuid: snp::cpuid,
        }
    }

    /// Turns on what the processor has of vectors beyond SSE: AVX, AVX-512, AMX.
    pub(crate) fn enable_vectors(self) {
        const XSAVE: u32 = 1 << 26;
        const VECTOR_STATE: u32 = 0x6_00e7;
        const OSXSAVE: u64 = 1 << 18;
        if (self.cpuid)(1, 0).ecx & XSAVE == 0 {
            return;
        }
        let components = (self.cpuid)(0xd, 0).eax & VECTOR_STATE;
        // SAFETY: the processor has the instruction and these components; no code depends on their being off.
        unsafe {
            asm!(
                "mov {cr4}, cr4",
                "or {cr4}, {bit}",
                "mov cr4, {cr4}",
                "xsetbv",
                cr4 = out(reg) _,
                bit = in(reg) OSXSAVE,
                in("eax") components,
                in("edx") 0,
                in("ecx") 0,
                options(nomem, nostack)
            );
        }
    }
}

fn plain_cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let result = __cpuid_count(leaf, subleaf);
    CpuidResult {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
        edx: result.edx,
    }
}

/// Prints to the serial port, without waiting: QEMU's port always takes a byte.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match console() {
            console::PORTS => text.bytes().for_each(plain_out),
            console::GHCB => snp::print(text),
            _ => {}
        }
        Ok(())
    }
}

fn plain_out(byte: u8) {
    // SAFETY: the port reaches the serial device, which touches no memory.
    unsafe { asm!("out dx, al", in("dx") SERIAL, in("al") byte, options(nomem, nostack)) };
}

/// Prints the reason and ends the guest.
pub(crate) fn stop(reason: Reason, detail: fmt::Arguments<'_>) -> ! {
    use fmt::Write;
    // Writing to the port cannot fail.
    let _ = writeln!(
        Serial,
        "cloister: stopped: {:02x} {}: {detail}",
        reason.code(),
        reason.name()
    );
    match console() {
        console::PORTS => plain_exit(reason),
        console::GHCB => snp::debug_exit(reason.code()),
        _ => {}
    }
    snp::terminate_with(reason)
}

fn plain_exit(reason: Reason) -> ! {
    // SAFETY: the port ends QEMU, or belongs to no device.
    unsafe {
        asm!("out dx, eax", in("dx") DEBUG_EXIT, in("eax") u32::from(reason.code()), options(nomem, nostack));
    };
    loop {
        // SAFETY: stopping the processor touches no memory.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// How words reach the host, see [`console`](crate::layout::console).
fn console() -> u32 {
    // SAFETY: the word lies in boot's RAM, the reset code wrote it, and it is reached in no other way.
    unsafe { console_word().read_volatile() }
}

/// Changes how words reach the host.
pub(crate) fn set_console(value: u32) {
    // SAFETY: as above.
    unsafe { console_word().write_volatile(value) }
}

fn console_word() -> *mut u32 {
    ptr::with_exposed_provenance_mut(layout::CONSOLE.as_u64() as usize)
}
