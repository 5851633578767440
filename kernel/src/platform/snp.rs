//! An SEV-SNP guest. Ports, device registers and MSRs are calls through the GHCB, CPUID is read from
//! the page that the security processor checked at launch, and pages change their state by PVALIDATE.
//!
//! Boot has checked the machine (`cloister_boot::sev`) and shared the pages that calls travel by.

mod launch;
mod processor;

use super::{CpuStart, CpuStartError, Cpuid, Evidence, PageStateError, Platform};
use crate::arch::cpu;
use crate::memory::{PAGE_BYTES, PhysAddr, PhysRange, device};
use crate::stop::{self, Reason};
use alloc::boxed::Box;
use cloister_boot::handover::Handover;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use sev_snp_guest::address::{FrameRange, Gfn};
use sev_snp_guest::arch::{HardwareHypervisor, HardwareRmp, SharedPages};
use sev_snp_guest::cpuid::{CpuState, CpuidTable};
use sev_snp_guest::ghcb::{Ghcb, IoSize, MmioSize, NaeError, PageState, msr};
use sev_snp_guest::message::{GuestChannel, GuestLink, KeySelect, MessageError, ReportRequest};
use sev_snp_guest::page_state;
use sev_snp_guest::report::AttestationReport;
use sev_snp_guest::rmp::Vmpl;
use sev_snp_guest::termination::Reason as Cause;
use sev_snp_guest::vc::{self, Intercepted, Operation};
use spin::{Mutex, Once};

/// Port of QEMU's `isa-debug-exit` device, where there is one.
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// About a second on most machines: how long a security processor that is busy is left alone.
const PAUSE_TICKS: u64 = 2_000_000_000;

/// The SEV-SNP platform.
pub struct Snp {
    host: Mutex<Option<Host>>,
    cpuid: Once<CpuidTable>,
    /// Set when a call has failed: a second failure, while the first is being told, ends the guest at once.
    has_failed: AtomicBool,
}

/// The ways to the host and, through it, to the security processor.
struct Host {
    ghcb: Ghcb<HardwareHypervisor, SharedPages>,
    request: SharedPages,
    response: SharedPages,
    channel: Option<GuestChannel>,
}

static SNP: Snp = Snp {
    host: Mutex::new(None),
    cpuid: Once::new(),
    has_failed: AtomicBool::new(false),
};

/// Takes the machine over: the GHCB first, so that what goes wrong can be told.
pub(super) fn start(handover: &Handover) {
    *SNP.host.lock() = Some(launch::host(handover.host_pages));
    super::set(&SNP);
    let table = launch::cpuid_table().unwrap_or_else(|error| {
        stop::stop(Reason::CpuidPage, format_args!("{error}"));
    });
    SNP.cpuid.call_once(|| table);
    let channel = launch::channel().unwrap_or_else(|error| {
        stop::stop(Reason::SecretsPage, format_args!("{error}"));
    });
    SNP.with_host(|host| host.channel = channel);
}

impl Snp {
    /// The host, if nobody is in the middle of a call to it: that would be an exception inside of one.
    fn with_host<R>(&self, call: impl FnOnce(&mut Host) -> R) -> R {
        match self.host.try_lock().as_deref_mut() {
            Some(Some(host)) => call(host),
            _ => terminate(Reason::Exception),
        }
    }

    /// A call through the GHCB that must succeed.
    fn call<R>(
        &self,
        call: impl FnOnce(&mut Ghcb<HardwareHypervisor, SharedPages>) -> Result<R, NaeError>,
    ) -> R {
        let outcome = self.with_host(|host| call(&mut host.ghcb));
        outcome.unwrap_or_else(|error| self.fail(Reason::HostProtocol, format_args!("{error}")))
    }

    fn fail(&self, reason: Reason, detail: fmt::Arguments<'_>) -> ! {
        if self.has_failed.swap(true, Ordering::Relaxed) {
            terminate(reason)
        }
        stop::stop(reason, detail)
    }

    fn io_read(&self, port: u16, size: IoSize) -> u32 {
        self.call(|ghcb| ghcb.io_read(port, size))
    }

    fn io_write(&self, port: u16, size: IoSize, value: u32) {
        self.call(|ghcb| ghcb.io_write(port, size, value));
    }

    fn mmio_read(&self, address: PhysAddr, size: MmioSize) -> u64 {
        device::check(address, size as u64);
        self.call(|ghcb| ghcb.mmio_read(address.as_u64(), size))
    }

    fn mmio_write(&self, address: PhysAddr, size: MmioSize, value: u64) {
        device::check(address, size as u64);
        self.call(|ghcb| ghcb.mmio_write(address.as_u64(), size, value));
    }
}

impl Host {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<AttestationReport, MessageError> {
        let channel = self.channel.as_mut().ok_or(MessageError::Closed)?;
        let mut link = GuestLink {
            ghcb: &mut self.ghcb,
            request: &mut self.request,
            response: &mut self.response,
        };
        let request = ReportRequest {
            report_data: *report_data,
            vmpl: Vmpl::Vmpl0,
            key: KeySelect::VlekOrVcek,
        };
        channel.report(&mut link, &request)
    }
}

impl Platform for Snp {
    fn name(&self) -> &'static str {
        "sev-snp"
    }

    fn in_u8(&self, port: u16) -> u8 {
        self.io_read(port, IoSize::Byte) as u8
    }

    fn in_u16(&self, port: u16) -> u16 {
        self.io_read(port, IoSize::Word) as u16
    }

    fn in_u32(&self, port: u16) -> u32 {
        self.io_read(port, IoSize::Dword)
    }

    fn out_u8(&self, port: u16, value: u8) {
        self.io_write(port, IoSize::Byte, value.into());
    }

    fn out_u16(&self, port: u16, value: u16) {
        self.io_write(port, IoSize::Word, value.into());
    }

    fn out_u32(&self, port: u16, value: u32) {
        self.io_write(port, IoSize::Dword, value);
    }

    fn mmio_read_u8(&self, address: PhysAddr) -> u8 {
        self.mmio_read(address, MmioSize::Byte) as u8
    }

    fn mmio_read_u16(&self, address: PhysAddr) -> u16 {
        self.mmio_read(address, MmioSize::Word) as u16
    }

    fn mmio_read_u32(&self, address: PhysAddr) -> u32 {
        self.mmio_read(address, MmioSize::Dword) as u32
    }

    fn mmio_read_u64(&self, address: PhysAddr) -> u64 {
        self.mmio_read(address, MmioSize::Qword)
    }

    fn mmio_write_u8(&self, address: PhysAddr, value: u8) {
        self.mmio_write(address, MmioSize::Byte, value.into());
    }

    fn mmio_write_u16(&self, address: PhysAddr, value: u16) {
        self.mmio_write(address, MmioSize::Word, value.into());
    }

    fn mmio_write_u32(&self, address: PhysAddr, value: u32) {
        self.mmio_write(address, MmioSize::Dword, value.into());
    }

    fn mmio_write_u64(&self, address: PhysAddr, value: u64) {
        self.mmio_write(address, MmioSize::Qword, value);
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Cpuid {
        let state = CpuState {
            xcr0: cpu::xcr0(),
            os_xsave: cpu::has_os_xsave(),
            ..CpuState::RESET
        };
        let table = self.cpuid.get().expect("read when the platform starts");
        match table.cpuid(leaf, subleaf, &state) {
            Ok(result) => Cpuid {
                eax: result.eax,
                ebx: result.ebx,
                ecx: result.ecx,
                edx: result.edx,
            },
            Err(error) => self.fail(Reason::CpuidPage, format_args!("{error}")),
        }
    }

    fn read_msr(&self, register: u32) -> u64 {
        self.call(|ghcb| ghcb.read_msr(register))
    }

    fn write_msr(&self, register: u32, value: u64) {
        self.call(|ghcb| ghcb.write_msr(register, value));
    }

    fn is_intercepted_cpuid(&self, error: u64, instruction: &[u8]) -> bool {
        matches!(
            vc::decode(error, instruction),
            Ok(Intercepted {
                operation: Operation::Cpuid,
                ..
            })
        )
    }

    fn validate(&self, pages: PhysRange) -> Result<(), PageStateError> {
        let frames = frames(pages)?;
        // SAFETY: 1. This platform exists in SNP guests only. 2. and 3. The caller's promise: mapped
        // private at their physical addresses, and not used yet.
        let mut rmp = unsafe { HardwareRmp::new(0) };
        self.with_host(|host| page_state::make_private(&mut host.ghcb, &mut rmp, frames))
            .map_err(PageStateError::Refused)
    }

    fn share(&self, pages: PhysRange) -> Result<(), PageStateError> {
        let frames = frames(pages)?;
        // Nothing is rescinded: the pages were never validated.
        self.with_host(|host| host.ghcb.page_state_change(frames, PageState::Shared))
            .map_err(|error| PageStateError::Refused(page_state::PageStateError::Psc(error)))
    }

    fn hardware_random(&self) -> Option<u64> {
        cpu::hardware_random(self)
    }

    fn attest(&self, report_data: &[u8; 64]) -> Evidence {
        match self.with_host(|host| host.report(report_data)) {
            Ok(report) => Evidence::SevSnp(Box::new(report)),
            Err(error) => self.fail(Reason::Attestation, format_args!("{error}")),
        }
    }

    fn start_cpu(&self, start: &CpuStart<'_>) -> Result<(), CpuStartError> {
        let creation = processor::state(start)?;
        self.with_host(|host| host.ghcb.create_ap(&creation))
            .map_err(CpuStartError::Refused)
    }

    fn stop(&self, reason: Reason) -> ! {
        let code = u32::from(reason.code());
        // Where there is no such device nothing happens.
        let _ = self.with_host(|host| host.ghcb.io_write(DEBUG_EXIT_PORT, IoSize::Dword, code));
        terminate(reason)
    }
}

/// Ends the guest without a word, by the MSR protocol.
fn terminate(reason: Reason) -> ! {
    msr::terminate(&mut launch::hypervisor(), Cause::Program(reason.code()))
}

/// Waits until the security processor may be free again.
fn pause() {
    let start = cpu::ticks();
    while cpu::ticks().wrapping_sub(start) < PAUSE_TICKS {
        core::hint::spin_loop();
    }
}

/// Whole pages as the ABI counts them.
fn frames(pages: PhysRange) -> Result<FrameRange, PageStateError> {
    let first = Gfn::at(pages.start().as_u64()).filter(|_| pages.is_aligned(PAGE_BYTES));
    first
        .and_then(|first| FrameRange::new(first, pages.len() / PAGE_BYTES))
        .ok_or(PageStateError::Alignment)
}

#[cfg(test)]
mod tests;
