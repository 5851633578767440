//! The launch digest of a ROM with SEV-SNP.
//!
//! Pages are added in this order: the image from low to high addresses, the sections of the SEV
//! metadata in the order of their table, then the state of each vCPU. Amazon EC2 adds the CPUID
//! page behind all other sections.

use crate::config::{ConfigError, LaunchConfig, VmmKind};
use crate::digest::{LaunchDigest, sha384};
use crate::kernel_hashes::{KernelHashes, TABLE_BYTES};
use crate::page::{Measurement, Page, PageSource, PageType, TooManyPages};
use crate::rom::{Rom, RomError};
use crate::sev_metadata::{Section, SectionKind};
use crate::vmsa::{self, VMSA_GPA, VcpuRole};
use crate::{MAX_PAGES, PAGE_BYTES};

/// Why there is no launch digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The image is unfit.
    #[error(transparent)]
    Rom(#[from] RomError),
    /// The launch is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The image has too many pages.
    #[error(transparent)]
    TooManyPages(#[from] TooManyPages),
    /// A kernel is given, and the image has no place for its hash.
    #[error(
        "a kernel is given, but the image takes no kernel hashes: it needs an entry {} in its \
         GUID table and a section of type 0x10 in its SEV metadata",
        crate::footer_table::SEV_HASH_TABLE
    )]
    NoKernelHashes,
    /// The hashes do not fit into their section.
    #[error(
        "the hashes of kernel, initial RAM disk and command line lie at {offset:#x} in section \
         {index} of the SEV metadata and take 176 bytes, but the section has {bytes:#x}"
    )]
    KernelHashesPlace {
        /// Index of the section.
        index: usize,
        /// Offset of the hashes in it.
        offset: usize,
        /// Length of the section.
        bytes: u64,
    },
}

/// Computes the launch digest of the image `rom`, launched as `config` says.
pub fn measure_rom(rom: &[u8], config: &LaunchConfig) -> Result<Measurement, MeasureError> {
    let rom = Rom::parse(rom)?;
    config.check()?;
    let mut measurement = measure_image(&rom)?;
    add_sections(&mut measurement, &rom, config)?;
    add_vcpus(&mut measurement, &rom, config)?;
    Ok(measurement)
}

/// Computes the launch digest of an image of which only the end, with all its tables, is at hand,
/// and the digest `image` after its pages.
pub fn measure_from_image_digest(
    image: LaunchDigest,
    rom: &[u8],
    config: &LaunchConfig,
) -> Result<Measurement, MeasureError> {
    let rom = Rom::parse(rom)?;
    config.check()?;
    let mut measurement = Measurement::starting_at(image);
    add_sections(&mut measurement, &rom, config)?;
    add_vcpus(&mut measurement, &rom, config)?;
    Ok(measurement)
}

/// The launch as far as the image's own pages.
pub fn measure_image(rom: &Rom<'_>) -> Result<Measurement, MeasureError> {
    let mut measurement = Measurement::starting_at(LaunchDigest::ZERO);
    measurement.add_contents(rom.gpa(), rom.bytes(), |offset| PageSource::Image {
        offset,
    })?;
    Ok(measurement)
}

/// Adds the sections of the SEV metadata.
pub(crate) fn add_sections(
    measurement: &mut Measurement,
    rom: &Rom<'_>,
    config: &LaunchConfig,
) -> Result<(), MeasureError> {
    let section_bytes: u64 = rom.sections().iter().map(|section| section.bytes).sum();
    if section_bytes / PAGE_BYTES as u64 > MAX_PAGES as u64 {
        return Err(TooManyPages.into());
    }
    let kernel = kernel_page(rom, config.kernel.as_ref())?;
    let cpuid_last = config.vmm == VmmKind::Ec2;
    let sections = || rom.sections().iter().enumerate();
    for (index, section) in sections() {
        if !(cpuid_last && section.kind == SectionKind::Cpuid) {
            add_section(measurement, index, section, config.vmm, kernel.as_ref())?;
        }
    }
    for (index, section) in sections() {
        if cpuid_last && section.kind == SectionKind::Cpuid {
            add_section(measurement, index, section, config.vmm, None)?;
        }
    }
    Ok(())
}

fn add_section(
    measurement: &mut Measurement,
    index: usize,
    section: &Section,
    vmm: VmmKind,
    kernel: Option<&HashesInPage>,
) -> Result<(), MeasureError> {
    let source = PageSource::Section {
        index,
        kind: section.kind,
    };
    let page_type = match section.kind {
        SectionKind::ValidatedMemory if vmm == VmmKind::Gce => PageType::Unmeasured,
        SectionKind::ValidatedMemory | SectionKind::SvsmCallingArea => PageType::Zero,
        SectionKind::Secrets => PageType::Secrets,
        SectionKind::Cpuid => PageType::Cpuid,
        SectionKind::KernelHashes => match kernel {
            None => PageType::Zero,
            Some(hashes) => return add_hashes(measurement, index, section, hashes),
        },
    };
    measurement.add_range(page_type, section.gpa, section.bytes, source)?;
    Ok(())
}

/// Adds a section of zeros with the kernel hashes in it: all of it as normal pages, as QEMU does.
fn add_hashes(
    measurement: &mut Measurement,
    index: usize,
    section: &Section,
    hashes: &HashesInPage,
) -> Result<(), MeasureError> {
    let Section { gpa, bytes, kind } = *section;
    let HashesInPage { offset, table } = *hashes;
    if (offset + TABLE_BYTES) as u64 > bytes {
        return Err(MeasureError::KernelHashesPlace {
            index,
            offset,
            bytes,
        });
    }
    let mut first_pages = [0; 2 * PAGE_BYTES];
    first_pages[offset..offset + TABLE_BYTES].copy_from_slice(&table);
    let zeros = [0; PAGE_BYTES];
    for (number, page_gpa) in (gpa..section.end()).step_by(PAGE_BYTES).enumerate() {
        let contents = first_pages.chunks(PAGE_BYTES).nth(number).unwrap_or(&zeros);
        let source = PageSource::Section { index, kind };
        measurement.add_contents(page_gpa, contents, |_| source)?;
    }
    Ok(())
}

/// The table of kernel hashes and where it lies in its section.
struct HashesInPage {
    /// In bytes, below 4096.
    offset: usize,
    table: [u8; TABLE_BYTES],
}

/// Where QEMU puts the hashes: at the offset in its page that the GUID table gives, counted from
/// the beginning of the section.
fn kernel_page(
    rom: &Rom<'_>,
    kernel: Option<&KernelHashes>,
) -> Result<Option<HashesInPage>, MeasureError> {
    let Some(kernel) = kernel else {
        return Ok(None);
    };
    let in_sections = rom
        .sections()
        .iter()
        .any(|section| section.kind == SectionKind::KernelHashes);
    let place = rom
        .hash_table()?
        .filter(|_| in_sections)
        .ok_or(MeasureError::NoKernelHashes)?;
    let offset = place.gpa as usize % PAGE_BYTES;
    Ok(Some(HashesInPage {
        offset,
        table: kernel.to_bytes(),
    }))
}

/// Adds the state of each vCPU.
fn add_vcpus(
    measurement: &mut Measurement,
    rom: &Rom<'_>,
    config: &LaunchConfig,
) -> Result<(), MeasureError> {
    let vcpus = VcpuPages::new(rom, config)?;
    for index in 0..config.vcpus {
        measurement.add(vcpus.page(index))?;
    }
    Ok(())
}

/// The two pages of a launch: that of the first vCPU and that of all others.
pub(crate) struct VcpuPages {
    bootstrap: Page,
    application: Page,
}

impl VcpuPages {
    pub(crate) fn new(rom: &Rom<'_>, config: &LaunchConfig) -> Result<Self, MeasureError> {
        let page = |role, index| Page {
            page_type: PageType::Vmsa,
            gpa: VMSA_GPA,
            contents: sha384(&vmsa::page(role, config)),
            source: PageSource::Vcpu { index },
        };
        let application = VcpuRole::Application(rom.reset_address()?);
        Ok(Self {
            bootstrap: page(VcpuRole::Bootstrap, 0),
            application: page(application, 1),
        })
    }

    pub(crate) fn page(&self, index: u32) -> Page {
        let source = PageSource::Vcpu { index };
        Page {
            source,
            ..if index == 0 {
                self.bootstrap
            } else {
                self.application
            }
        }
    }
}

#[cfg(test)]
#[path = "snp_tests.rs"]
mod tests;
