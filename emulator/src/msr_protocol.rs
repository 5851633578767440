//! The GHCB MSR protocol (GHCB specification, 2.3.1): requests that fit in one register.

use crate::page::C_BIT_POSITION;

/// The register of the protocol, which also holds the GHCB's address.
pub const GHCB_MSR: u32 = 0xc001_0130;
/// `SEV_STATUS`.
pub const SEV_STATUS_MSR: u32 = 0xc001_0131;
/// SEV, SEV-ES and SEV-SNP are active.
pub const SEV_STATUS: u64 = 7;
/// The protocol's version that the guest may use: the least and the greatest.
const VERSIONS: (u64, u64) = (1, 2);
/// SNP and AP creation.
pub const HYPERVISOR_FEATURES: u64 = 3;
/// "No preferred GHCB", in bits 12 and up.
const NO_PREFERENCE: u64 = !0xfff;

/// What the guest asks for with a value in the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SEV information.
    SevInfo,
    /// One register (0 EAX to 3 EDX) of a CPUID leaf.
    Cpuid {
        /// The leaf.
        leaf: u32,
        /// The register's number.
        register: u32,
    },
    /// Wait for a start signal.
    ApResetHold,
    /// Where the hypervisor would like the GHCB.
    PreferredGhcb,
    /// Register this address.
    RegisterGhcb {
        /// The GHCB's guest-physical address.
        gpa: u64,
    },
    /// Change the state of one page.
    PageState {
        /// The page's guest-physical address.
        gpa: u64,
        /// 1 private, 2 shared.
        operation: u8,
    },
    /// The hypervisor's features.
    Features,
    /// End the guest.
    Terminate {
        /// Who defines the codes.
        set: u8,
        /// The reason.
        code: u8,
    },
    /// Handle the GHCB at this address.
    Ghcb {
        /// Its guest-physical address.
        gpa: u64,
    },
    /// Something that this emulator does not know.
    Unknown(u64),
}

impl Request {
    /// Decodes a value.
    pub fn decode(value: u64) -> Self {
        let frame = value & !0xfff;
        match value & 0xfff {
            0x000 => Self::Ghcb { gpa: frame },
            0x002 => Self::SevInfo,
            0x004 => Self::Cpuid {
                leaf: (value >> 32) as u32,
                register: (value >> 30) as u32 & 3,
            },
            0x006 => Self::ApResetHold,
            0x010 => Self::PreferredGhcb,
            0x012 => Self::RegisterGhcb { gpa: frame },
            0x014 => Self::PageState {
                gpa: frame & 0x000f_ffff_ffff_ffff,
                operation: (value >> 52) as u8 & 15,
            },
            0x080 => Self::Features,
            0x100 => Self::Terminate {
                set: (value >> 12) as u8 & 15,
                code: (value >> 16) as u8,
            },
            _ => Self::Unknown(value),
        }
    }
}

/// Answer to [`Request::SevInfo`].
pub fn sev_info() -> u64 {
    VERSIONS.1 << 48 | VERSIONS.0 << 32 | u64::from(C_BIT_POSITION) << 24 | 0x001
}

/// Answer to [`Request::Cpuid`].
pub fn cpuid(register: u32, value: u32) -> u64 {
    u64::from(value) << 32 | u64::from(register & 3) << 30 | 0x005
}

/// Answer to [`Request::ApResetHold`] when the CPU was woken.
pub fn woken() -> u64 {
    1 << 12 | 0x007
}

/// Answer to [`Request::PreferredGhcb`].
pub fn no_preferred_ghcb() -> u64 {
    NO_PREFERENCE | 0x011
}

/// Answer to [`Request::RegisterGhcb`].
pub fn registered(gpa: u64) -> u64 {
    gpa | 0x013
}

/// Answer to [`Request::PageState`].
pub fn page_state(error: u32) -> u64 {
    u64::from(error) << 32 | 0x015
}

/// Answer to [`Request::Features`].
pub fn features() -> u64 {
    HYPERVISOR_FEATURES << 12 | 0x081
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_specification_are_understood() {
        let decode = Request::decode;
        assert_eq!(decode(0x80_9000), Request::Ghcb { gpa: 0x80_9000 });
        let cpuid = Request::Cpuid {
            leaf: 0x8000_001f,
            register: 1,
        };
        assert_eq!(decode(0x8000_001f_4000_0004), cpuid);
        let shared = Request::PageState {
            gpa: 0x80_9000,
            operation: 2,
        };
        assert_eq!(decode(0x0020_0000_0080_9014), shared);
        assert_eq!(decode(0x3_2100), Request::Terminate { set: 2, code: 3 });
        assert_eq!(decode(0x0ff), Request::Unknown(0x0ff));
    }

    #[test]
    fn answers_are_those_of_the_specification() {
        assert_eq!(sev_info(), 0x0002_0001_3300_0001);
        assert_eq!(features(), 0x3081);
        assert_eq!(super::cpuid(2, 0x1234), 0x0000_1234_8000_0005);
        assert_eq!(no_preferred_ghcb(), 0xffff_ffff_ffff_f011);
    }
}
