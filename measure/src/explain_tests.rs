use super::*;
use crate::snp::measure_rom;
use crate::testing::sample_rom;

fn expected() -> LaunchConfig {
    LaunchConfig::new(VmmKind::Qemu, 2, CpuModel::MILAN)
}

/// A space small enough for a test.
fn space(expected: &LaunchConfig) -> SearchSpace<'static> {
    SearchSpace {
        max_vcpus: 8,
        ..SearchSpace::around(expected)
    }
}

/// What is found when `actual` was launched instead of the expected.
fn found(rom: &[u8], actual: &LaunchConfig) -> Vec<Explanation> {
    let digest = measure_rom(rom, actual).expect("a good image").digest();
    let expected = expected();
    let search = explain(digest, rom, &expected, &space(&expected)).expect("a good image");
    search.explanations
}

#[test]
fn each_single_input_is_found() {
    let rom = sample_rom().build();
    let base = expected();
    let zero = FpuState::ZERO;
    let reset = |reset: ResetState| LaunchConfig {
        reset,
        ..expected()
    };
    for (actual, difference) in [
        (
            LaunchConfig {
                vcpus: 7,
                ..base.clone()
            },
            "7 vCPUs instead of 2",
        ),
        (
            LaunchConfig {
                cpu: CpuModel::TURIN,
                ..base.clone()
            },
            "CPU model EPYC-Turin instead of EPYC-Milan",
        ),
        (
            LaunchConfig {
                features: GuestFeatures(0x21),
                ..base.clone()
            },
            "guest features 0x21 (SNPActive, DebugSwap) instead of 0x1 (SNPActive)",
        ),
        (
            LaunchConfig::new(VmmKind::Gce, 2, CpuModel::MILAN),
            "launched by gce instead of qemu",
        ),
        (
            reset(ResetState {
                ap_fpu: zero,
                ..base.reset
            }),
            "other vCPUs with MXCSR 0x0000, FCW 0x0000 instead of MXCSR 0x1f80, FCW 0x037f \
             (host's kernel, QEMU)",
        ),
    ] {
        let explanations = found(&rom, &actual);
        assert_eq!(explanations.len(), 1, "{difference}: {explanations:?}");
        assert_eq!(explanations[0].to_string(), difference);
        assert_eq!(explanations[0].config, actual);
    }
    assert_eq!(found(&rom, &base)[0].to_string(), "the expected launch");
}

#[test]
fn registers_of_today_instead_of_given_ones_are_found() {
    let rom = sample_rom().build();
    let actual = expected();
    let mut other = expected();
    other.reset.edx = Some(0);
    let digest = measure_rom(&rom, &actual).expect("a good image").digest();
    let search = explain(digest, &rom, &other, &space(&other)).expect("a good image");
    assert_eq!(
        search.explanations[0].differences,
        [Difference::OtherRegisters]
    );
}

#[test]
fn several_inputs_at_once_are_found() {
    let rom = sample_rom().build();
    let actual = LaunchConfig {
        features: GuestFeatures(0x221),
        ..LaunchConfig::new(VmmKind::Qemu, 5, CpuModel::GENOA)
    };
    let explanations = found(&rom, &actual);
    assert_eq!(explanations.len(), 1);
    assert_eq!(explanations[0].config, actual);
    assert_eq!(explanations[0].differences.len(), 3);
    let json = serde_json::to_value(&explanations[0]).expect("plain texts");
    assert_eq!(json["vcpus"], 5);
    assert_eq!(json["differences"][0], "5 vCPUs instead of 2");
    assert_eq!(json["features"], "0x221");
}

#[test]
fn one_vcpu_is_explained_once() {
    let rom = sample_rom().build();
    let actual = LaunchConfig {
        vcpus: 1,
        ..expected()
    };
    assert_eq!(found(&rom, &actual).len(), 1);
}

#[test]
fn another_image_is_found_by_name() {
    let given = sample_rom().build();
    let other = sample_rom().contents(|byte| *byte = !*byte).build();
    let expected = expected();
    let digest = measure_rom(&other, &expected)
        .expect("a good image")
        .digest();
    let mut space = space(&expected);
    space.roms = vec![
        ("bad.bin".to_owned(), &[0; 7]),
        ("other.bin".to_owned(), &other),
    ];
    let search = explain(digest, &given, &expected, &space).expect("a good image");
    assert_eq!(search.explanations.len(), 1);
    assert_eq!(
        search.explanations[0].differences,
        [Difference::Rom("other.bin".to_owned())]
    );
    assert_eq!(search.unfit.len(), 1);
    assert_eq!(search.unfit[0].0, "bad.bin");
}

#[test]
fn a_kernel_that_was_left_out_is_found() {
    let rom = sample_rom().build();
    let actual = expected();
    let kernel = Some(KernelHashes::new(b"kernel", b"", ""));
    let with_kernel = LaunchConfig {
        kernel,
        ..expected()
    };
    let digest = measure_rom(&rom, &actual).expect("a good image").digest();
    let search = explain(digest, &rom, &with_kernel, &space(&with_kernel)).expect("a good image");
    assert_eq!(search.explanations[0].differences, [Difference::NoKernel]);
}

#[test]
fn a_foreign_digest_is_not_explained() {
    let rom = sample_rom().build();
    let expected = expected();
    let digest = LaunchDigest([9; 48]);
    let search = explain(digest, &rom, &expected, &space(&expected)).expect("a good image");
    assert!(search.explanations.is_empty());
    assert!(search.tried > 1_000);
}
