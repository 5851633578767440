//! The save area from which another processor starts (GHCB specification, "SNP AP creation").

use crate::memory::{LARGE_PAGE_BYTES, PAGE_BYTES, PhysAddr};
use crate::platform::{CpuStart, CpuStartError};
use cloister_boot::sev;
use core::ptr;
use sev_snp_guest::address::Gfn;
use sev_snp_guest::arch::{HardwareRmp, read_sev_status};
use sev_snp_guest::ghcb::ApCreation;
use sev_snp_guest::rmp::{self, Vmpl};
use sev_snp_guest::status::SevStatus;
use sev_snp_guest::vmsa::{LongModeStart, Vmsa};
use x86_64::instructions::segmentation::{CS, SS, Segment};
use x86_64::instructions::tables::{sgdt, sidt};

/// Fills a page with the processor's first state and makes it a save area, which it stays for ever.
pub(super) fn state(start: &CpuStart<'_>) -> Result<ApCreation, CpuStartError> {
    // SAFETY: the kernel runs at CPL 0, and this module only in an SNP guest.
    let status = SevStatus::new(unsafe { read_sev_status() }, sev::SUPPORTED)
        .map_err(|_| CpuStartError::Unsupported)?;
    let (gdt, idt) = (sgdt(), sidt());
    let state = Vmsa::long_mode(&LongModeStart {
        rip: start.entry.as_u64(),
        rsp: start.stack_end.as_u64(),
        rdi: start.number.into(),
        cr3: start.page_tables.as_u64(),
        code_selector: CS::get_reg().0,
        data_selector: SS::get_reg().0,
        gdt: (gdt.base.as_u64(), gdt.limit),
        idt: (idt.base.as_u64(), idt.limit),
        vmpl: Vmpl::Vmpl0,
        status,
    });
    let place = unlike_a_large_page(start.pages.start());
    let page = Gfn::at(place.as_u64()).ok_or(CpuStartError::Unsupported)?;
    // SAFETY: 1. As above. 2. and 3. The caller gives both pages away: they are mapped private, and nothing refers to them.
    unsafe {
        ptr::with_exposed_provenance_mut::<Vmsa>(place.as_u64() as usize).write(state);
        rmp::set_vmsa(&mut HardwareRmp::new(0), page).map_err(CpuStartError::State)?;
    }
    Ok(ApCreation {
        apic_id: start.number,
        vmpl: Vmpl::Vmpl0,
        vmsa: page,
        sev_features: status.vmsa_sev_features(),
    })
}

/// The first of two pages, or the second if the first begins a page of 2 MiB: hosts refuse save areas there, because of
/// an erratum.
fn unlike_a_large_page(first: PhysAddr) -> PhysAddr {
    if first.is_aligned(LARGE_PAGE_BYTES) {
        PhysAddr::new(first.as_u64() + PAGE_BYTES)
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_save_area_begins_a_large_page() {
        let at = |address| unlike_a_large_page(PhysAddr::new(address)).as_u64();
        assert_eq!(at(0x40_0000), 0x40_1000);
        assert_eq!(at(0x40_1000), 0x40_1000);
    }
}
