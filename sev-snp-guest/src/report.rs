//! The attestation report (SNP firmware ABI, AMD publication 56860, table "ATTESTATION_REPORT structure").
//!
//! The guest passes it on. Its signature, and what it says, are for a verifier to appraise, which needs the bytes as
//! they are: nothing here drops a reserved field.

use core::fmt;
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a report.
pub const REPORT_BYTES: usize = 0x4a0;

/// Bytes at the front that the signature covers.
pub const SIGNED_BYTES: usize = 0x2a0;

/// An attestation report, versions 2 to 5. Integers are little-endian.
#[derive(Clone, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct AttestationReport {
    /// The version of the report's format.
    pub version: u32,
    /// The guest's security version number, from the ID block.
    pub guest_svn: u32,
    /// The policy that the guest was launched with.
    pub policy: u64,
    /// The family id, from the ID block.
    pub family_id: [u8; 16],
    /// The image id, from the ID block.
    pub image_id: [u8; 16],
    /// The VMPL that asked; 0xFFFFFFFF if the host asked.
    pub vmpl: u32,
    /// The signature's algorithm; 1 is ECDSA P-384 with SHA-384.
    pub signature_algorithm: u32,
    /// CURRENT_TCB.
    pub current_tcb: [u8; 8],
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// Bit 0: an author key is in the digest below; bit 1: the chip's key is masked; bits 4:2: which key signed.
    pub key_info: u32,
    reserved_04c: u32,
    /// What the guest wanted to have signed.
    pub report_data: [u8; 64],
    /// The launch measurement.
    pub measurement: [u8; 48],
    /// What the host wanted to have signed at launch.
    pub host_data: [u8; 32],
    /// The digest of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// The digest of the key that certified the ID key.
    pub author_key_digest: [u8; 48],
    /// The report id of this guest.
    pub report_id: [u8; 32],
    /// The report id of the guest's migration agent; all 0xFF if there is none.
    pub report_id_ma: [u8; 32],
    /// REPORTED_TCB: what the signing key is derived from.
    pub reported_tcb: [u8; 8],
    /// The processor's family (combined), from version 3 on.
    pub cpuid_family: u8,
    /// The processor's model (combined), from version 3 on.
    pub cpuid_model: u8,
    /// The processor's stepping, from version 3 on.
    pub cpuid_stepping: u8,
    reserved_18b: [u8; 21],
    /// The chip's id, unless it is masked.
    pub chip_id: [u8; 64],
    /// COMMITTED_TCB.
    pub committed_tcb: [u8; 8],
    /// Build, minor and major version of the firmware that runs, and a reserved byte.
    pub current_version: [u8; 4],
    /// The same of the committed firmware.
    pub committed_version: [u8; 4],
    /// LAUNCH_TCB.
    pub launch_tcb: [u8; 8],
    /// Mitigations in force at launch, from version 5 on.
    pub launch_mitigation_vector: u64,
    /// Mitigations in force now, from version 5 on.
    pub current_mitigation_vector: u64,
    reserved_208: [u8; 0x98],
    /// R of the signature, little-endian.
    pub signature_r: [u8; 72],
    /// S of the signature, little-endian.
    pub signature_s: [u8; 72],
    reserved_330: [u8; 0x170],
}

const _: () = {
    assert!(size_of::<AttestationReport>() == REPORT_BYTES);
    assert!(offset_of!(AttestationReport, policy) == 0x008);
    assert!(offset_of!(AttestationReport, family_id) == 0x010);
    assert!(offset_of!(AttestationReport, image_id) == 0x020);
    assert!(offset_of!(AttestationReport, vmpl) == 0x030);
    assert!(offset_of!(AttestationReport, signature_algorithm) == 0x034);
    assert!(offset_of!(AttestationReport, current_tcb) == 0x038);
    assert!(offset_of!(AttestationReport, platform_info) == 0x040);
    assert!(offset_of!(AttestationReport, key_info) == 0x048);
    assert!(offset_of!(AttestationReport, report_data) == 0x050);
    assert!(offset_of!(AttestationReport, measurement) == 0x090);
    assert!(offset_of!(AttestationReport, host_data) == 0x0c0);
    assert!(offset_of!(AttestationReport, id_key_digest) == 0x0e0);
    assert!(offset_of!(AttestationReport, author_key_digest) == 0x110);
    assert!(offset_of!(AttestationReport, report_id) == 0x140);
    assert!(offset_of!(AttestationReport, report_id_ma) == 0x160);
    assert!(offset_of!(AttestationReport, reported_tcb) == 0x180);
    assert!(offset_of!(AttestationReport, cpuid_family) == 0x188);
    assert!(offset_of!(AttestationReport, chip_id) == 0x1a0);
    assert!(offset_of!(AttestationReport, committed_tcb) == 0x1e0);
    assert!(offset_of!(AttestationReport, current_version) == 0x1e8);
    assert!(offset_of!(AttestationReport, committed_version) == 0x1ec);
    assert!(offset_of!(AttestationReport, launch_tcb) == 0x1f0);
    assert!(offset_of!(AttestationReport, launch_mitigation_vector) == 0x1f8);
    assert!(offset_of!(AttestationReport, current_mitigation_vector) == 0x200);
    assert!(offset_of!(AttestationReport, signature_r) == SIGNED_BYTES);
    assert!(offset_of!(AttestationReport, signature_s) == 0x2e8);
};

impl AttestationReport {
    /// A report from its bytes. Every byte string of the right length is one: nothing is checked.
    pub fn from_bytes(bytes: &[u8; REPORT_BYTES]) -> Self {
        zerocopy::transmute!(*bytes)
    }

    /// The bytes, as they came from the security processor.
    pub fn as_bytes(&self) -> &[u8; REPORT_BYTES] {
        zerocopy::transmute_ref!(self)
    }
}

impl fmt::Debug for AttestationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestationReport")
            .field("version", &self.version)
            .field("vmpl", &self.vmpl)
            .field("measurement", &self.measurement)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real reports: see `tests/vectors/README.md`.
    const REPORTS: [(&[u8; REPORT_BYTES], u32, (u8, u8)); 4] = [
        (
            include_bytes!("../tests/vectors/v2-milan-vcek-120d77b2.bin"),
            2,
            (0, 0),
        ),
        (
            include_bytes!("../tests/vectors/v3-genoa-vcek-227a641d.bin"),
            3,
            (0x19, 0x11),
        ),
        (
            include_bytes!("../tests/vectors/v4-milan-vcek-68535c46.bin"),
            4,
            (0x19, 1),
        ),
        (
            include_bytes!("../tests/vectors/v5-turin-vcek-3f44a09b.bin"),
            5,
            (0x1a, 2),
        ),
    ];

    #[test]
    fn real_reports_have_the_fields_that_are_known_of_them() {
        for (bytes, version, (family, model)) in REPORTS {
            let report = AttestationReport::from_bytes(bytes);
            assert_eq!(report.version, version);
            assert_eq!((report.cpuid_family, report.cpuid_model), (family, model));
            assert_eq!((report.vmpl, report.signature_algorithm), (0, 1));
            assert!(matches!(report.policy, 0x3_0000 | 0x3_001f));
            assert_eq!(report.key_info >> 2 & 7, 0, "signed by the VCEK");
            assert_eq!(report.signature_r[48..], [0; 24]);
            assert_eq!(report.signature_s[48..], [0; 24]);
            assert_ne!(report.measurement, [0; 48]);
            assert_eq!(report.as_bytes(), bytes);
        }
    }

    #[test]
    fn debug_output_is_short() {
        let report = AttestationReport::from_bytes(REPORTS[0].0);
        assert!(std::format!("{report:?}").contains("version: 2"));
    }
}
