//! A machine without memory encryption: QEMU as it is.

use super::{CpuStart, CpuStartError, Cpuid, Evidence, PageStateError, Platform};
use crate::arch::{cpu, port};
use crate::device::apic;
use crate::memory::{PAGE_BYTES, PhysAddr, PhysRange, device, start_page};
use crate::stop::Reason;
use cloister_boot::layout;

/// Port of QEMU's `isa-debug-exit` device; a write of `v` ends QEMU with status `2 * v + 1`.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// The plain platform.
pub struct Plain;

impl Platform for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn in_u8(&self, port: u16) -> u8 {
        port::in_u8(port)
    }

    fn in_u16(&self, port: u16) -> u16 {
        port::in_u16(port)
    }

    fn in_u32(&self, port: u16) -> u32 {
        port::in_u32(port)
    }

    fn out_u8(&self, port: u16, value: u8) {
        port::out_u8(port, value);
    }

    fn out_u16(&self, port: u16, value: u16) {
        port::out_u16(port, value);
    }

    fn out_u32(&self, port: u16, value: u32) {
        port::out_u32(port, value);
    }

    fn mmio_read_u8(&self, address: PhysAddr) -> u8 {
        device::read(address)
    }

    fn mmio_read_u16(&self, address: PhysAddr) -> u16 {
        device::read(address)
    }

    fn mmio_read_u32(&self, address: PhysAddr) -> u32 {
        device::read(address)
    }

    fn mmio_read_u64(&self, address: PhysAddr) -> u64 {
        device::read(address)
    }

    fn mmio_write_u8(&self, address: PhysAddr, value: u8) {
        device::write(address, value);
    }

    fn mmio_write_u16(&self, address: PhysAddr, value: u16) {
        device::write(address, value);
    }

    fn mmio_write_u32(&self, address: PhysAddr, value: u32) {
        device::write(address, value);
    }

    fn mmio_write_u64(&self, address: PhysAddr, value: u64) {
        device::write(address, value);
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Cpuid {
        cpu::cpuid(leaf, subleaf)
    }

    fn read_msr(&self, register: u32) -> u64 {
        cpu::read_msr(register)
    }

    fn write_msr(&self, register: u32, value: u64) {
        cpu::write_msr(register, value);
    }

    fn validate(&self, pages: PhysRange) -> Result<(), PageStateError> {
        whole_pages(pages)
    }

    fn share(&self, pages: PhysRange) -> Result<(), PageStateError> {
        whole_pages(pages)
    }

    fn hardware_random(&self) -> Option<u64> {
        cpu::hardware_random(self)
    }

    fn attest(&self, _report_data: &[u8; 64]) -> Evidence {
        Evidence::None
    }

    fn start_cpu(&self, start: &CpuStart<'_>) -> Result<(), CpuStartError> {
        place_real_mode_code(start.real_mode_code);
        apic::start_cpu(self, start.number, layout::START_PAGE.start(), start.clock);
        Ok(())
    }

    fn stop(&self, reason: Reason) -> ! {
        port::out_u32(DEBUG_EXIT_PORT, u32::from(reason.code()));
        cpu::halt()
    }
}

#[expect(unsafe_code, reason = "a page below 1 MiB is filled")]
fn place_real_mode_code(code: &[u8]) {
    // SAFETY: boot named this page to the kernel because the machine is a plain one, so the page tables map it, the
    // memory map has RAM there, and nothing else uses it.
    unsafe { start_page::place(layout::START_PAGE, code) };
}

/// Every page is private and shared at once here; only the contract of the call is checked.
fn whole_pages(pages: PhysRange) -> Result<(), PageStateError> {
    if pages.is_aligned(PAGE_BYTES) {
        Ok(())
    } else {
        Err(PageStateError::Alignment)
    }
}
