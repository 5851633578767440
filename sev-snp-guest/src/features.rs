//! What the hypervisor says that it can do (GHCB specification, "Hypervisor feature bitmap").

use core::ops::BitOr;

/// A set of hypervisor features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HypervisorFeatures(u64);

impl HypervisorFeatures {
    /// SEV-SNP: page state changes and guest messages.
    pub const SNP: Self = Self(1);
    /// SEV-SNP AP creation.
    pub const AP_CREATION: Self = Self(1 << 1);
    /// Restricted injection.
    pub const RESTRICTED_INJECTION: Self = Self(1 << 2);
    /// Restricted injection of timer interrupts.
    pub const RESTRICTED_INJECTION_TIMER: Self = Self(1 << 3);
    /// The list of APIC ids.
    pub const APIC_ID_LIST: Self = Self(1 << 4);
    /// More than one VMPL.
    pub const MULTI_VMPL: Self = Self(1 << 5);

    /// The bitmap as it was received; unknown bits stay.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bitmap.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all features of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The features of `other` that are not in this set.
    pub const fn missing(self, other: Self) -> Self {
        Self(other.0 & !self.0)
    }

    /// Demands features.
    ///
    /// # Errors
    /// Those that are missing.
    pub const fn require(self, needed: Self) -> Result<(), MissingFeatures> {
        if self.contains(needed) {
            Ok(())
        } else {
            Err(MissingFeatures(self.missing(needed)))
        }
    }
}

impl BitOr for HypervisorFeatures {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Features that the hypervisor lacks and the guest needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingFeatures(pub HypervisorFeatures);

impl core::fmt::Display for MissingFeatures {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the hypervisor lacks features {:#x}", self.0.bits())
    }
}

impl core::error::Error for MissingFeatures {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let offered = HypervisorFeatures::from_bits(0x8000_0001);
        assert_eq!(offered.require(HypervisorFeatures::SNP), Ok(()));
        let needed = HypervisorFeatures::SNP | HypervisorFeatures::AP_CREATION;
        let missing = MissingFeatures(HypervisorFeatures::AP_CREATION);
        assert_eq!(offered.require(needed), Err(missing));
    }
}
