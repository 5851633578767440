use super::*;
use crate::testing::Rng;
use crate::vmsa::VMSA_GPA;

const MASK: u32 = 1;
const PAGE: [u8; PAGE_BYTES] = [0x5a; PAGE_BYTES];

/// A file with every kind of page.
fn sample() -> IgvmBuilder {
    IgvmBuilder::new(MASK, IgvmPlatform::Snp)
        .platform(2, IgvmPlatform::Tdx)
        .policy(MASK, 0x30000)
        .page(MASK, 0x1000, &PAGE, 0, 0)
        .page(MASK, 0x2000, &[], 0, 0)
        .page(MASK, 0x3000, &PAGE, 2, 0)
        .page(MASK, 0x4000, &PAGE, 4, 0)
        .page(MASK, 0x5000, &[], 0, 1)
        .page(MASK, 0x6000, &[], 0, 2)
        .page(2, 0x7000, &PAGE, 0, 0)
        .parameter_area(0, 0x2000)
        .parameter_insert(MASK, 0x8000, 0)
        .vp_context(MASK, VMSA_GPA, &PAGE, 0)
        .vp_context(MASK, VMSA_GPA, &PAGE, 1)
}

#[test]
fn every_kind_of_page_is_measured_as_its_type() {
    use PageType::{Cpuid, Normal, Secrets, Unmeasured, Vmsa};
    let file = sample().build();
    let measurement = measure_igvm(&file).expect("a good file");
    let pages: Vec<_> = measurement
        .pages()
        .iter()
        .map(|page| (page.page.gpa, page.page.page_type))
        .collect();
    assert_eq!(
        pages,
        [
            (0x1000, Normal),
            (0x2000, Normal),
            (0x3000, Unmeasured),
            (0x5000, Secrets),
            (0x6000, Cpuid),
            (0x8000, Unmeasured),
            (0x9000, Unmeasured),
            (VMSA_GPA, Vmsa),
            (VMSA_GPA, Vmsa),
        ]
    );
    let tdx = measure_igvm_tdx(&file).expect("a good file");
    assert_eq!(tdx.pages.len(), 1);
    assert_eq!(tdx.pages[0].gpa, 0x7000);
}

#[test]
fn a_large_page_is_512_small_ones() {
    let contents: Vec<u8> = (0..2 << 20).map(|i| (i >> 12) as u8).collect();
    let large = IgvmBuilder::new(MASK, IgvmPlatform::Snp).page(MASK, 2 << 20, &contents, 1, 0);
    let small = contents.chunks(PAGE_BYTES).zip(0_u64..).fold(
        IgvmBuilder::new(MASK, IgvmPlatform::Snp),
        |file, (page, number)| file.page(MASK, (2 << 20) + number * 4096, page, 0, 0),
    );
    let digest = |file: IgvmBuilder| measure_igvm(&file.build()).expect("a good file").digest();
    assert_eq!(digest(large), digest(small));
    let zeros = IgvmBuilder::new(MASK, IgvmPlatform::Snp)
        .page(MASK, 0, &[], 1, 0)
        .build();
    assert_eq!(
        measure_igvm(&zeros).expect("a good file").pages().len(),
        512
    );
}

#[test]
fn damaged_fixed_headers_are_refused() {
    let good = sample().build();
    let with = |at: usize, value: u32| {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        measure_igvm(&file).expect_err("refused")
    };
    assert_eq!(measure_igvm(&good[..23]), Err(IgvmError::NotIgvm));
    assert_eq!(with(0, 0), IgvmError::NotIgvm);
    assert_eq!(with(4, 2), IgvmError::Format(2));
    assert!(matches!(with(16, 1), IgvmError::FileLength { .. }));
    for (offset, bytes) in [(0, 24), (20, 24), (28, 24), (24, u32::MAX), (u32::MAX, 8)] {
        let mut file = good.clone();
        file[8..12].copy_from_slice(&offset.to_le_bytes());
        file[12..16].copy_from_slice(&bytes.to_le_bytes());
        let error = measure_igvm(&file).expect_err("refused");
        assert_eq!(error, IgvmError::HeadersPlace { offset, bytes });
    }
    assert!(matches!(with(20, 0), IgvmError::Checksum { said: 0, .. }));
    let for_tdx_only = IgvmBuilder::new(MASK, IgvmPlatform::Tdx).build();
    assert_eq!(
        measure_igvm(&for_tdx_only),
        Err(IgvmError::Platform(IgvmPlatform::Snp))
    );
}

#[test]
fn directives_that_cannot_be_carried_out_are_refused() {
    let error = |build: &dyn Fn(IgvmBuilder) -> IgvmBuilder| {
        measure_igvm(&build(IgvmBuilder::new(MASK, IgvmPlatform::Snp)).build())
            .expect_err("refused")
    };
    use IgvmError::*;
    assert_eq!(
        error(&|f| f.page(MASK, 0x1001, &[], 0, 0)),
        Address {
            index: 1,
            gpa: 0x1001
        }
    );
    assert_eq!(
        error(&|f| f.page(MASK, 0x1000, &[], 1, 0)),
        Address {
            index: 1,
            gpa: 0x1000
        }
    );
    assert_eq!(
        error(&|f| f.page(MASK, !0xfff, &[], 0, 0)),
        Address {
            index: 1,
            gpa: !0xfff
        }
    );
    assert!(matches!(
        error(&|f| f.page(MASK, 0, &[], 8, 0)),
        PageData { index: 1, .. }
    ));
    assert!(matches!(
        error(&|f| f.page(MASK, 0, &[], 0, 4)),
        PageData { index: 1, .. }
    ));
    assert!(matches!(
        error(&|f| f.page(MASK, 0, &[1], 0, 0)),
        Data { index: 1, .. }
    ));
    let twice = |f: IgvmBuilder| f.page(MASK, 0, &[], 0, 0).page(MASK, 0, &[], 2, 0);
    assert_eq!(error(&twice), PageTwice { index: 2, gpa: 0 });
    for area in [
        |f: IgvmBuilder| f.parameter_insert(MASK, 0, 7),
        |f: IgvmBuilder| f.parameter_area(7, 0x800),
        |f: IgvmBuilder| f.parameter_area(7, 0x1000).parameter_area(7, 0x1000),
        |f: IgvmBuilder| {
            let f = f.parameter_area(7, 0x1000).parameter_insert(MASK, 0, 7);
            f.parameter_insert(MASK, 0x1000, 7)
        },
    ] {
        assert!(matches!(error(&area), ParameterArea { area: 7, .. }));
    }
    let huge = |f: IgvmBuilder| f.parameter_area(7, 1 << 40).parameter_insert(MASK, 0, 7);
    assert!(matches!(error(&huge), TooManyPages(_)));
    let beyond = |f: IgvmBuilder| {
        f.parameter_area(7, 0x2000)
            .parameter_insert(MASK, !0xfff, 7)
    };
    assert!(matches!(error(&beyond), Address { index: 2, .. }));
    assert!(matches!(
        error(&|f| f.header(0x999, &[])),
        UnknownHeader {
            index: 1,
            kind: 0x999
        }
    ));
    assert!(matches!(
        error(&|f| f.header(0x302, &[0; 16])),
        HeaderLength { index: 1, .. }
    ));
    let late = |f: IgvmBuilder| f.page(MASK, 0, &[], 0, 0).policy(MASK, 0);
    assert!(matches!(error(&late), HeaderOrder { index: 2, .. }));
}

#[test]
fn an_optional_header_may_be_unknown() {
    let file = IgvmBuilder::new(MASK, IgvmPlatform::Snp)
        .header(0x8000_0999, &[0; 3])
        .build();
    assert_eq!(
        measure_igvm(&file).map(|measurement| measurement.pages().len()),
        Ok(0)
    );
}

#[test]
fn damaged_files_never_panic() {
    let good = sample().build();
    let headers_bytes = good.len() - 5 * PAGE_BYTES - PAGE_BYTES;
    let mut rng = Rng(4);
    let mut measured = 0;
    for _ in 0..3_000 {
        let mut file = good.clone();
        rng.alter(&mut file, 0..headers_bytes);
        // Half of them with a good checksum, so that what lies behind it is reached.
        if rng.below(2) == 0 {
            file = with_checksum(file, headers_bytes);
        }
        measured += usize::from(measure_igvm(&file).is_ok());
    }
    assert!(
        measured > 50,
        "only {measured} of the altered files could be measured"
    );
}
