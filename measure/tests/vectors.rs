//! Digests that other tools have computed, and reports of hardware.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use cloister_measure::config::{FpuState, GuestFeatures};
use cloister_measure::rom::Rom;
use cloister_measure::snp::{measure_from_image_digest, measure_image};
use cloister_measure::{
    CpuModel, KernelHashes, LaunchConfig, LaunchDigest, Observed, VmmKind, measure_rom,
};
use cloister_measure::{report::ObservedIn, sev};
use serde_json::Value;
use std::fmt::Write as _;

const AMD_SEV: &[u8] = include_bytes!("vectors/ovmf_AmdSev_suffix.bin");
const OVMF_X64: &[u8] = include_bytes!("vectors/ovmf_OvmfX64_suffix.bin");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// The launch of a case, as `sev-snp-measure`'s own tests make it.
fn config(case: &Value) -> LaunchConfig {
    let vmm = match case["vmm_type"].as_str() {
        None => VmmKind::Qemu,
        Some(name) => name.rsplit('.').next().unwrap().parse().unwrap(),
    };
    // The cases without a CPU model do not depend on it.
    let cpu = case["vcpu_type"]
        .as_str()
        .unwrap_or("EPYC-v4")
        .parse()
        .unwrap();
    let vcpus = case["vcpus"].as_u64().unwrap() as u32;
    let mut config = LaunchConfig::new(vmm, vcpus, cpu);
    config.features = GuestFeatures(case["guest_features"].as_u64().unwrap());
    let append = case["append"].as_str().unwrap_or("");
    // The only kernel and the only RAM disk of the cases are empty files.
    config.kernel = case["kernel"]
        .as_str()
        .map(|_| KernelHashes::new(b"", b"", append));
    config
}

fn snp_digest(case: &Value, rom: &[u8], config: &LaunchConfig) -> LaunchDigest {
    let measurement = match case["snp_ovmf_hash_str"].as_str() {
        None => measure_rom(rom, config),
        // The case computes it from the image itself.
        Some("ovmf_hash") => {
            let image = measure_image(&Rom::parse(rom).unwrap()).unwrap().digest();
            measure_from_image_digest(image, rom, config)
        }
        Some(digest) => measure_from_image_digest(digest.parse().unwrap(), rom, config),
    };
    measurement.unwrap().digest()
}

#[test]
fn every_expected_digest_is_computed() {
    let file: Value = serde_json::from_str(include_str!("vectors/expected-digests.json")).unwrap();
    let mut computed = 0;
    for case in file["cases"].as_array().unwrap() {
        let rom = match case["ovmf"].as_str().unwrap() {
            "ovmf_AmdSev_suffix.bin" => AMD_SEV,
            "ovmf_OvmfX64_suffix.bin" => OVMF_X64,
            "svsm_ovmf.fd" => continue,
            other => panic!("{other}"),
        };
        let config = config(case);
        let digest = match case["mode"].as_str().unwrap() {
            "SEV" => hex(&sev::sev_digest(rom, config.kernel.as_ref()).unwrap()),
            "SEV_ES" => hex(&sev::sev_es_digest(rom, &config).unwrap()),
            "SEV_SNP" => snp_digest(case, rom, &config).to_string(),
            other => panic!("{other}"),
        };
        assert_eq!(
            digest,
            case["expected_hex"].as_str().unwrap(),
            "{}",
            case["test"]
        );
        computed += 1;
    }
    assert_eq!(computed, 21);
}

/// Computed with `sev-snp-measure` 0.0.13; those without a kernel also with the `sev` crate 8.0.0.
#[test]
fn launches_of_qemu_are_computed() {
    let kernel = b"KERNEL-TEST-IMAGE";
    let all = KernelHashes::new(kernel, b"INITRD-TEST", "console=ttyS0");
    let kernel_only = KernelHashes::new(kernel, b"", "");
    for (vcpus, cpu, digests) in [
        (
            1,
            CpuModel::MILAN,
            [
                "93f767a2bff8fc050ed48cfe6e2dc9bb4c45b2313c48df0159a6b22fdc5633307f93a7ec31cf6fc92a61a2ace3cb9679",
                "ad6ae8e414639c202f37c6f88848b32004a9929cf0a9ebdf7f093c8886d68593273850295b2f8d21c82dc09504c08755",
                "553cae4a5aeb004bc12645c789a709eeb2883dd6c7a49918e69c457e48603923cff51f41bf42f2f55e831ea98de42b22",
            ],
        ),
        (
            2,
            CpuModel::GENOA,
            [
                "3919b210f6562c034f07a3f6177c84e96bca4dc357b80186f0adf1fea3a198d64d3d52e1ac9fd85a67fd3c0f09df026a",
                "58e8a7c0cbeedcd4a152bd9c8de005b6ec88f4b7305e78f7408868a7f1a3441c98d8e1bdbb4249084d11eba647a35990",
                "0b0364334f5f06c4ba481fa66b560991e64fd0c26d70193fb75ae26f13e1ab65f520dadbbfa525c5ee967bf799131de3",
            ],
        ),
        (
            4,
            CpuModel::TURIN,
            [
                "13236a74091610a1e43bdc561437c37afe78f4e2125155ddc3c5146cd34f95f5404c87041599fad5cbbf4a3138ee2c41",
                "b4b21cdcfa9d990f72ddaf7db671651c077c99ba56608938516f6bb3c8d8c844a21b2d8592e57f0d372f39d0eb120149",
                "9aac5cba264063f2e5c5768ee367be40d9b075cd98e5874f4b0d3e6b736247dae679f8a2ab39850b2a4a36b6e0bf5c1a",
            ],
        ),
    ] {
        for (kernel, digest) in [None, Some(all), Some(kernel_only)]
            .into_iter()
            .zip(digests)
        {
            let config = LaunchConfig {
                kernel,
                ..LaunchConfig::new(VmmKind::Qemu, vcpus, cpu)
            };
            let measurement = measure_rom(AMD_SEV, &config).unwrap();
            assert_eq!(
                measurement.digest().to_string(),
                digest,
                "{vcpus} {cpu} {kernel:?}"
            );
        }
    }
}

/// The two tools differ for EC2: EDX is 0x600 in one and 0 in the other.
#[test]
fn the_launch_of_ec2_is_that_of_either_tool() {
    let mut config = LaunchConfig::new(VmmKind::Ec2, 1, CpuModel::EPYC);
    assert_eq!(config.reset.bsp_fpu, FpuState::ZERO);
    let digest = |config: &LaunchConfig| measure_rom(AMD_SEV, config).unwrap().digest().to_string();
    assert!(
        digest(&config).starts_with("fb789cb6b947b7bb"),
        "{}",
        digest(&config)
    );
    config.reset.edx = Some(0);
    assert!(
        digest(&config).starts_with("281df8807d0e60ea"),
        "{}",
        digest(&config)
    );
}

#[test]
fn digests_are_found_in_reports_of_hardware() {
    let milan_v2 = include_bytes!("vectors/reports/v2-milan-vcek-7c614616.bin");
    let genoa_v3 = include_bytes!("vectors/reports/v3-genoa-vcek-227a641d.bin");
    let genoa_v5 = include_bytes!("vectors/reports/v5-genoa-vcek-7ea4daeb.bin");
    let quote_v4 = include_bytes!("vectors/reports/v4-td1.0-a311d631.bin");
    let quote_v5 = include_bytes!("vectors/reports/v5-td1.5-cf77a6e9.bin");
    for (bytes, found_in, signature, offset) in [
        (&milan_v2[..], ObservedIn::SnpReport(2), None, 0x90),
        (
            &genoa_v3[..],
            ObservedIn::SnpReport(3),
            Some(0x00a1_0f11),
            0x90,
        ),
        (
            &genoa_v5[..],
            ObservedIn::SnpReport(5),
            Some(0x00aa_0f02),
            0x90,
        ),
        (&quote_v4[..], ObservedIn::TdQuote(4), None, 184),
        (&quote_v5[..], ObservedIn::TdQuote(5), None, 190),
    ] {
        let observed = Observed::parse(bytes).unwrap();
        assert_eq!(observed.found_in, found_in);
        assert_eq!(observed.digest.0, bytes[offset..offset + 48]);
        assert!(observed.digest != LaunchDigest::ZERO);
        assert_eq!(
            observed.host_cpu.map(CpuModel::signature),
            signature,
            "{found_in}"
        );
    }
}
