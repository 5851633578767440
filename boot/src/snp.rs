//! Boot as an SEV-SNP guest: the checks before anything is trusted, the GHCB, and pages made private.
//!
//! Nothing is remembered between calls but the word at [`layout::CONSOLE`]: each call registers the
//! GHCB anew, which is one exit more and lets a panic print.

use crate::address::{PAGE_BYTES, PhysAddr, PhysRange};
use crate::layout::{self, console};
use crate::machine::{self, stop};
use crate::sev::Machine;
use crate::stop::Reason;
use core::ptr;
use sev_snp_guest::address::{FrameRange, Gfn, PAGE_BYTES as PAGE};
use sev_snp_guest::arch::{HardwareHypervisor, HardwareRmp, SharedPages, read_sev_status};
use sev_snp_guest::cpuid::{CpuState, CpuidResult, CpuidTable};
use sev_snp_guest::ghcb::{Ghcb, IoSize, msr};
use sev_snp_guest::termination::{Reason as Cause, Termination};
use sev_snp_guest::{page_state, rmp};

/// Checks that this is an SNP guest that we know how to run, and opens the way to the host.
pub(crate) fn start(mask: u64) {
    let mut hypervisor = hypervisor();
    let info = msr::negotiate(&mut hypervisor).unwrap_or_else(|error| terminate(error));
    for page in frames(layout::HOST_PAGES).pages() {
        page_state::make_page_shared(&mut hypervisor, &mut rmp(), page.0)
            .unwrap_or_else(|error| terminate(error));
    }
    let features = msr::features(&mut hypervisor).unwrap_or_else(|error| terminate(error));
    open_ghcb();
    machine::set_console(console::GHCB);
    print("\n");
    let cpuid = cpuid_table();
    let found = Machine {
        // SAFETY: the reset code read the register already.
        status: unsafe { read_sev_status() },
        info,
        features,
        cpuid: &cpuid,
        mask,
    };
    if let Err(error) = found.check() {
        stop(error.reason(), format_args!("{error:?}"));
    }
    prove_vmpl0();
}

/// Makes pages private: asks for them, and validates each.
pub(crate) fn accept(pages: PhysRange) {
    if let Err(error) = page_state::make_private(&mut open_ghcb(), &mut rmp(), frames(pages)) {
        stop(Reason::PageState, format_args!("{pages:?}: {error}"));
    }
}

/// CPUID by the page that was checked at launch.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    let result = cpuid_table().cpuid(leaf, subleaf, &CpuState::RESET);
    result.unwrap_or_else(|error| stop(Reason::CpuidPage, format_args!("{error}")))
}

/// Prints through the GHCB.
pub(crate) fn print(text: &str) {
    let mut ghcb = open_ghcb();
    for byte in text.bytes() {
        // The host that does not print it hurts nobody but itself.
        let _ = ghcb.io_write(machine::SERIAL, IoSize::Byte, u32::from(byte));
    }
}

/// Writes to the port that ends QEMU.
pub(crate) fn debug_exit(code: u8) {
    let _ = open_ghcb().io_write(machine::DEBUG_EXIT, IoSize::Dword, u32::from(code));
}

/// Ends the guest by the MSR protocol.
pub(crate) fn terminate(cause: impl Into<Termination>) -> ! {
    msr::terminate(&mut hypervisor(), cause)
}

/// Ends the guest with a reason of our own.
pub(crate) fn terminate_with(reason: Reason) -> ! {
    terminate(Cause::Program(reason.code()))
}

fn prove_vmpl0() {
    let page = frames(layout::HANDOVER).pages().next();
    let (page, _) = page.expect("the hand-over has a page");
    match rmp::runs_at_vmpl0(&mut rmp(), page) {
        Ok(true) => {}
        Ok(false) => stop(
            Reason::NotVmpl0,
            format_args!("the guest does not run at VMPL 0"),
        ),
        Err(error) => stop(Reason::NotVmpl0, format_args!("RMPADJUST: {error}")),
    }
}

fn cpuid_table() -> CpuidTable {
    let place = layout::CPUID_PAGE.start().as_u64() as usize;
    // SAFETY: the page is part of boot's RAM, filled at launch, mapped private by the reset code, and
    // nothing writes to it.
    let page = unsafe { ptr::with_exposed_provenance::<[u8; PAGE]>(place).read() };
    CpuidTable::parse(&page)
        .unwrap_or_else(|error| stop(Reason::CpuidPage, format_args!("{error}")))
}

fn open_ghcb() -> Ghcb<HardwareHypervisor, SharedPages> {
    let offset = layout::HOST_PAGES.start().as_u64() - layout::BOOT_RAM.start().as_u64();
    let address = layout::UNMASKED_ALIAS.as_u64() + offset;
    let base = ptr::with_exposed_provenance_mut(address as usize);
    let (page, _) = frames(layout::HOST_PAGES)
        .pages()
        .next()
        .expect("there are such pages");
    // SAFETY: 1. The reset code maps the alias readable, writable and without mask. 2. Each function here
    // has one such value at a time, and none outlives it. 3. One page.
    let memory = unsafe { SharedPages::new(base, page, 1) };
    Ghcb::register(hypervisor(), memory).unwrap_or_else(|error| terminate(error))
}

fn hypervisor() -> HardwareHypervisor {
    // SAFETY: boot runs at CPL 0 with interrupts off, and this module only in an SNP guest.
    unsafe { HardwareHypervisor::new(core::hint::spin_loop) }
}

fn rmp() -> HardwareRmp {
    // SAFETY: 1. As above. 2. The reset code maps boot's RAM and the kernel window private, at their
    // addresses. 3. Callers change pages that nothing refers to yet, or keep their content.
    unsafe { HardwareRmp::new(0) }
}

/// Whole pages as the ABI counts them.
fn frames(pages: PhysRange) -> FrameRange {
    let first = |address: PhysAddr| Gfn::at(address.as_u64());
    first(pages.start())
        .and_then(|first| FrameRange::new(first, pages.len() / PAGE_BYTES))
        .expect("boot's ranges are whole pages below 4 GiB")
}
