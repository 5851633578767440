use super::*;
use crate::testing::{Rng, RomBuilder};
use TdSectionKind::{Firmware, HandOffBlocks, TemporaryMemory};

const ROM_BYTES: usize = 3 * PAGE_BYTES;

fn section(
    contents: std::ops::Range<usize>,
    gpa: u64,
    bytes: u64,
    kind: TdSectionKind,
) -> TdSection {
    TdSection {
        contents,
        gpa,
        bytes,
        kind,
        measured: kind == Firmware,
    }
}

/// Firmware, hand-off blocks and memory, as Cloister's own image would have them.
fn sections() -> [TdSection; 3] {
    let rom_gpa = (1 << 32) - ROM_BYTES as u64;
    [
        section(0..ROM_BYTES, rom_gpa, ROM_BYTES as u64, Firmware),
        section(0..0, 0x80_9000, 0x1000, HandOffBlocks),
        section(0..0, 0x80_a000, 0x2000, TemporaryMemory),
    ]
}

fn rom(sections: impl IntoIterator<Item = TdSection>) -> Vec<u8> {
    let mut rng = Rng(3);
    let rom = RomBuilder::new(ROM_BYTES).contents(|byte| *byte = rng.number() as u8);
    sections
        .into_iter()
        .fold(rom, RomBuilder::td_section)
        .build()
}

/// MRTD written down a second time, straight from the specification's words.
fn mrtd(rom: &[u8]) -> [u8; 48] {
    let mut all = vec![];
    let block = |name: &str, gpa: u64| {
        let mut block = name.as_bytes().to_vec();
        block.resize(16, 0);
        block.extend(gpa.to_le_bytes());
        block.resize(128, 0);
        block
    };
    for (number, page) in rom.chunks(4096).enumerate() {
        let gpa = 0xffff_d000 + 4096 * number as u64;
        all.extend(block("MEM.PAGE.ADD", gpa));
        for (chunk, bytes) in page.chunks(256).enumerate() {
            all.extend(block("MR.EXTEND", gpa + 256 * chunk as u64));
            all.extend(bytes);
        }
    }
    for gpa in [0x80_9000, 0x80_a000, 0x80_b000] {
        all.extend(block("MEM.PAGE.ADD", gpa));
    }
    Sha384::digest(all).into()
}

#[test]
fn mrtd_covers_pages_and_measured_contents() {
    let rom = rom(sections());
    let measurement = measure_tdx(&rom).expect("a good image");
    assert_eq!(measurement.digest.0, mrtd(&rom));
    assert_eq!(measurement.pages.len(), 6);
    let last = measurement.pages[5];
    assert_eq!(last.digest, measurement.digest);
    assert!(
        last.to_string().ends_with("section 2: temporary memory"),
        "{last}"
    );
}

#[test]
fn images_without_tdx_metadata_have_no_mrtd() {
    assert_eq!(measure_tdx(&[0; 4096]), Err(TdxError::NoMetadata));
}

#[test]
fn sections_that_qemu_refuses_are_refused() {
    let with = |index: usize, change: &dyn Fn(&mut TdSection)| {
        let mut sections = sections();
        change(&mut sections[index]);
        match measure_tdx(&rom(sections)) {
            Err(TdxError::Tdvf(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    use TdvfError::{
        Attributes, Contents, NoFirmware, NoHandOffBlocks, Overlap, TooManyPages, Unaligned,
    };
    assert!(matches!(
        with(1, &|s| s.gpa += 1),
        Unaligned { index: 1, .. }
    ));
    assert!(matches!(
        with(1, &|s| s.bytes = 0),
        Unaligned { index: 1, .. }
    ));
    assert!(matches!(
        with(1, &|s| s.gpa = !0xfff),
        Unaligned { index: 1, .. }
    ));
    assert!(matches!(
        with(0, &|s| s.contents = 0x1000..0x4000),
        Contents { index: 0, .. }
    ));
    assert!(matches!(
        with(0, &|s| s.contents = 0..0),
        Contents { index: 0, .. }
    ));
    assert!(matches!(
        with(0, &|s| s.bytes = 0x1000),
        Contents { index: 0, .. }
    ));
    assert!(matches!(
        with(1, &|s| s.contents = 0..1),
        Contents { index: 1, .. }
    ));
    assert!(matches!(
        with(1, &|s| s.measured = true),
        Attributes { index: 1, .. }
    ));
    assert!(matches!(
        with(1, &|s| s.gpa = 0x80_b000),
        Overlap {
            first: 2,
            second: 1,
            ..
        }
    ));
    assert!(matches!(with(2, &|s| s.bytes = 1 << 40), TooManyPages(_)));
    assert_eq!(with(1, &|s| s.kind = TemporaryMemory), NoHandOffBlocks);
    assert_eq!(with(0, &|s| s.kind = TdSectionKind::Variables), NoFirmware);
}

#[test]
fn damaged_metadata_never_panics() {
    let good = rom(sections());
    let digest = measure_tdx(&good).expect("a good image").digest;
    let mut rng = Rng(2);
    for _ in 0..2_000 {
        let mut rom = good.clone();
        let end = rom.len();
        rng.alter(&mut rom, end - 250..end);
        if let Ok(other) = measure_tdx(&rom) {
            assert!(other.digest != digest || rom == good);
        }
    }
}
