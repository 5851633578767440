//! Why a digest differs: which other inputs would give it.

use crate::config::{FpuState, GuestFeatures, LaunchConfig, ResetState, VmmKind};
use crate::cpu::CpuModel;
use crate::digest::LaunchDigest;
use crate::kernel_hashes::KernelHashes;
use crate::page::Measurement;
use crate::rom::Rom;
use crate::snp::{MeasureError, VcpuPages, add_sections, measure_image};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use std::fmt;

/// What to try. Everything is combined with everything: the work grows with the product.
#[derive(Clone, Debug)]
pub struct SearchSpace<'a> {
    /// Other images, by name.
    pub roms: Vec<(String, &'a [u8])>,
    /// All numbers of vCPUs from 1 to this.
    pub max_vcpus: u32,
    /// CPU models.
    pub cpus: Vec<CpuModel>,
    /// Guest features.
    pub features: Vec<GuestFeatures>,
    /// Kinds of virtual machine monitors.
    pub vmms: Vec<VmmKind>,
    /// Kernels, and none.
    pub kernels: Vec<Option<KernelHashes>>,
}

impl SearchSpace<'_> {
    /// What commonly goes wrong: up to 128 vCPUs, all named CPU models, features with each known
    /// bit, all virtual machine monitors, with the expected kernel and without one.
    pub fn around(expected: &LaunchConfig) -> Self {
        let mut cpus = vec![expected.cpu];
        cpus.extend(CpuModel::ALL.into_iter().filter(|cpu| *cpu != expected.cpu));
        let mut kernels = vec![expected.kernel];
        kernels.extend(expected.kernel.is_some().then_some(None));
        Self {
            roms: vec![],
            max_vcpus: expected.vcpus.max(128),
            cpus,
            features: features_around(expected.features),
            vmms: VmmKind::ALL.to_vec(),
            kernels,
        }
    }
}

/// The expected features, and each combination of DebugSwap and Secure TSC with one other bit at
/// most.
fn features_around(expected: GuestFeatures) -> Vec<GuestFeatures> {
    /// `SEV_FEATURES` that are defined so far.
    const KNOWN_BITS: u32 = 18;
    let mut all = vec![expected.0];
    for often in [0, GuestFeatures::DEBUG_SWAP, GuestFeatures::SECURE_TSC] {
        for other in [0, GuestFeatures::DEBUG_SWAP] {
            let bits = (0..KNOWN_BITS).map(|bit| 1 << bit);
            all.extend(bits.map(|bit| GuestFeatures::SNP_ACTIVE | often | other | bit));
        }
    }
    let first = all[0];
    all.sort_by_key(|features| (*features != first, features.count_ones(), *features));
    all.dedup();
    all.into_iter().map(GuestFeatures).collect()
}

/// An input that is another than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Another image: the one with this name.
    Rom(String),
    /// Another number of vCPUs.
    Vcpus(u32, u32),
    /// Another CPU model.
    Cpu(CpuModel, CpuModel),
    /// Other guest features.
    Features(GuestFeatures, GuestFeatures),
    /// Another kind of virtual machine monitor.
    Vmm(VmmKind, VmmKind),
    /// Another state of the first vCPU's floating-point unit: the age of the host's kernel.
    BspFpu(FpuState, FpuState),
    /// Another state of the other vCPUs' floating-point units: the age of the host's kernel or of
    /// QEMU.
    ApFpu(FpuState, FpuState),
    /// Other registers of the vCPUs: what this kind of virtual machine monitor sets today, instead
    /// of what the expected launch gives.
    OtherRegisters,
    /// Launched without the expected kernel.
    NoKernel,
    /// Launched with another kernel, initial RAM disk or command line.
    OtherKernel,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rom(name) => write!(f, "image {name} instead of the given one"),
            Self::Vcpus(expected, found) => write!(f, "{found} vCPUs instead of {expected}"),
            Self::Cpu(expected, found) => write!(f, "CPU model {found} instead of {expected}"),
            Self::Features(expected, found) => {
                write!(f, "guest features {found} instead of {expected}")
            }
            Self::Vmm(expected, found) => write!(f, "launched by {found} instead of {expected}"),
            Self::BspFpu(expected, found) => {
                write!(
                    f,
                    "first vCPU with {found} instead of {expected} (host's kernel)"
                )
            }
            Self::ApFpu(expected, found) => {
                write!(
                    f,
                    "other vCPUs with {found} instead of {expected} (host's kernel, QEMU)"
                )
            }
            Self::OtherRegisters => {
                f.write_str("vCPUs start as the VMM sets them today, not as the launch says")
            }
            Self::NoKernel => f.write_str("without hashes of the kernel"),
            Self::OtherKernel => {
                f.write_str("with another kernel, initial RAM disk or command line")
            }
        }
    }
}

/// Inputs that give the observed digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The launch.
    pub config: LaunchConfig,
    /// In what it is another than expected; empty if it is the expected one.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return f.write_str("the expected launch");
        }
        for (number, difference) in self.differences.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        Ok(())
    }
}

/// The launch by its inputs, and the differences as texts.
impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            config,
            differences,
        } = self;
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let mut fields = serializer.serialize_struct("Explanation", 5)?;
        fields.serialize_field("differences", &differences)?;
        fields.serialize_field("vcpus", &config.vcpus)?;
        fields.serialize_field("cpu", &config.cpu.to_string())?;
        fields.serialize_field("features", &format!("{:#x}", config.features.0))?;
        fields.serialize_field("vmm", &config.vmm.to_string())?;
        fields.end()
    }
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Inputs that give the digest, those with the fewest differences first.
    pub explanations: Vec<Explanation>,
    /// Digests that were computed.
    pub tried: u64,
    /// Other images that could not be measured, by name.
    pub unfit: Vec<(String, MeasureError)>,
}

/// Searches `space` for inputs that give `observed`, where `rom` and `expected` were expected.
pub fn explain(
    observed: LaunchDigest,
    rom: &[u8],
    expected: &LaunchConfig,
    space: &SearchSpace<'_>,
) -> Result<Search, MeasureError> {
    expected.check()?;
    let mut search = Search::default();
    search_rom(&mut search, observed, (None, rom), expected, space)?;
    for (name, other) in &space.roms {
        let named = (Some(name.as_str()), *other);
        if let Err(error) = search_rom(&mut search, observed, named, expected, space) {
            search.unfit.push((name.clone(), error));
        }
    }
    search
        .explanations
        .sort_by_key(|explanation| explanation.differences.len());
    Ok(search)
}

fn search_rom(
    search: &mut Search,
    observed: LaunchDigest,
    (name, rom): (Option<&str>, &[u8]),
    expected: &LaunchConfig,
    space: &SearchSpace<'_>,
) -> Result<(), MeasureError> {
    let rom = Rom::parse(rom)?;
    rom.reset_address()?;
    let image = measure_image(&rom)?.digest();
    for &vmm in &space.vmms {
        for &kernel in &space.kernels {
            let base = LaunchConfig {
                vmm,
                kernel,
                ..expected.clone()
            };
            let mut before_vcpus = Measurement::starting_at(image);
            if add_sections(&mut before_vcpus, &rom, &base).is_err() {
                // This image takes no kernel hashes, so this is not how it was launched.
                continue;
            }
            for config in vcpu_states(&base, expected, space) {
                let pages = VcpuPages::new(&rom, &config)?;
                let digest = before_vcpus.digest();
                search_vcpus(
                    search,
                    observed,
                    digest,
                    &pages,
                    (name, &config),
                    expected,
                    space,
                );
            }
        }
    }
    Ok(())
}

/// Each state in which vCPUs may start.
fn vcpu_states(
    base: &LaunchConfig,
    expected: &LaunchConfig,
    space: &SearchSpace<'_>,
) -> Vec<LaunchConfig> {
    let mut configs = vec![];
    for reset in reset_states(base.vmm, expected) {
        // Where EDX is not the CPU model's signature, the model does not change the digest.
        let cpus = if reset.edx.is_some() {
            &[expected.cpu]
        } else {
            space.cpus.as_slice()
        };
        for &cpu in cpus {
            for &features in &space.features {
                configs.push(LaunchConfig {
                    cpu,
                    features,
                    reset,
                    ..base.clone()
                });
            }
        }
    }
    configs
}

/// States that this kind of virtual machine monitor sets, or has set in older versions.
fn reset_states(vmm: VmmKind, expected: &LaunchConfig) -> Vec<ResetState> {
    let today = ResetState::of(vmm);
    let mut states = vec![today];
    if vmm == VmmKind::Qemu {
        let (bsp_fpu, ap_fpu) = (FpuState::ZERO, FpuState::ZERO);
        states.push(ResetState { ap_fpu, ..today });
        states.push(ResetState {
            bsp_fpu,
            ap_fpu,
            ..today
        });
    }
    if vmm == expected.vmm && !states.contains(&expected.reset) {
        states.push(expected.reset);
    }
    states
}

/// Tries every number of vCPUs.
fn search_vcpus(
    search: &mut Search,
    observed: LaunchDigest,
    before_vcpus: LaunchDigest,
    pages: &VcpuPages,
    (rom, config): (Option<&str>, &LaunchConfig),
    expected: &LaunchConfig,
    space: &SearchSpace<'_>,
) {
    let mut digest = before_vcpus;
    for vcpus in 1..=space.max_vcpus {
        digest = pages.page(vcpus - 1).extend(digest);
        search.tried += 1;
        if digest != observed {
            continue;
        }
        let mut config = LaunchConfig {
            vcpus,
            ..config.clone()
        };
        if vcpus == 1 {
            // There are no other vCPUs whose state could differ.
            config.reset.ap_fpu = expected.reset.ap_fpu;
            config.reset.ap_cs_attributes = expected.reset.ap_cs_attributes;
        }
        let differences = differences(rom, expected, &config);
        let explanation = Explanation {
            config,
            differences,
        };
        if !search.explanations.contains(&explanation) {
            search.explanations.push(explanation);
        }
    }
}

fn differences(
    rom: Option<&str>,
    expected: &LaunchConfig,
    found: &LaunchConfig,
) -> Vec<Difference> {
    let same_vmm = expected.vmm == found.vmm;
    let (before, after) = (&expected.reset, &found.reset);
    let (bsp_fpu, ap_fpu) = (after.bsp_fpu, after.ap_fpu);
    let other_registers = *after
        != ResetState {
            bsp_fpu,
            ap_fpu,
            ..*before
        };
    let unequal = |unequal: bool, difference: Difference| unequal.then_some(difference);
    let kernel = match (expected.kernel, found.kernel) {
        (before, after) if before == after => None,
        (_, None) => Some(Difference::NoKernel),
        _ => Some(Difference::OtherKernel),
    };
    [
        rom.map(|name| Difference::Rom(name.to_owned())),
        unequal(
            expected.vcpus != found.vcpus,
            Difference::Vcpus(expected.vcpus, found.vcpus),
        ),
        unequal(
            expected.cpu != found.cpu,
            Difference::Cpu(expected.cpu, found.cpu),
        ),
        unequal(
            expected.features != found.features,
            Difference::Features(expected.features, found.features),
        ),
        unequal(!same_vmm, Difference::Vmm(expected.vmm, found.vmm)),
        unequal(
            same_vmm && before.bsp_fpu != after.bsp_fpu,
            Difference::BspFpu(before.bsp_fpu, after.bsp_fpu),
        ),
        unequal(
            same_vmm && before.ap_fpu != after.ap_fpu,
            Difference::ApFpu(before.ap_fpu, after.ap_fpu),
        ),
        unequal(same_vmm && other_registers, Difference::OtherRegisters),
        kernel,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
