//! The launch digests of plain SEV and of SEV-ES: one SHA-256 over the image, the kernel hashes and,
//! for SEV-ES, the vCPUs' states. Only for comparison with other tools: Cloister needs SEV-SNP.

use crate::config::{GuestFeatures, LaunchConfig};
use crate::kernel_hashes::KernelHashes;
use crate::rom::Rom;
use crate::snp::MeasureError;
use crate::vmsa::{self, VcpuRole};
use sha2::{Digest, Sha256};

/// The launch digest of `rom` with plain SEV.
pub fn sev_digest(rom: &[u8], kernel: Option<&KernelHashes>) -> Result<[u8; 32], MeasureError> {
    Ok(image_and_kernel(&Rom::parse(rom)?, kernel)?
        .finalize()
        .into())
}

/// The launch digest of `rom` with SEV-ES. `SEV_FEATURES` is zero, whatever `config` says.
pub fn sev_es_digest(rom: &[u8], config: &LaunchConfig) -> Result<[u8; 32], MeasureError> {
    config.check()?;
    let rom = Rom::parse(rom)?;
    let config = LaunchConfig {
        features: GuestFeatures(0),
        ..config.clone()
    };
    let mut digest = image_and_kernel(&rom, config.kernel.as_ref())?;
    digest.update(vmsa::page(VcpuRole::Bootstrap, &config));
    let application = vmsa::page(VcpuRole::Application(rom.reset_address()?), &config);
    for _ in 1..config.vcpus {
        digest.update(application);
    }
    Ok(digest.finalize().into())
}

fn image_and_kernel(rom: &Rom<'_>, kernel: Option<&KernelHashes>) -> Result<Sha256, MeasureError> {
    let mut digest = Sha256::new_with_prefix(rom.bytes());
    if let Some(kernel) = kernel {
        rom.hash_table()?.ok_or(MeasureError::NoKernelHashes)?;
        digest.update(kernel.to_bytes());
    }
    Ok(digest)
}
