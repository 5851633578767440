use super::*;
use crate::testing::RomBuilder;

/// Metadata alone in a file; the distance from its end is its length.
fn file(header: [u32; 3], entries: &[[u32; 3]]) -> Vec<u8> {
    let fields = header.iter().chain(entries.iter().flatten());
    let fields = fields.flat_map(|value| value.to_le_bytes());
    SIGNATURE.into_iter().chain(fields).collect()
}

fn parsed(header: [u32; 3], entries: &[[u32; 3]]) -> Result<Vec<Section>, SevMetadataError> {
    let file = file(header, entries);
    parse(&file, file.len() as u32)
}

#[test]
fn sections_come_in_the_order_of_the_table() {
    let entries = [[0x2000, 0x3000, 1], [0x1000, 0x1000, 2], [0, 0x1000, 0x10]];
    let sections = parsed([52, 1, 3], &entries).expect("good metadata");
    let kinds: Vec<_> = sections.iter().map(|section| section.kind).collect();
    assert_eq!(
        kinds,
        [
            SectionKind::ValidatedMemory,
            SectionKind::Secrets,
            SectionKind::KernelHashes
        ]
    );
    assert_eq!(sections[0].end(), 0x5000);
    assert_eq!(check_layout(&sections, 0x5000), Ok(()));
}

#[test]
fn headers_that_do_not_fit_are_refused() {
    let rom = file([28, 1, 1], &[[0, 0x1000, 1]]);
    for from_end in [0, 1, 15, 29, u32::MAX] {
        let error = parse(&rom, from_end).expect_err("refused");
        assert!(
            matches!(error, SevMetadataError::Offset { .. }),
            "{from_end}: {error}"
        );
    }
    assert_eq!(parse(&rom, 20), Err(SevMetadataError::Signature(8)));
    assert_eq!(
        parsed([28, 2, 1], &[[0, 0x1000, 1]]),
        Err(SevMetadataError::Version(2))
    );
    for (bytes, entries) in [(27, 1), (29, 1), (28, 2), (u32::MAX, 1), (28, u32::MAX)] {
        let error = parsed([bytes, 1, entries], &[[0, 0x1000, 1]]).expect_err("refused");
        assert!(
            matches!(error, SevMetadataError::Length { .. }),
            "{bytes}, {entries}: {error}"
        );
    }
}

#[test]
fn sections_that_kvm_refuses_are_refused() {
    let one = |entry| parsed([28, 1, 1], &[entry]).expect_err("refused");
    assert_eq!(
        one([0, 0x1000, 5]),
        SevMetadataError::Kind {
            index: 0,
            number: 5
        }
    );
    for entry in [[0x800, 0x1000, 1], [0, 0x800, 1], [0, 0, 1]] {
        let error = one(entry);
        assert!(
            matches!(error, SevMetadataError::Unaligned { .. }),
            "{entry:x?}: {error}"
        );
    }
    for kind in [2, 3] {
        assert!(matches!(
            one([0, 0x2000, kind]),
            SevMetadataError::NotOnePage { .. }
        ));
    }
}

#[test]
fn a_page_belongs_to_one_section() {
    let sections = |entries: &[[u32; 3]]| {
        let bytes = (HEADER_BYTES + ENTRY_BYTES * entries.len()) as u32;
        parsed([bytes, 1, entries.len() as u32], entries).expect("good entries")
    };
    let overlapping = sections(&[[0x3000, 0x1000, 2], [0x1000, 0x3000, 1]]);
    assert_eq!(
        check_layout(&overlapping, 1 << 32),
        Err(SevMetadataError::Overlap {
            first: 1,
            second: 0,
            gpa: 0x3000
        })
    );
    let beyond = sections(&[[0xffff_e000, 0x2000, 1]]);
    assert_eq!(check_layout(&beyond, 1 << 32), Ok(()));
    assert!(matches!(
        check_layout(&beyond, 0xffff_f000),
        Err(SevMetadataError::OverImage { index: 0, .. })
    ));
}

#[test]
fn the_builder_of_tests_writes_what_this_reads() {
    let rom = RomBuilder::new(4096).section(0x1000, 0x1000, 1).build();
    let entry = crate::footer_table::parse(&rom).expect("a good table")[0];
    let from_end = u32::from_le_bytes(entry.data.try_into().expect("four bytes"));
    assert_eq!(parse(&rom, from_end).map(|sections| sections.len()), Ok(1));
}
