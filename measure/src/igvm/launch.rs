//! An IGVM file that launches an image as QEMU launches the image itself.

use super::{IgvmBuilder, IgvmPlatform};
use crate::config::{LaunchConfig, ResetState, VmmKind};
use crate::rom::{Rom, RomError};
use crate::sev_metadata::SectionKind;
use crate::vmsa::{self, VMSA_GPA, VcpuRole};
use crate::{CpuModel, PAGE_BYTES};

/// The bit by which the file's headers name its one platform.
const MASK: u32 = 1;

/// The guest's policy: several threads of a core are allowed, and bit 17 is always one. No
/// debugging, no migration.
const POLICY: u64 = 0x3_0000;

/// An IGVM file for SEV-SNP that adds the pages which a launch of the image `rom` adds, and starts
/// one vCPU at its reset vector.
///
/// Its launch digest is another than the image's, and is the same for every CPU model: pages come
/// by ascending address, since Cloud Hypervisor adds them so in any case; memory of zeros comes as
/// normal pages with contents, since launchers differ in how they measure a page without; and EDX
/// starts as 0, not as the signature of the CPU model.
///
/// The file keeps to what QEMU takes: no header that it does not know, and in the state of the vCPU
/// only registers that it passes on to KVM.
///
/// # Errors
/// If the image's tables are damaged.
pub fn igvm_of_rom(rom: &[u8]) -> Result<Vec<u8>, RomError> {
    let rom = Rom::parse(rom)?;
    let mut file = IgvmBuilder::new(MASK, IgvmPlatform::Snp).policy(MASK, POLICY);
    let mut sections = rom.sections().to_vec();
    sections.sort_by_key(|section| section.gpa);
    for section in sections {
        let (contents, kind): (&[u8], _) = match section.kind {
            SectionKind::Secrets => (&[], IgvmBuilder::SECRETS),
            SectionKind::Cpuid => (&[], IgvmBuilder::CPUID),
            SectionKind::ValidatedMemory
            | SectionKind::SvsmCallingArea
            | SectionKind::KernelHashes => (&[0; PAGE_BYTES], IgvmBuilder::NORMAL),
        };
        let gpas = (section.gpa..section.end()).step_by(PAGE_BYTES);
        file = file.pages(MASK, gpas, contents, 0, kind);
    }
    let gpas = (rom.gpa()..).step_by(PAGE_BYTES);
    for (page, gpa) in rom.bytes().chunks(PAGE_BYTES).zip(gpas) {
        file = file.page(MASK, gpa, page, 0, IgvmBuilder::NORMAL);
    }
    let vcpu = vmsa::page(VcpuRole::Bootstrap, &first_state());
    Ok(file.vp_context(MASK, VMSA_GPA, &vcpu, 0).build())
}

/// The state in which QEMU starts a vCPU, but for EDX.
fn first_state() -> LaunchConfig {
    // The model gives nothing but EDX.
    let qemu = LaunchConfig::new(VmmKind::Qemu, 1, CpuModel::MILAN);
    LaunchConfig {
        reset: ResetState {
            edx: Some(0),
            ..qemu.reset
        },
        ..qemu
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::igvm::measure_igvm;
    use crate::page::{MeasuredPage, PageType};
    use crate::snp::measure_rom;
    use crate::testing::{RomBuilder, sample_rom};

    fn sorted(pages: &[MeasuredPage]) -> Vec<MeasuredPage> {
        let mut pages = pages.to_vec();
        pages.sort_by_key(|page| page.page.gpa);
        pages
    }

    #[test]
    fn the_pages_are_those_of_the_image_by_ascending_address() {
        let rom = sample_rom().build();
        let file = igvm_of_rom(&rom).expect("a good image");
        let file = measure_igvm(&file).expect("a good file");
        let config = LaunchConfig::new(VmmKind::Qemu, 1, CpuModel::GENOA);
        let image = measure_rom(&rom, &config).expect("a good image");
        assert_eq!(file.pages().len(), image.pages().len());
        assert!(file.pages().is_sorted_by_key(|page| page.page.gpa));
        let zeros = crate::digest::sha384(&[0; PAGE_BYTES]);
        for (ours, theirs) in file.pages().iter().zip(sorted(image.pages())) {
            let (ours, theirs) = (ours.page, theirs.page);
            assert_eq!(ours.gpa, theirs.gpa);
            match theirs.page_type {
                PageType::Zero => {
                    assert_eq!((ours.page_type, ours.contents), (PageType::Normal, zeros));
                }
                PageType::Vmsa => assert_eq!(ours.page_type, PageType::Vmsa),
                other => assert_eq!((ours.page_type, ours.contents), (other, theirs.contents)),
            }
        }
    }

    #[test]
    fn the_vcpu_starts_as_with_the_image_but_for_edx() {
        let file = igvm_of_rom(&sample_rom().build()).expect("a good image");
        let (_, vcpu) = file.split_last_chunk::<PAGE_BYTES>().expect("a page");
        let config = LaunchConfig::new(VmmKind::Qemu, 1, CpuModel::TURIN);
        let mut expected = vmsa::page(VcpuRole::Bootstrap, &config);
        assert_ne!(*vcpu, expected);
        expected[0x310..0x314].fill(0);
        assert_eq!(*vcpu, expected);
    }

    #[test]
    fn each_byte_of_the_image_counts_and_zeros_are_in_the_file_once() {
        let rom = RomBuilder::new(4096).section(0x80_0000, 0x10_0000, 1);
        let digest = |rom: &[u8]| {
            let file = igvm_of_rom(rom).expect("a good image");
            // Platform, policy, 256 pages of memory, the image, the vCPU; and the data of three.
            let headers = 24 + 24 + 24 + 257 * 32 + 32;
            assert_eq!(file.len(), headers + 3 * PAGE_BYTES);
            measure_igvm(&file).expect("a good file").digest()
        };
        let mut bytes = rom.build();
        let first = digest(&bytes);
        assert_eq!(first, digest(&bytes));
        bytes[0] ^= 1;
        assert_ne!(first, digest(&bytes));
    }

    #[test]
    fn a_damaged_image_is_refused() {
        assert_eq!(igvm_of_rom(&[0; 5000]), Err(RomError::Size(5000)));
    }
}
