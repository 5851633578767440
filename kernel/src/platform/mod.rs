//! The only door to what differs between machines: a plain one, an SEV-SNP guest, later TDX.
//!
//! Nothing outside the implementations asks which machine this is.

pub mod plain;
#[expect(
    unsafe_code,
    reason = "launch pages, pages shared with the host, and instructions that only such guests have"
)]
pub mod snp;

use crate::memory::{PhysAddr, PhysRange};
use crate::stop::Reason;
use crate::time::Clock;
use alloc::boxed::Box;
use cloister_boot::handover::{Handover, SEV_SNP};
use sev_snp_guest::ghcb::ApCreationError;
use sev_snp_guest::page_state;
use sev_snp_guest::report::AttestationReport;
use sev_snp_guest::rmp::RmpError;
use spin::Once;

/// What the machine does for the guest.
///
/// Values that come back from ports, device memory, CPUID and MSRs are the host's word: the caller
/// bounds them.
pub trait Platform: Sync {
    /// Name for log lines, for example `plain`.
    fn name(&self) -> &'static str;

    /// Reads a byte from an I/O port.
    fn in_u8(&self, port: u16) -> u8;
    /// Reads two bytes from an I/O port.
    fn in_u16(&self, port: u16) -> u16;
    /// Reads four bytes from an I/O port.
    fn in_u32(&self, port: u16) -> u32;
    /// Writes a byte to an I/O port.
    fn out_u8(&self, port: u16, value: u8);
    /// Writes two bytes to an I/O port.
    fn out_u16(&self, port: u16, value: u16);
    /// Writes four bytes to an I/O port.
    fn out_u32(&self, port: u16, value: u32);

    /// Reads a byte of device memory; `address` must lie in
    /// [`crate::memory::DEVICE_WINDOW`] or [`crate::memory::LOCAL_APIC`].
    fn mmio_read_u8(&self, address: PhysAddr) -> u8;
    /// Reads two bytes of device memory.
    fn mmio_read_u16(&self, address: PhysAddr) -> u16;
    /// Reads four bytes of device memory.
    fn mmio_read_u32(&self, address: PhysAddr) -> u32;
    /// Reads eight bytes of device memory.
    fn mmio_read_u64(&self, address: PhysAddr) -> u64;
    /// Writes a byte of device memory.
    fn mmio_write_u8(&self, address: PhysAddr, value: u8);
    /// Writes two bytes of device memory.
    fn mmio_write_u16(&self, address: PhysAddr, value: u16);
    /// Writes four bytes of device memory.
    fn mmio_write_u32(&self, address: PhysAddr, value: u32);
    /// Writes eight bytes of device memory.
    fn mmio_write_u64(&self, address: PhysAddr, value: u64);

    /// CPUID of a leaf and subleaf.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Cpuid;
    /// Reads a model-specific register.
    fn read_msr(&self, register: u32) -> u64;
    /// Writes a model-specific register.
    fn write_msr(&self, register: u32, value: u64);

    /// Whether the exception "VMM communication" with this error code comes from CPUID, which is the
    /// instruction that was interrupted. Only machines have it whose host may not see registers.
    fn is_intercepted_cpuid(&self, _error: u64, _instruction: &[u8]) -> bool {
        false
    }

    /// Accepts whole pages of RAM as private; done once for each page, before its first use. They are
    /// mapped as such, at their physical addresses.
    fn validate(&self, pages: PhysRange) -> Result<(), PageStateError>;
    /// Makes whole pages of RAM that were never accepted readable and writable for the host.
    fn share(&self, pages: PhysRange) -> Result<(), PageStateError>;

    /// One hardware random number, or `None` if there is no source or it had none to give.
    fn hardware_random(&self) -> Option<u64>;
    /// Evidence that binds `report_data`.
    fn attest(&self, report_data: &[u8; 64]) -> Evidence;
    /// Starts another processor.
    ///
    /// # Errors
    /// Why it was not even tried, or who refused. That it returns does not mean that the processor runs.
    fn start_cpu(&self, start: &CpuStart<'_>) -> Result<(), CpuStartError>;
    /// Tells the host the reason and ends the guest.
    fn stop(&self, reason: Reason) -> !;
}

/// The four registers that CPUID fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// What proves the guest's state to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// Nothing: the machine cannot attest.
    None,
    /// A report by the security processor.
    SevSnp(Box<AttestationReport>),
}

/// Why a page did not change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageStateError {
    /// The range is not made of whole pages, or ends beyond the addresses that exist.
    Alignment,
    /// The host refused, or the reverse map table is not as it must be.
    Refused(page_state::PageStateError),
}

/// How another processor shall begin: in 64-bit mode, interrupts off, with its number in `edi`.
#[derive(Clone, Copy, Debug)]
pub struct CpuStart<'s> {
    /// Its number, which is its APIC id. (QEMU numbers them from 0 where a machine has one socket.)
    pub number: u32,
    /// Its first 64-bit instruction.
    pub entry: PhysAddr,
    /// The end of its stack.
    pub stack_end: PhysAddr,
    /// What belongs into its CR3.
    pub page_tables: PhysAddr,
    /// Two private pages, for what the platform must leave in memory for ever.
    pub pages: PhysRange,
    /// For machines whose processors begin in 16-bit mode: code that leads to `entry` wherever below 1 MiB it lies.
    pub real_mode_code: &'s [u8],
    /// For waits.
    pub clock: Clock,
}

/// Why a processor was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CpuStartError {
    /// The machine cannot.
    Unsupported,
    /// The processor's state could not be put where it must be.
    State(RmpError),
    /// The host refused.
    Refused(ApCreationError),
}

static CURRENT: Once<&'static dyn Platform> = Once::new();

/// Takes over the machine that boot hands over, once, on the page tables that boot made. What is wrong
/// with a machine that boot was content with ends the guest.
pub fn start(handover: &Handover) {
    match handover.platform {
        SEV_SNP => snp::start(handover),
        // The hand-over is checked when there is a way to say what is wrong with it.
        _ => set(&plain::Plain),
    }
}

/// Names the platform of this machine, once, before anything uses [`current`].
fn set(platform: &'static dyn Platform) {
    CURRENT.call_once(|| platform);
}

/// The platform of this machine.
///
/// # Panics
/// If [`start`] was not called: the kernel's first step does.
pub fn current() -> &'static dyn Platform {
    *CURRENT
        .get()
        .expect("the platform is set before anything asks for it")
}
