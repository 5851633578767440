//! What an SEV-SNP guest finds out about its machine before it does anything else, and what it refuses.
//!
//! Everything that decides is here and is tested on the host; `snp` fetches the values.

use crate::stop::Reason;
use sev_snp_guest::cpuid::CpuidTable;
use sev_snp_guest::features::{HypervisorFeatures, MissingFeatures};
use sev_snp_guest::ghcb::msr::SevInfo;
use sev_snp_guest::status::{CBit, CBitError, SevFeatures, SevStatus, StatusError};

/// Features of SEV that the guest was written for, beside those that need no help: none.
pub const SUPPORTED: SevFeatures = SevFeatures::NONE;
/// Bits of the low half of SEV_STATUS that the reset code refuses: all but SEV, SEV-ES, SEV-SNP, and the
/// features that are supported or need no help.
pub const REFUSED_LOW: u32 = !((0b111 | SUPPORTED.bits() | SevFeatures::TRANSPARENT.bits()) as u32);
/// CPUID leaf of memory encryption.
const LEAF_ENCRYPTION: u32 = 0x8000_001f;
/// EAX of that leaf: SEV, SEV-ES, SEV-SNP.
const SEV_ES_SNP: u32 = 1 << 1 | 1 << 3 | 1 << 4;

/// Why the guest does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SevError {
    /// SEV_STATUS is refused.
    Status(StatusError),
    /// The hypervisor lacks features.
    Hypervisor(MissingFeatures),
    /// The CPUID page and the hypervisor differ about the C-bit.
    CBit(CBitError),
    /// The encryption mask in use is not the one that they agree on.
    Mask {
        /// In use since paging is on.
        in_use: u64,
        /// Agreed on.
        agreed: u64,
    },
    /// The CPUID page does not describe an SEV-SNP guest: EAX of leaf 0x8000001F.
    Leaf(u32),
}

impl SevError {
    /// The reason that the guest stops with.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Status(_) | Self::Hypervisor(_) => Reason::SevUnsupported,
            Self::CBit(_) | Self::Mask { .. } => Reason::EncryptionBit,
            Self::Leaf(_) => Reason::CpuidPage,
        }
    }
}

/// What the machine says of itself.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// SEV_STATUS, which only the processor writes.
    pub status: u64,
    /// The hypervisor's word.
    pub info: SevInfo,
    /// The hypervisor's features, by its word.
    pub features: HypervisorFeatures,
    /// The page that the security processor checked at launch.
    pub cpuid: &'a CpuidTable,
    /// The encryption mask that paging was turned on with, and that found again what was written without paging.
    pub mask: u64,
}

impl Machine<'_> {
    /// Checks that this is an SNP guest that we know how to run.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self) -> Result<(), SevError> {
        SevStatus::new(self.status, SUPPORTED).map_err(SevError::Status)?;
        self.features
            .require(HypervisorFeatures::SNP)
            .map_err(SevError::Hypervisor)?;
        let leaf = self.cpuid.get(LEAF_ENCRYPTION, 0);
        if leaf.eax & SEV_ES_SNP != SEV_ES_SNP {
            return Err(SevError::Leaf(leaf.eax));
        }
        let agreed = CBit::agreed(leaf.ebx, self.info.c_bit)
            .map_err(SevError::CBit)?
            .mask();
        if agreed == self.mask {
            Ok(())
        } else {
            let in_use = self.mask;
            Err(SevError::Mask { in_use, agreed })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: usize = 4096;

    /// A page with one entry: leaf 0x8000001F.
    fn cpuid(eax: u32, ebx: u32) -> CpuidTable {
        let mut page = [0; PAGE_BYTES];
        page[0] = 1;
        page[0x10..0x14].copy_from_slice(&LEAF_ENCRYPTION.to_le_bytes());
        page[0x28..0x2c].copy_from_slice(&eax.to_le_bytes());
        page[0x2c..0x30].copy_from_slice(&ebx.to_le_bytes());
        CpuidTable::parse(&page).unwrap()
    }

    fn machine(cpuid: &CpuidTable) -> Machine<'_> {
        Machine {
            status: 0b111,
            info: SevInfo {
                max_version: 2,
                min_version: 1,
                c_bit: 51,
            },
            features: HypervisorFeatures::SNP,
            cpuid,
            mask: 1 << 51,
        }
    }

    #[test]
    fn an_snp_guest_passes() {
        let table = cpuid(0x1b, 51 | 1 << 6);
        assert_eq!(machine(&table).check(), Ok(()));
        let isolated = Machine {
            status: 0b111 | SevFeatures::BTB_ISOLATION.bits(),
            ..machine(&table)
        };
        assert_eq!(isolated.check(), Ok(()));
    }

    #[test]
    fn every_feature_without_support_is_refused() {
        let table = cpuid(0x1b, 51);
        for bit in 3..64 {
            let status = 0b111 | 1 << bit;
            let transparent = SevFeatures::TRANSPARENT.bits() >> bit & 1 != 0;
            let outcome = Machine {
                status,
                ..machine(&table)
            }
            .check();
            assert_eq!(outcome.is_ok(), transparent, "bit {bit}");
            if bit < 32 {
                assert_eq!(REFUSED_LOW >> bit & 1 == 0, transparent, "bit {bit}");
            }
        }
        assert_eq!(REFUSED_LOW & 0b111, 0);
    }

    #[test]
    fn less_than_snp_is_refused() {
        let table = cpuid(0x1b, 51);
        for status in 0..0b111 {
            let outcome = Machine {
                status,
                ..machine(&table)
            }
            .check();
            assert_eq!(outcome, Err(SevError::Status(StatusError::NotSnp(status))));
            assert_eq!(outcome.unwrap_err().reason(), Reason::SevUnsupported);
        }
        let table = cpuid(0x0b, 51);
        assert_eq!(machine(&table).check(), Err(SevError::Leaf(0x0b)));
    }

    #[test]
    fn the_sources_of_the_mask_must_agree() {
        let table = cpuid(0x1b, 47);
        let outcome = machine(&table).check();
        assert_eq!(outcome, Err(SevError::CBit(CBitError::Differ(47, 51))));
        let table = cpuid(0x1b, 51);
        let other_mask = Machine {
            mask: 1 << 50,
            ..machine(&table)
        };
        let error = other_mask.check().unwrap_err();
        assert_eq!(error.reason(), Reason::EncryptionBit);
    }

    #[test]
    fn a_hypervisor_without_snp_is_refused() {
        let table = cpuid(0x1b, 51);
        let outcome = Machine {
            features: HypervisorFeatures::AP_CREATION,
            ..machine(&table)
        }
        .check();
        assert!(matches!(outcome, Err(SevError::Hypervisor(_))));
    }
}
