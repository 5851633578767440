//! What auditors measure: firmware images with their tables, and IGVM files.

use cloister_measure::igvm::{IgvmBuilder, measure_igvm_tdx, with_checksum};
use cloister_measure::tdvf::{TdSection, TdSectionKind};
use cloister_measure::testing::{RomBuilder, sample_rom};
use cloister_measure::vmsa::VMSA_GPA;
use cloister_measure::{
    CpuModel, IgvmPlatform, LaunchConfig, MAX_PAGES, PAGE_BYTES, Rom, VmmKind, igvm_of_rom,
    measure_igvm, measure_rom, measure_tdx,
};

/// A firmware image: its sections are apart from each other and below the image, and what can be measured once can be
/// measured as an IGVM file too.
pub fn firmware_image(data: &[u8]) -> bool {
    let tdx = measure_tdx(data);
    if let Ok(tdx) = &tdx {
        assert!(tdx.pages.len() <= MAX_PAGES);
    }
    let Ok(rom) = Rom::parse(data) else {
        return tdx.is_ok();
    };
    let mut sections: Vec<_> = rom.sections().iter().map(|s| (s.gpa, s.end())).collect();
    sections.sort_unstable();
    let mut before = 0;
    for (start, end) in sections {
        assert!(before <= start && start < end && end <= rom.gpa());
        before = end;
    }
    // A damaged length may ask for very many pages, which would take their time and show nothing new.
    let pages: u64 = rom
        .sections()
        .iter()
        .map(|s| s.bytes / PAGE_BYTES as u64)
        .sum();
    if pages > 1000 {
        return true;
    }
    let config = LaunchConfig::new(VmmKind::Qemu, 2, CpuModel::GENOA);
    let measured = measure_rom(data, &config);
    let igvm = igvm_of_rom(data).expect("the image can be read");
    let igvm = measure_igvm(&igvm).expect("our own file");
    if let Ok(measured) = measured {
        assert_eq!(measured.pages().len(), igvm.pages().len() + 1);
    }
    true
}

/// Images for SEV-SNP with every kind of section, and for TDX.
pub fn firmware_image_seeds() -> Vec<Vec<u8>> {
    let section = |contents: std::ops::Range<usize>, gpa, bytes, kind, measured| TdSection {
        contents,
        gpa,
        bytes,
        kind,
        measured,
    };
    let td = RomBuilder::new(2 * PAGE_BYTES)
        .td_section(section(
            0..8192,
            0xffff_e000,
            0x2000,
            TdSectionKind::Firmware,
            true,
        ))
        .td_section(section(
            0..0,
            0x80_0000,
            0x1000,
            TdSectionKind::HandOffBlocks,
            false,
        ));
    vec![sample_rom().build(), td.build()]
}

/// An IGVM file, as it is and with its checksum put right, without which no other damage is found.
pub fn igvm(data: &[u8]) -> bool {
    let accepted = measure_once(data);
    if let Some(place) = data.get(8..16) {
        let field = |at: usize| {
            u32::from_le_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]])
        };
        let headers_end = u64::from(field(0)) + u64::from(field(4));
        if let Ok(end) = usize::try_from(headers_end) {
            measure_once(&with_checksum(data.to_vec(), end));
        }
    }
    accepted
}

fn measure_once(file: &[u8]) -> bool {
    let [snp, tdx] = [
        measure_igvm(file).map(|measurement| measurement.pages().len()),
        measure_igvm_tdx(file).map(|measurement| measurement.pages.len()),
    ];
    assert!(
        [&snp, &tdx]
            .into_iter()
            .flatten()
            .all(|pages| *pages <= MAX_PAGES)
    );
    snp.is_ok() || tdx.is_ok()
}

/// A file for both platforms with every kind of directive, and one made of an image.
pub fn igvm_seeds() -> Vec<Vec<u8>> {
    const PAGE: [u8; PAGE_BYTES] = [0x5a; PAGE_BYTES];
    let file = IgvmBuilder::new(1, IgvmPlatform::Snp)
        .platform(2, IgvmPlatform::Tdx)
        .policy(1, 0x3_0000)
        .page(1, 0x1000, &PAGE, 0, IgvmBuilder::NORMAL)
        .page(3, 0x2000, &[], 0, IgvmBuilder::NORMAL)
        .page(1, 0x3000, &[], 2, IgvmBuilder::NORMAL)
        .page(1, 0x5000, &[], 0, IgvmBuilder::SECRETS)
        .page(1, 0x6000, &[], 0, IgvmBuilder::CPUID)
        .parameter_area(0, 0x2000)
        .parameter_insert(3, 0x8000, 0)
        .vp_context(1, VMSA_GPA, &PAGE, 0);
    let small = RomBuilder::new(PAGE_BYTES).section(0x80_0000, 0x2000, 1);
    let of_image = igvm_of_rom(&small.build()).expect("a good image");
    vec![file.build(), of_image]
}
