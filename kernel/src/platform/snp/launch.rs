//! What boot and the launch left for the kernel in boot's RAM, taken once, while boot's page tables are
//! in force.

use super::{Host, pause, terminate};
use crate::memory::PhysRange;
use crate::stop::Reason;
use cloister_boot::layout;
use core::ptr;
use sev_snp_guest::address::{Gfn, PAGE_BYTES};
use sev_snp_guest::arch::{HardwareHypervisor, SharedPages};
use sev_snp_guest::cpuid::{CpuidError, CpuidTable};
use sev_snp_guest::ghcb::{Ghcb, msr};
use sev_snp_guest::message::GuestChannel;
use sev_snp_guest::rmp::Vmpl;
use sev_snp_guest::secrets::{Secrets, SecretsError};

/// The GHCB and the pages for messages, in this order in `pages`.
pub(super) fn host(pages: PhysRange) -> Host {
    let page = |index: u64| {
        let address = pages.start().as_u64() + index * PAGE_BYTES as u64;
        let frame = Gfn::at(address).filter(|_| address < pages.end().as_u64());
        let Some(frame) = frame else {
            terminate(Reason::BadHandover);
        };
        let base = ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: 1. Boot made the pages shared; its tables and the kernel's map them so, for ever. 2. Boot
        // uses them no more, and each gets one value here, once. 3. One page.
        unsafe { SharedPages::new(base, frame, 1) }
    };
    let (ghcb, request, response) = (page(0), page(1), page(2));
    let ghcb = Ghcb::register(hypervisor(), ghcb)
        .unwrap_or_else(|error| msr::terminate(&mut hypervisor(), error));
    Host {
        ghcb,
        request,
        response,
        channel: None,
    }
}

/// The checked CPUID page.
pub(super) fn cpuid_table() -> Result<CpuidTable, CpuidError> {
    let place = layout::CPUID_PAGE.start().as_u64() as usize;
    // SAFETY: boot's tables map the page, private; nothing writes to it after the launch.
    let page = unsafe { ptr::with_exposed_provenance::<[u8; PAGE_BYTES]>(place).read() };
    CpuidTable::parse(&page)
}

/// The channel to the security processor, if the launch left a key. All keys are wiped from the page.
pub(super) fn channel() -> Result<Option<GuestChannel>, SecretsError> {
    let place = layout::SECRETS_PAGE.start().as_u64() as usize;
    // SAFETY: boot's tables map the page, private and writable; nothing else refers to it.
    let page = unsafe { &mut *ptr::with_exposed_provenance_mut::<[u8; PAGE_BYTES]>(place) };
    let mut secrets = Secrets::take(page)?;
    let count = secrets.message_count(Vmpl::Vmpl0);
    let key = secrets.take_vmpck(Vmpl::Vmpl0);
    Ok(key.map(|key| GuestChannel::new(key, count)))
}

pub(super) fn hypervisor() -> HardwareHypervisor {
    // SAFETY: the kernel runs at CPL 0 with interrupts off, and this module only in an SNP guest.
    unsafe { HardwareHypervisor::new(pause) }
}
