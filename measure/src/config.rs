//! What a launch digest depends on beside the image.

use crate::cpu::CpuModel;
use crate::kernel_hashes::KernelHashes;
use std::fmt;
use std::str::FromStr;

/// The most vCPUs that KVM gives a guest.
pub const MAX_VCPUS: u32 = 4096;

/// `SEV_FEATURES` of the VMSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestFeatures(pub u64);

impl GuestFeatures {
    /// SEV-SNP is active: always there in a launch with SEV-SNP.
    pub const SNP_ACTIVE: u64 = 1;
    /// Debug registers are swapped; hosts with Linux 6.7 and older set it unasked.
    pub const DEBUG_SWAP: u64 = 1 << 5;
    /// Secure TSC.
    pub const SECURE_TSC: u64 = 1 << 9;

    /// What KVM sets for QEMU today: SEV-SNP and nothing else.
    pub const SNP: Self = Self(Self::SNP_ACTIVE);

    /// Names of the bits, from bit 0 on (AMD publication 24593, table B-4).
    const NAMES: [&'static str; 18] = [
        "SNPActive",
        "vTOM",
        "ReflectVC",
        "RestrictedInjection",
        "AlternateInjection",
        "DebugSwap",
        "PreventHostIBS",
        "BTBIsolation",
        "VmplSSS",
        "SecureTSC",
        "VmgexitParameter",
        "bit11",
        "IbsVirtualization",
        "bit13",
        "VmsaRegProt",
        "SmtProtection",
        "bit16",
        "bit17",
    ];
}

/// The number and the names of its bits.
impl fmt::Display for GuestFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let set = |bit: &usize| self.0 >> bit & 1 == 1;
        let names: Vec<_> = (0..64)
            .filter(set)
            .map(|bit| match Self::NAMES.get(bit) {
                Some(name) => (*name).to_owned(),
                None => format!("bit{bit}"),
            })
            .collect();
        write!(f, " ({})", names.join(", "))
    }
}

/// Kinds of virtual machine monitors, which differ in the state in which vCPUs start and in the
/// order of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmmKind {
    /// QEMU with KVM.
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl VmmKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Ec2, Self::Gce];
}

impl fmt::Display for VmmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Qemu => "qemu",
            Self::Ec2 => "ec2",
            Self::Gce => "gce",
        })
    }
}

/// A text that names no kind of virtual machine monitor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown virtual machine monitor \"{0}\"; known are qemu, ec2 and gce")]
pub struct ParseVmmKindError(String);

impl FromStr for VmmKind {
    type Err = ParseVmmKindError;

    fn from_str(text: &str) -> Result<Self, ParseVmmKindError> {
        let named = |kind: &Self| kind.to_string().eq_ignore_ascii_case(text);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| ParseVmmKindError(text.to_owned()))
    }
}

/// State of the floating-point unit in which a vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FpuState {
    /// MXCSR.
    pub mxcsr: u32,
    /// Control word of the x87.
    pub fcw: u16,
}

impl FpuState {
    /// After a reset: KVM since Linux 6.10.
    pub const RESET: Self = Self {
        mxcsr: 0x1f80,
        fcw: 0x037f,
    };
    /// Zeros: KVM before Linux 6.10.
    pub const ZERO: Self = Self { mxcsr: 0, fcw: 0 };
}

impl fmt::Display for FpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MXCSR {:#06x}, FCW {:#06x}", self.mxcsr, self.fcw)
    }
}

/// The part of a vCPU's first state in which virtual machine monitors differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResetState {
    /// Attributes of the first vCPU's CS.
    pub bsp_cs_attributes: u16,
    /// Attributes of the other vCPUs' CS.
    pub ap_cs_attributes: u16,
    /// Attributes of SS.
    pub ss_attributes: u16,
    /// Attributes of TR.
    pub tr_attributes: u16,
    /// EDX; `None` is the CPU model's signature.
    pub edx: Option<u32>,
    /// The page attribute table.
    pub pat: u64,
    /// Floating point in the first vCPU.
    pub bsp_fpu: FpuState,
    /// Floating point in the others.
    pub ap_fpu: FpuState,
}

impl ResetState {
    /// The state that this kind of virtual machine monitor sets today.
    pub const fn of(vmm: VmmKind) -> Self {
        let qemu = Self {
            bsp_cs_attributes: 0x9b,
            ap_cs_attributes: 0x9b,
            ss_attributes: 0x93,
            tr_attributes: 0x8b,
            edx: None,
            pat: 0x0007_0406_0007_0406,
            bsp_fpu: FpuState::RESET,
            ap_fpu: FpuState::RESET,
        };
        // KVM's EDX for a vCPU that has been given no CPUID leaf 1.
        let cloud = Self {
            edx: Some(0x600),
            bsp_fpu: FpuState::ZERO,
            ap_fpu: FpuState::ZERO,
            ..qemu
        };
        match vmm {
            VmmKind::Qemu => qemu,
            // SS and the first vCPU's CS without the "accessed" bit, TR of the 16-bit kind.
            VmmKind::Ec2 => Self {
                bsp_cs_attributes: 0x9a,
                ss_attributes: 0x92,
                tr_attributes: 0x83,
                ..cloud
            },
            VmmKind::Gce => Self {
                pat: 0x0007_0106,
                ..cloud
            },
        }
    }
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Number of vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// CPU model.
    pub cpu: CpuModel,
    /// `SEV_FEATURES`.
    pub features: GuestFeatures,
    /// Kind of virtual machine monitor: the order and the types of pages.
    pub vmm: VmmKind,
    /// State of the vCPUs; what [`ResetState::of`] gives for `vmm` unless the host is known to
    /// differ.
    pub reset: ResetState,
    /// Kernel, initial RAM disk and command line of a direct boot with hashes.
    pub kernel: Option<KernelHashes>,
}

impl LaunchConfig {
    /// A launch without a kernel and with no features but SEV-SNP.
    pub fn new(vmm: VmmKind, vcpus: u32, cpu: CpuModel) -> Self {
        let reset = ResetState::of(vmm);
        Self {
            vcpus,
            cpu,
            features: GuestFeatures::SNP,
            vmm,
            reset,
            kernel: None,
        }
    }
}

/// A launch that no host makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An impossible number of vCPUs.
    #[error("{0} vCPUs; a guest has at least 1 and at most {MAX_VCPUS}")]
    Vcpus(u32),
    /// SEV-SNP is not among the features.
    #[error("guest features {0:#x} are without bit 0, which every SEV-SNP guest has")]
    NotSnp(u64),
}

impl LaunchConfig {
    /// Checks the number of vCPUs and the features.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(ConfigError::Vcpus(self.vcpus));
        }
        if self.features.0 & GuestFeatures::SNP_ACTIVE == 0 {
            return Err(ConfigError::NotSnp(self.features.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_to_text_and_back() {
        for kind in VmmKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("EC2".parse(), Ok(VmmKind::Ec2));
        assert!("xen".parse::<VmmKind>().is_err());
    }

    #[test]
    fn features_are_named() {
        assert_eq!(
            GuestFeatures(0x21).to_string(),
            "0x21 (SNPActive, DebugSwap)"
        );
        assert_eq!(
            GuestFeatures(1 << 63).to_string(),
            "0x8000000000000000 (bit63)"
        );
    }

    #[test]
    fn impossible_launches_are_refused() {
        let good = LaunchConfig::new(VmmKind::Qemu, MAX_VCPUS, CpuModel::MILAN);
        assert_eq!(good.check(), Ok(()));
        for vcpus in [0, MAX_VCPUS + 1] {
            let config = LaunchConfig {
                vcpus,
                ..good.clone()
            };
            assert_eq!(config.check(), Err(ConfigError::Vcpus(vcpus)));
        }
        let config = LaunchConfig {
            features: GuestFeatures(0x20),
            ..good
        };
        assert_eq!(config.check(), Err(ConfigError::NotSnp(0x20)));
    }
}
