//! Digests of SEV-SNP launches against the `sev` crate 8.0.0.

use cloister_measure::testing::Rng;
use cloister_measure::{VmmKind, measure_rom};
use cloister_measure_peers::{Case, Files};
use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::{GuestFeatures, VMMType};
use std::path::Path;

const CASES: usize = 400;

fn sev_digest(case: &Case, files: Files) -> String {
    let append = case
        .kernel
        .as_ref()
        .and_then(|kernel| kernel.append.as_deref());
    let vmm_type = match case.config.vmm {
        VmmKind::Qemu => VMMType::QEMU,
        VmmKind::Ec2 => VMMType::EC2,
        VmmKind::Gce => panic!("the sev crate does not know GCE"),
    };
    let arguments = SnpMeasurementArgs {
        vcpus: case.config.vcpus,
        vcpu_type: CpuType::try_from(case.cpu_name).expect("a known name"),
        ovmf_file: files.rom,
        guest_features: GuestFeatures(case.config.features.0),
        kernel_file: files.kernel,
        initrd_file: files.initrd,
        append,
        ovmf_hash_str: None,
        vmm_type: Some(vmm_type),
    };
    let digest = snp_calc_launch_digest(arguments).expect("the sev crate measures it");
    digest.get_hex_ld()
}

#[test]
fn digests_are_those_of_the_sev_crate() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sev-crate");
    let mut rng = Rng(8);
    for number in 0..CASES {
        let mut case = Case::random(&mut rng, &[VmmKind::Qemu, VmmKind::Qemu, VmmKind::Ec2]);
        let theirs = sev_digest(&case, case.write(&folder));
        if case.config.vmm == VmmKind::Ec2 {
            // EC2 has 0x600 there, as sev-snp-measure knows since 0.0.13; the crate still has 0.
            case.config.reset.edx = Some(0);
        }
        let ours = measure_rom(&case.rom, &case.config).expect("a good image");
        assert_eq!(
            ours.digest().to_string(),
            theirs,
            "case {number}: {:?}",
            case.config
        );
    }
}
