use super::*;

/// SVM exit codes as #VC error codes.
const CPUID: u64 = 0x72;
const IOIO: u64 = 0x7b;
const MSR: u64 = 0x7c;
const NOT_VALIDATED: u64 = 0x404;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
}

#[test]
fn only_a_cpuid_instruction_is_emulated() {
    let cpuid = [0x0f, 0xa2, 0x90];
    assert!(SNP.is_intercepted_cpuid(CPUID, &cpuid));
    for (error, instruction) in [
        (CPUID, &[0x90, 0x0f, 0xa2][..]),
        (CPUID, &[0x0f]),
        (CPUID, &[]),
        (IOIO, &cpuid),
        (NOT_VALIDATED, &cpuid),
        (0, &cpuid),
        // Instructions that exist and that the kernel never executes here.
        (IOIO, &[0xec]),
        (MSR, &[0x0f, 0x32]),
        (MSR, &[0x0f, 0x30]),
    ] {
        assert!(
            !SNP.is_intercepted_cpuid(error, instruction),
            "{error:#x} {instruction:x?}"
        );
    }
}

#[test]
fn ranges_are_whole_pages_that_exist() {
    let good = frames(range(0x20_0000, 0x60_1000)).unwrap();
    assert_eq!(good.frames(), 0x401);
    let mut pages = good.pages();
    assert_eq!(pages.next().unwrap().0.address(), 0x20_0000);
    for bad in [
        range(0x1001, 0x2000),
        range(0x1000, 0x2001),
        range(1 << 52, (1 << 52) + 0x1000),
    ] {
        assert_eq!(frames(bad), Err(PageStateError::Alignment), "{bad:?}");
    }
}
