use super::*;
use crate::cpu::CpuModel;
use crate::testing::{Rng, RomBuilder, sample_rom};

fn config(vmm: VmmKind) -> LaunchConfig {
    LaunchConfig::new(vmm, 2, CpuModel::GENOA)
}

fn kernel() -> Option<KernelHashes> {
    Some(KernelHashes::new(b"kernel", b"", ""))
}

fn types(measurement: &Measurement) -> Vec<PageType> {
    let mut types: Vec<_> = measurement
        .pages()
        .iter()
        .map(|page| page.page.page_type)
        .collect();
    types.dedup();
    types
}

#[test]
fn pages_come_in_the_order_of_each_launcher() {
    use PageType::{Cpuid, Normal, Secrets, Unmeasured, Vmsa, Zero};
    let rom = sample_rom().build();
    let order = |vmm| types(&measure_rom(&rom, &config(vmm)).expect("a good image"));
    assert_eq!(
        order(VmmKind::Qemu),
        [Normal, Zero, Secrets, Cpuid, Zero, Vmsa]
    );
    assert_eq!(
        order(VmmKind::Ec2),
        [Normal, Zero, Secrets, Zero, Cpuid, Vmsa]
    );
    assert_eq!(
        order(VmmKind::Gce),
        [Normal, Unmeasured, Secrets, Cpuid, Zero, Unmeasured, Vmsa]
    );
    let mut with_kernel = config(VmmKind::Qemu);
    with_kernel.kernel = kernel();
    let measurement = measure_rom(&rom, &with_kernel).expect("a good image");
    assert_eq!(
        types(&measurement),
        [Normal, Zero, Secrets, Cpuid, Zero, Normal, Zero, Vmsa]
    );
}

#[test]
fn a_trace_names_every_page_and_ends_with_the_digest() {
    let rom = sample_rom().build();
    let measurement = measure_rom(&rom, &config(VmmKind::Qemu)).expect("a good image");
    assert_eq!(measurement.pages().len(), 3 + 9 + 1 + 1 + 1 + 1 + 2 + 2);
    let last = measurement.pages().last().expect("some pages");
    assert_eq!(last.digest, measurement.digest());
    let line = last.to_string();
    assert!(line.starts_with("0xfffffffff000 vmsa "), "{line}");
    assert!(
        line.ends_with(&format!("{} vCPU 1", measurement.digest())),
        "{line}"
    );
}

#[test]
fn the_digest_of_the_image_can_be_given() {
    let bytes = sample_rom().build();
    let rom = Rom::parse(&bytes).expect("a good image");
    let image = measure_image(&rom).expect("a good image").digest();
    let config = config(VmmKind::Qemu);
    let whole = measure_rom(&bytes, &config).expect("a good image");
    let resumed = measure_from_image_digest(image, &bytes[4096..], &config).expect("its end");
    assert_eq!(whole.digest(), resumed.digest());
}

#[test]
fn kernel_hashes_need_a_place() {
    let mut config = config(VmmKind::Qemu);
    config.kernel = kernel();
    let measured = |rom: RomBuilder| measure_rom(&rom.reset(0x1000).build(), &config);
    let without_entry = RomBuilder::new(4096).section(0x1000, 0x1000, 0x10);
    assert_eq!(measured(without_entry), Err(MeasureError::NoKernelHashes));
    let without_section = RomBuilder::new(4096).hash_table(0x1000, 0x400);
    assert_eq!(measured(without_section), Err(MeasureError::NoKernelHashes));
    let at_address_zero = RomBuilder::new(4096)
        .section(0, 0x1000, 0x10)
        .hash_table(0, 0x400);
    assert_eq!(measured(at_address_zero), Err(MeasureError::NoKernelHashes));
    let across_the_end = RomBuilder::new(4096)
        .section(0x1000, 0x1000, 0x10)
        .hash_table(0x1f80, 0x400);
    assert_eq!(
        measured(across_the_end),
        Err(MeasureError::KernelHashesPlace {
            index: 0,
            offset: 0xf80,
            bytes: 0x1000
        })
    );
    let over_two_pages = RomBuilder::new(4096)
        .section(0x1000, 0x2000, 0x10)
        .hash_table(0x1f80, 0x400);
    assert_eq!(
        types(&measured(over_two_pages).expect("it fits"))[0],
        PageType::Normal
    );
}

#[test]
fn a_gigabyte_of_pages_is_the_most() {
    let rom = RomBuilder::new(4096)
        .reset(0x1000)
        .section(0, 0x4000_1000, 1)
        .build();
    assert_eq!(
        measure_rom(&rom, &config(VmmKind::Qemu)),
        Err(TooManyPages.into())
    );
}

#[test]
fn impossible_launches_and_images_are_refused() {
    let rom = sample_rom().build();
    let none = LaunchConfig {
        vcpus: 0,
        ..config(VmmKind::Qemu)
    };
    assert_eq!(measure_rom(&rom, &none), Err(ConfigError::Vcpus(0).into()));
    let error = measure_rom(&[0; 4096], &config(VmmKind::Qemu)).expect_err("no reset block");
    assert_eq!(error, RomError::NoResetBlock.into());
}

/// Altered images give a digest or an error, never a panic; and any change of a byte that still
/// gives a digest gives another one, as every byte of the image is measured.
#[test]
fn damaged_images_never_panic() {
    let good = sample_rom().build();
    let config = LaunchConfig {
        kernel: kernel(),
        ..config(VmmKind::Qemu)
    };
    let digest = measure_rom(&good, &config).expect("a good image").digest();
    let mut rng = Rng(1);
    let mut measured = 0;
    for _ in 0..2_000 {
        let mut rom = good.clone();
        for _ in 0..=rng.below(3) {
            let end = rom.len();
            if end < 400 {
                break;
            }
            rng.alter(&mut rom, end - 400..end);
        }
        if let Ok(other) = measure_rom(&rom, &config) {
            measured += 1;
            assert!(other.digest() != digest || rom == good);
        }
    }
    assert!(
        measured > 100,
        "only {measured} of the altered images could be measured"
    );
}
