//! The attestation report (SNP firmware ABI, 7.3), version 3, as this platform fills it.

use crate::digest::DIGEST_BYTES;

/// Bytes of a report.
pub const REPORT_BYTES: usize = 0x4a0;
/// Bytes that the signature covers.
pub const SIGNED_BYTES: usize = 0x2a0;
/// Bytes of the signature's field.
pub const SIGNATURE_BYTES: usize = REPORT_BYTES - SIGNED_BYTES;
/// Bytes that the guest may put into a report.
pub const REPORT_DATA_BYTES: usize = 64;
/// The policy of a launch that asks for no other: reserved bit 17, SMT allowed, no debugging.
pub const POLICY: u64 = 0x3_0000;
/// Bit of every policy.
const POLICY_RESERVED_ONE: u64 = 1 << 17;
/// Bits of a policy that have a meaning (SNP firmware ABI, 4.3).
const POLICY_KNOWN: u64 = (1 << 26) - 1;
/// Bytes of the host's data.
pub const HOST_DATA_BYTES: usize = 32;

const VERSION: u32 = 3;
/// ECDSA P-384 with SHA-384.
const SIGNATURE_ALGORITHM: u32 = 1;
/// An alias check is what this platform cannot have done, and there is no SMT.
const PLATFORM_INFO: u64 = 0;
/// Every TCB version: boot loader 1, TEE 1, SNP 1, microcode 1. No real platform has these.
pub const TCB: [u8; 8] = [1, 1, 0, 0, 0, 0, 1, 1];
/// The product that the platform says it is; its processors are QEMU's `EPYC-Milan`.
pub const PRODUCT: &str = "Milan";
/// Names this platform in reports, so that nobody takes it for a chip.
pub const CHIP_ID: [u8; 64] = *b"CLOISTER EMULATOR: NO CHIP, NO PROTECTION, REPORTS ARE FOR TESTS";
/// No migration agent.
const NO_AGENT: [u8; 32] = [0xff; 32];
/// SNP firmware version 1.55.0: build, minor, major.
const FIRMWARE_VERSION: [u8; 3] = [0, 55, 1];

/// What a launcher tells the firmware beside the pages (SNP_LAUNCH_START and SNP_LAUNCH_FINISH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchParameters {
    policy: u64,
    /// The host's data.
    pub host_data: [u8; HOST_DATA_BYTES],
}

impl Default for LaunchParameters {
    fn default() -> Self {
        Self {
            policy: POLICY,
            host_data: [0; HOST_DATA_BYTES],
        }
    }
}

impl LaunchParameters {
    /// The guest's policy.
    pub fn policy(&self) -> u64 {
        self.policy
    }

    /// Sets the policy, if it is one that a launch may have.
    pub fn set_policy(&mut self, policy: u64) -> Option<()> {
        let is_valid = policy & POLICY_RESERVED_ONE != 0 && policy & !POLICY_KNOWN == 0;
        is_valid.then(|| self.policy = policy)
    }
}

/// What differs between reports.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What the launcher told.
    pub launch: LaunchParameters,
    /// The guest's bytes.
    pub report_data: [u8; REPORT_DATA_BYTES],
    /// The privilege level that asked.
    pub vmpl: u32,
    /// The launch digest.
    pub measurement: [u8; DIGEST_BYTES],
    /// Names this guest until it ends.
    pub report_id: [u8; 32],
    /// Names this platform.
    pub chip_id: [u8; 64],
    /// CPUID leaf 1, EAX.
    pub cpu_signature: u32,
}

/// Builds a report. The signature is zero.
pub fn unsigned(contents: &Contents) -> [u8; REPORT_BYTES] {
    let mut report = [0; REPORT_BYTES];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x000, &VERSION.to_le_bytes());
    put(0x008, &contents.launch.policy.to_le_bytes());
    put(0x030, &contents.vmpl.to_le_bytes());
    put(0x034, &SIGNATURE_ALGORITHM.to_le_bytes());
    put(0x038, &TCB);
    put(0x040, &PLATFORM_INFO.to_le_bytes());
    put(0x050, &contents.report_data);
    put(0x090, &contents.measurement);
    put(0x0c0, &contents.launch.host_data);
    put(0x140, &contents.report_id);
    put(0x160, &NO_AGENT);
    put(0x180, &TCB);
    let (family, model, stepping) = family_model_stepping(contents.cpu_signature);
    put(0x188, &[family, model, stepping]);
    put(0x1a0, &contents.chip_id);
    put(0x1e0, &TCB);
    put(0x1e8, &FIRMWARE_VERSION);
    put(0x1ec, &FIRMWARE_VERSION);
    put(0x1f0, &TCB);
    report
}

/// Family (base and extended added), model and stepping of CPUID leaf 1.
fn family_model_stepping(signature: u32) -> (u8, u8, u8) {
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    let model = signature >> 4 & 0xf | signature >> 12 & 0xf0;
    (family as u8, model as u8, (signature & 0xf) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_what_it_was_asked_for() {
        let mut launch = LaunchParameters {
            host_data: [6; 32],
            ..LaunchParameters::default()
        };
        assert_eq!(launch.set_policy(0x1_0000), None, "bit 17 is missing");
        assert_eq!(launch.set_policy(1 << 40 | POLICY), None);
        assert_eq!(launch.set_policy(0xb_0000), Some(()));
        let contents = Contents {
            launch,
            report_data: [7; 64],
            vmpl: 0,
            measurement: [8; 48],
            report_id: [9; 32],
            chip_id: [10; 64],
            cpu_signature: 0x00a0_0f11,
        };
        let report = unsigned(&contents);
        assert_eq!(report[0x08..0x10], [0, 0, 0xb, 0, 0, 0, 0, 0]);
        assert_eq!(report[0x50..0x90], [7; 64]);
        assert_eq!(report[0x90..0xc0], [8; 48]);
        assert_eq!(report[0xc0..0xe0], [6; 32]);
        assert_eq!(report[0x188..0x18b], [0x19, 1, 1]);
        assert_eq!(report[SIGNED_BYTES..], [0; SIGNATURE_BYTES]);
    }
}
