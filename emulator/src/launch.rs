//! The launch: which pages, in which order, as QEMU gives them to the SNP firmware.

use crate::digest::{LaunchDigest, PageKind};
use crate::firmware::{Firmware, SectionKind};
use crate::memory_map::ROM_END;
use crate::page::{PAGE_BYTES, Page};
use crate::vmsa::{self, RESET_VECTOR};

/// What the launcher adds to the firmware image.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// The firmware image.
    pub image: &'a [u8],
    /// Number of CPUs.
    pub cpus: u32,
    /// CPUID leaf 1, EAX.
    pub cpu_signature: u32,
    /// The CPUID page.
    pub cpuid: &'a Page,
    /// The secrets page.
    pub secrets: &'a Page,
}

impl core::fmt::Debug for Page {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("Page")
    }
}

/// Calls `place` for every page in the order of the launch: the image upwards, the sections of the
/// metadata in the order of their table, and one VMSA for each CPU. Gives the launch digest.
pub fn launch<E>(
    firmware: &Firmware<'_>,
    ingredients: &Ingredients<'_>,
    mut place: impl FnMut(PageKind, u64, &Page) -> Result<(), E>,
) -> Result<LaunchDigest, E> {
    let mut digest = LaunchDigest::START;
    let mut add = |kind, gpa, page: &Page| {
        digest.add(kind, gpa, page);
        place(kind, gpa, page)
    };
    let base = ROM_END - ingredients.image.len() as u64;
    let mut page = Page::ZERO;
    let (chunks, _) = ingredients.image.as_chunks::<{ PAGE_BYTES as usize }>();
    for (index, chunk) in chunks.iter().enumerate() {
        page.set(0, chunk);
        add(PageKind::Normal, base + index as u64 * PAGE_BYTES, &page)?;
    }
    for section in firmware.sections() {
        match section.kind {
            SectionKind::Secrets => add(PageKind::Secrets, section.base, ingredients.secrets)?,
            SectionKind::Cpuid => add(PageKind::Cpuid, section.base, ingredients.cpuid)?,
            SectionKind::Memory | SectionKind::SvsmCaa | SectionKind::KernelHashes => {
                for offset in (0..section.bytes).step_by(PAGE_BYTES as usize) {
                    add(PageKind::Zero, section.base + offset, &Page::ZERO)?;
                }
            }
        }
    }
    for cpu in 0..ingredients.cpus {
        let address = if cpu == 0 {
            RESET_VECTOR
        } else {
            firmware.reset_address()
        };
        let state = vmsa::reset_vmsa(address, ingredients.cpu_signature);
        add(PageKind::Vmsa, vmsa::MEASURED_GPA, &state)?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Debian's OVMF 2022.11-6+deb12u2 and what `sev-snp-measure` 0.0.13 says of it.
    #[test]
    fn digest_of_debians_firmware_is_that_of_sev_snp_measure() {
        use sha2::{Digest, Sha256};
        const IMAGE: [u8; 4] = [0x7b, 0x45, 0x69, 0x07];
        let Ok(image) = std::fs::read("/usr/share/ovmf/OVMF.fd") else {
            println!("skipped: /usr/share/ovmf/OVMF.fd is not installed");
            return;
        };
        if Sha256::digest(&image)[..4] != IMAGE {
            println!("skipped: OVMF.fd is another version than the one that was measured");
            return;
        }
        let firmware = Firmware::parse(&image).expect("OVMF has SEV metadata");
        let digest = |cpus, cpu_signature| {
            let ingredients = Ingredients {
                image: &image,
                cpus,
                cpu_signature,
                cpuid: &Page::ZERO,
                secrets: &Page::ZERO,
            };
            let digest = launch::<Infallible>(&firmware, &ingredients, |_, _, _| Ok(()));
            let bytes = digest.expect("infallible").value();
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let milan4 = "e9c10ab98f8086bf4a4993dcdc1f768b1128bcb02301d1791f1d3274329e790db2d12a301d66d99a462a13b5d87e2840";
        assert_eq!(digest(4, 0x00a0_0f11), milan4);
        let epyc1 = "11570979c77a0adb515761a702527c8b9e11554e730552621d950988613a3a75c6ff1703f540bd22a9beede8fe7a97e3";
        assert_eq!(digest(1, 0x0080_0f12), epyc1);
    }
}
