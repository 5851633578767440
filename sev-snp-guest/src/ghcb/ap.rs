//! Starting other processors (GHCB specification, "SNP AP creation").

use super::{Ghcb, NaeError};
use crate::address::Gfn;
use crate::ghcb::Field;
use crate::hypervisor::{Hypervisor, SharedMemory};
use crate::rmp::Vmpl;
use core::fmt;

const AP_RESET_HOLD: u64 = 0x8000_0004;
const AP_CREATION: u64 = 0x8000_0013;

const CREATE: u64 = 1;
const DESTROY: u64 = 2;

/// A processor to start from a save area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApCreation {
    /// The processor.
    pub apic_id: u32,
    /// The VMPL that the save area is for.
    pub vmpl: Vmpl,
    /// The page with the save area; it has its VMSA bit set ([`rmp::set_vmsa`](crate::rmp::set_vmsa)).
    pub vmsa: Gfn,
    /// SEV_FEATURES as in the save area.
    pub sev_features: u64,
}

/// Why a processor was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApCreationError {
    /// The save area begins at a multiple of 2 MiB. Hosts refuse that because of an erratum: hardware then takes the
    /// VMSA for the whole 2 MiB page.
    LargePageAligned,
    /// The event failed.
    Nae(NaeError),
}

impl fmt::Display for ApCreationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LargePageAligned => f.write_str("the save area is aligned to 2 MiB"),
            Self::Nae(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ApCreationError {}

impl<H: Hypervisor, M: SharedMemory> Ghcb<H, M> {
    /// Starts a processor at once.
    ///
    /// # Errors
    /// A save area at a multiple of 2 MiB, or the hypervisor's refusal.
    pub fn create_ap(&mut self, creation: &ApCreation) -> Result<(), ApCreationError> {
        if creation.vmsa.is_large_aligned() {
            return Err(ApCreationError::LargePageAligned);
        }
        let info_1 = ap_info(CREATE, creation.vmpl, creation.apic_id);
        let inputs = [(Field::Rax, creation.sev_features)];
        self.exit(AP_CREATION, info_1, creation.vmsa.address(), &inputs)
            .map(drop)
            .map_err(ApCreationError::Nae)
    }

    /// Takes a processor out of use, so that its save area may be changed or freed.
    ///
    /// # Errors
    /// The hypervisor's refusal.
    pub fn destroy_ap(&mut self, apic_id: u32, vmpl: Vmpl) -> Result<(), NaeError> {
        self.exit(AP_CREATION, ap_info(DESTROY, vmpl, apic_id), 0, &[])
            .map(drop)
    }

    /// Waits to be woken by a start-up IPI. Whether that is what ended the wait.
    ///
    /// # Errors
    /// The hypervisor's refusal.
    pub fn ap_reset_hold(&mut self) -> Result<bool, NaeError> {
        Ok(self.exit(AP_RESET_HOLD, 0, 0, &[])?.info_2()? != 0)
    }
}

/// Operation in bits 15:0, VMPL in 19:16, APIC id in 63:32.
fn ap_info(operation: u64, vmpl: Vmpl, apic_id: u32) -> u64 {
    operation | (vmpl as u64) << 16 | u64::from(apic_id) << 32
}
