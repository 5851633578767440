//! SEV_STATUS and the C-bit (AMD64 APM volume 2, section 15.34).

use core::fmt;
use core::ops::BitOr;

/// The three bits that make an SNP guest.
const SEV_ES_SNP: u64 = 0b111;

/// A set of SEV features: bits of SEV_STATUS above the lowest three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevFeatures(u64);

impl SevFeatures {
    /// No features.
    pub const NONE: Self = Self(0);
    /// Virtual top of memory.
    pub const VTOM: Self = Self(1 << 3);
    /// #VC is reflected to VMPL 0.
    pub const REFLECT_VC: Self = Self(1 << 4);
    /// Restricted injection.
    pub const RESTRICTED_INJECTION: Self = Self(1 << 5);
    /// Alternate injection.
    pub const ALTERNATE_INJECTION: Self = Self(1 << 6);
    /// Debug registers are swapped by hardware.
    pub const DEBUG_SWAP: Self = Self(1 << 7);
    /// The host cannot use instruction-based sampling on the guest.
    pub const PREVENT_HOST_IBS: Self = Self(1 << 8);
    /// Branch predictions of the host and other guests do not reach the guest.
    pub const BTB_ISOLATION: Self = Self(1 << 9);
    /// Supervisor shadow stacks are kept apart by VMPL.
    pub const VMPL_SSS: Self = Self(1 << 10);
    /// The timestamp counter is not the host's.
    pub const SECURE_TSC: Self = Self(1 << 11);
    /// VMGEXIT takes a parameter.
    pub const VMGEXIT_PARAMETER: Self = Self(1 << 12);
    /// The guest has instruction-based sampling.
    pub const IBS_VIRTUALIZATION: Self = Self(1 << 14);
    /// Registers in the save area are obscured.
    pub const VMSA_REGISTER_PROTECTION: Self = Self(1 << 16);
    /// The sibling thread runs nothing else.
    pub const SMT_PROTECTION: Self = Self(1 << 17);

    /// Features that work without the guest's help.
    pub const TRANSPARENT: Self = Self(
        Self::PREVENT_HOST_IBS.0
            | Self::BTB_ISOLATION.0
            | Self::IBS_VIRTUALIZATION.0
            | Self::SMT_PROTECTION.0,
    );

    /// The bits, at their places in SEV_STATUS.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all features of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for SevFeatures {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why SEV_STATUS was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusError {
    /// Not all of SEV, SEV-ES and SEV-SNP are active: the register's value.
    NotSnp(u64),
    /// Features are active that the guest has no support for, or that are not known: these bits.
    Unsupported(u64),
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSnp(status) => write!(f, "SEV_STATUS {status:#x}: SEV-SNP is not active"),
            Self::Unsupported(bits) => {
                write!(f, "SEV features {bits:#x} are active and not supported")
            }
        }
    }
}

impl core::error::Error for StatusError {}

/// SEV_STATUS of an SNP guest, all of whose active features the guest supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevStatus(u64);

impl SevStatus {
    /// Checks the register's value. `supported` are features that the guest was written for; those that need no help
    /// are allowed anyway.
    ///
    /// # Errors
    /// No SNP guest, or a feature beyond those.
    pub const fn new(value: u64, supported: SevFeatures) -> Result<Self, StatusError> {
        if value & SEV_ES_SNP != SEV_ES_SNP {
            return Err(StatusError::NotSnp(value));
        }
        let allowed = SEV_ES_SNP | supported.0 | SevFeatures::TRANSPARENT.0;
        match value & !allowed {
            0 => Ok(Self(value)),
            bits => Err(StatusError::Unsupported(bits)),
        }
    }

    /// The active features.
    pub const fn features(self) -> SevFeatures {
        SevFeatures(self.0 & !SEV_ES_SNP)
    }

    /// SEV_FEATURES as it stands in the save area, for other processors of the same guest.
    pub const fn vmsa_sev_features(self) -> u64 {
        self.0 >> 2
    }
}

/// The lowest and the highest position that a C-bit can have: above 32-bit addresses, within 52-bit ones.
const C_BIT_POSITIONS: core::ops::RangeInclusive<u8> = 32..=51;

/// Two sources differ about the C-bit, or it is at a place where it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CBitError {
    /// The two positions.
    Differ(u8, u8),
    /// No address has this bit to spare.
    Position(u8),
}

impl fmt::Display for CBitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differ(one, other) => write!(f, "the C-bit is bit {one}, or {other}"),
            Self::Position(bit) => write!(f, "the C-bit cannot be bit {bit}"),
        }
    }
}

impl core::error::Error for CBitError {}

/// The position of the C-bit, from two sources that agree.
///
/// A guest that believes a wrong position writes secrets into shared pages, so one source that the host controls is
/// not enough: take CPUID 0x8000001F from the firmware-checked CPUID page, and another one that was measured with the
/// image, tried out, or asked of the hypervisor ([`SevInfo`](crate::ghcb::msr::SevInfo)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CBit(u8);

impl CBit {
    /// Compares EBX of CPUID leaf 0x8000001F (position in bits 5:0) with another source.
    ///
    /// # Errors
    /// They differ, or the position is not possible.
    pub fn agreed(leaf_8000001f_ebx: u32, other: u8) -> Result<Self, CBitError> {
        let position = (leaf_8000001f_ebx & 0x3f) as u8;
        if position != other {
            return Err(CBitError::Differ(position, other));
        }
        if C_BIT_POSITIONS.contains(&position) {
            Ok(Self(position))
        } else {
            Err(CBitError::Position(position))
        }
    }

    /// The position of the bit.
    pub const fn position(self) -> u8 {
        self.0
    }

    /// The bit itself, for page table entries of private memory.
    pub const fn mask(self) -> u64 {
        1 << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_snp_guest_has_all_three_bits() {
        for value in [0, 1, 3, 4, 5, 6] {
            assert_eq!(
                SevStatus::new(value, SevFeatures::NONE),
                Err(StatusError::NotSnp(value))
            );
        }
        let status = SevStatus::new(7, SevFeatures::NONE).unwrap();
        assert_eq!(status.vmsa_sev_features(), 1);
        assert_eq!(status.features(), SevFeatures::NONE);
    }

    #[test]
    fn every_bit_without_support_is_refused() {
        for bit in 3..64 {
            let value = 7 | 1 << bit;
            let transparent = matches!(bit, 8 | 9 | 14 | 17);
            let answer = SevStatus::new(value, SevFeatures::NONE);
            assert_eq!(answer.is_ok(), transparent, "bit {bit}");
            if !transparent {
                assert_eq!(answer, Err(StatusError::Unsupported(1 << bit)));
            }
        }
    }

    #[test]
    fn a_supported_feature_is_accepted() {
        let supported = SevFeatures::DEBUG_SWAP | SevFeatures::SECURE_TSC;
        let status = SevStatus::new(0x87, supported).unwrap();
        assert!(status.features().contains(SevFeatures::DEBUG_SWAP));
        assert!(!status.features().contains(SevFeatures::SECURE_TSC));
        assert_eq!(status.vmsa_sev_features(), 0x21);
        assert_eq!(
            SevStatus::new(0x8f, supported),
            Err(StatusError::Unsupported(8))
        );
    }

    #[test]
    fn the_c_bit_needs_two_sources_that_agree() {
        let milan = 51 | 1 << 6 | 15 << 12;
        assert_eq!(CBit::agreed(milan, 51).map(CBit::mask), Ok(1 << 51));
        assert_eq!(CBit::agreed(milan, 47), Err(CBitError::Differ(51, 47)));
        // What a source returns that knows nothing.
        assert_eq!(CBit::agreed(0, 0), Err(CBitError::Position(0)));
        assert_eq!(CBit::agreed(52, 52), Err(CBitError::Position(52)));
    }
}
