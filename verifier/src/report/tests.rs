//! Form and fields; signatures and what they cover are tested on real and on emulated evidence in `tests/`.

use super::*;

/// A report of this version that says nothing.
fn empty(version: u8) -> [u8; REPORT_BYTES] {
    let mut bytes = [0; REPORT_BYTES];
    bytes[0] = version;
    bytes[0x34] = 1;
    bytes
}

#[test]
fn every_version_has_its_own_reserved_bytes() {
    for (version, offset, allowed) in [
        (2, 0x188, false),
        (2, 0x18b, false),
        (3, 0x188, true),
        (3, 0x18b, false),
        (3, 0x1f8, false),
        (4, 0x1f8, true),
        (5, 0x207, true),
        (5, 0x208, false),
        (5, 0x04f, false),
        (5, 0x49f, false),
    ] {
        let mut bytes = empty(version);
        bytes[offset] = 1;
        let expected = match allowed {
            true => None,
            false => Some(ReportError::Reserved { offset }),
        };
        assert_eq!(
            Report::parse(&bytes).err(),
            expected,
            "{version} {offset:#x}"
        );
    }
}

#[test]
fn fields_stand_where_the_table_says() {
    let mut bytes = empty(5);
    for (name, range) in FIELDS {
        let fixed = ["version", "signature algorithm", "key info", RESERVED];
        if !fixed.contains(&name) && !name.starts_with("signature") {
            bytes[range.start] = 0xa0;
            bytes[range.end - 1] = 0xa1;
        }
    }
    bytes[0x48] = 1 << 2 | 1;
    bytes[0x2a0] = 7;
    bytes[0x2e8 + 47] = 9;
    let report = Report::parse(&bytes).unwrap();
    assert_eq!(report.version, 5);
    assert_eq!(report.guest_svn, 0xa100_00a0);
    assert_eq!(report.policy, GuestPolicy(0xa100_0000_0000_00a0));
    assert_eq!(report.vmpl, 0xa100_00a0);
    assert_eq!(report.platform_info, PlatformInfo(0xa100_0000_0000_00a0));
    let key_info = KeyInfo {
        author_key: true,
        mask_chip_key: false,
        signing_key: SigningKey::Vlek,
    };
    assert_eq!(report.key_info, key_info);
    let ends = |bytes: &[u8]| (bytes[0], bytes[bytes.len() - 1]);
    for field in [
        &report.family_id[..],
        &report.image_id,
        &report.report_data,
        &report.measurement,
        &report.host_data,
        &report.id_key_digest,
        &report.author_key_digest,
        &report.report_id,
        &report.report_id_ma,
        &report.chip_id,
        &report.current_tcb.0,
        &report.reported_tcb.0,
        &report.committed_tcb.0,
        &report.launch_tcb.0,
    ] {
        assert_eq!(ends(field), (0xa0, 0xa1));
    }
    let cpuid = Cpuid {
        family: 0xa0,
        model: 0,
        stepping: 0xa1,
    };
    assert_eq!(report.cpuid, Some(cpuid));
    for version in [report.current_version, report.committed_version] {
        assert_eq!(
            (version.build, version.minor, version.major),
            (0xa0, 0, 0xa1)
        );
    }
    assert_eq!(report.mitigation_vectors, Some((0xa0, 0xa1 << 56)));
    assert_eq!((report.signature.r[47], report.signature.s[0]), (7, 9));
}

#[test]
fn policy_bits_have_their_names() {
    let policy = GuestPolicy(0x0003_1f37);
    assert_eq!(policy.abi(), (0x1f, 0x37));
    assert!(policy.has(PolicyBit::SmtAllowed) && policy.has(PolicyBit::ReservedOne));
    assert!(!policy.has(PolicyBit::Debug) && !policy.has(PolicyBit::MigrationAgent));
    assert_eq!(GuestPolicy(u64::MAX).unknown_bits(), !0 << 26);
    assert_eq!(GuestPolicy(0x03ff_ffff).unknown_bits(), 0);
    let platform = PlatformInfo(0x25);
    assert!(platform.smt() && platform.alias_check_complete());
    assert!(!platform.ciphertext_hiding());
}

#[test]
fn errors_say_what_and_where() {
    let text = |bytes: &[u8]| Report::parse(bytes).unwrap_err().to_string();
    assert_eq!(text(&[]), "0 bytes, a report has 1184");
    assert_eq!(text(&empty(9)), "version 9, known are 2 to 5");
    let mut bytes = empty(3);
    bytes[0x2a0 + 48] = 1;
    assert!(text(&bytes).contains("0x2d0"));
}
