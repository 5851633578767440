//! Digests of IGVM files, and MRTD, against the `igvm` crate 0.5.0.

use cloister_measure::igvm::{IgvmBuilder, igvm_of_rom, measure_igvm_tdx};
use cloister_measure::tdvf::{TdSection, TdSectionKind};
use cloister_measure::testing::{Rng, RomBuilder};
use cloister_measure::{IgvmPlatform, LaunchDigest, VmmKind, measure_igvm, measure_tdx};
use cloister_measure_peers::Case;
use igvm::IgvmFile;
use igvm::measurement::{generate_snp_measurement, generate_tdx_measurement};

const CASES: usize = 400;
const SNP: u32 = 1;
const TDX: u32 = 2;

/// A file for both platforms, with each kind of page in any order.
fn random_file(rng: &mut Rng) -> Vec<u8> {
    let mut file = IgvmBuilder::new(SNP, IgvmPlatform::Snp).platform(TDX, IgvmPlatform::Tdx);
    file = file.policy(SNP, 0x30000).policy(TDX, 0);
    let mut gpa = 0x1000 * rng.below(0x10_0000) as u64;
    let mut areas = 0;
    for _ in 0..1 + rng.below(30) {
        let mask = rng.pick(&[SNP, SNP, TDX]);
        let pages = match rng.below(8) {
            0 => {
                let pages = 1 + rng.below(5) as u64;
                file = file.parameter_area(areas, pages * 0x1000);
                file = file.parameter_insert(mask, gpa, areas);
                areas += 1;
                pages
            }
            1 => {
                let contents = rng.bytes(4096).try_into().expect("a page");
                file = file.vp_context(SNP, 0xffff_ffff_f000, &contents, rng.below(8) as u16);
                0
            }
            2 => {
                file = file.header(0x305, &required_memory(gpa, mask));
                0
            }
            _ => {
                let contents = if rng.below(3) == 0 {
                    vec![]
                } else {
                    rng.bytes(4096)
                };
                let flags = rng.pick(&[0, 0, 0, 2, 4]);
                let kind = rng.pick(&[0, 0, 0, 0, 1, 2, 3]);
                file = file.page(mask, gpa, &contents, flags, kind);
                1
            }
        };
        gpa += 0x1000 * (pages + rng.below(3) as u64);
    }
    // The crate wants data in every file.
    let last = rng.bytes(4096);
    file.page(SNP, gpa, &last, 0, 0).build()
}

fn required_memory(gpa: u64, mask: u32) -> Vec<u8> {
    let mut body = gpa.to_le_bytes().to_vec();
    body.extend([mask, 0x1000, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    body
}

#[test]
fn digests_of_files_are_those_of_the_igvm_crate() {
    let mut rng = Rng(9);
    for number in 0..CASES {
        let bytes = random_file(&mut rng);
        let file = IgvmFile::new_from_binary(&bytes, None).expect("the igvm crate reads it");
        let snp = generate_snp_measurement(file.initializations(), file.directives(), SNP);
        let snp = LaunchDigest(snp.expect("the igvm crate measures it"));
        let tdx = generate_tdx_measurement(file.directives(), TDX);
        let tdx = LaunchDigest(tdx.expect("the igvm crate measures it"));
        let mut written_by_the_crate = vec![];
        file.serialize(&mut written_by_the_crate)
            .expect("the igvm crate writes it");
        for bytes in [bytes, written_by_the_crate] {
            assert_eq!(
                measure_igvm(&bytes).expect("a good file").digest(),
                snp,
                "case {number}"
            );
            assert_eq!(
                measure_igvm_tdx(&bytes).expect("a good file").digest,
                tdx,
                "case {number}"
            );
        }
    }
}

/// An image with TDX metadata, and an IGVM file that adds the same pages.
fn random_td(rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    let rom_bytes = 4096 * (1 + rng.below(8));
    let section = |contents: std::ops::Range<usize>, gpa, bytes, kind, measured| TdSection {
        contents,
        gpa,
        bytes,
        kind,
        measured,
    };
    let firmware_start = rng.below(rom_bytes / 4096) * 4096;
    let firmware_bytes = (rom_bytes - firmware_start) as u64;
    let gpa = (1 << 32) - firmware_bytes;
    let memory = 0x1000 * (1 + rng.below(16) as u64);
    let measured = rng.below(4) > 0;
    let mut sections = vec![
        section(
            firmware_start..rom_bytes,
            gpa,
            firmware_bytes,
            TdSectionKind::Firmware,
            measured,
        ),
        section(0..0, 0x80_0000, 0x2000, TdSectionKind::HandOffBlocks, false),
        section(
            0..0,
            0x90_0000,
            memory,
            TdSectionKind::TemporaryMemory,
            rng.below(2) == 0,
        ),
    ];
    if firmware_start > 0 {
        // Contents that fill a part of their pages.
        let contents = 0..1 + rng.below(firmware_start);
        let gpa = (1 << 32) - rom_bytes as u64;
        let kind = TdSectionKind::Variables;
        sections.push(section(
            contents,
            gpa,
            firmware_start as u64,
            kind,
            rng.below(2) == 0,
        ));
    }
    let mut rom = RomBuilder::new(rom_bytes).contents(|byte| *byte = rng.number() as u8);
    let mut order = vec![];
    while !sections.is_empty() {
        let section = sections.swap_remove(rng.below(sections.len()));
        rom = rom.td_section(section.clone());
        order.push(section);
    }
    let rom = rom.build();
    let file = order
        .iter()
        .fold(IgvmBuilder::new(TDX, IgvmPlatform::Tdx), |file, section| {
            let mut contents = rom[section.contents.clone()].to_vec();
            contents.resize(section.bytes as usize, 0);
            let flags = if section.measured { 0 } else { 2 };
            contents
                .chunks(4096)
                .zip(0..)
                .fold(file, |file, (page, number)| {
                    file.page(TDX, section.gpa + 4096 * number, page, flags, 0)
                })
        });
    (rom, file.build())
}

#[test]
fn mrtd_of_images_is_that_of_the_igvm_crate() {
    let mut rng = Rng(10);
    for number in 0..CASES {
        let (rom, file) = random_td(&mut rng);
        let file = IgvmFile::new_from_binary(&file, None).expect("the igvm crate reads it");
        let theirs = generate_tdx_measurement(file.directives(), TDX);
        let theirs = LaunchDigest(theirs.expect("the igvm crate measures it"));
        assert_eq!(
            measure_tdx(&rom).expect("a good image").digest,
            theirs,
            "case {number}"
        );
    }
}

#[test]
fn files_made_of_images_are_read_and_measured_by_the_igvm_crate() {
    let mut rng = Rng(11);
    for number in 0..CASES {
        let rom = Case::random(&mut rng, &[VmmKind::Qemu]).rom;
        let bytes = igvm_of_rom(&rom).expect("a good image");
        let file = IgvmFile::new_from_binary(&bytes, None).expect("the igvm crate reads it");
        let theirs = generate_snp_measurement(file.initializations(), file.directives(), SNP);
        let theirs = LaunchDigest(theirs.expect("the igvm crate measures it"));
        let ours = measure_igvm(&bytes).expect("a good file").digest();
        assert_eq!(ours, theirs, "case {number}");
    }
}
