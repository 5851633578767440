//! What a client is shown by a server: reports, certificates, revocation lists, and all of it together.

use cloister_protocol::evidence::NONCE_BYTES;
use cloister_verifier::carrier::{Carried, MAX_CERTIFICATES};
use cloister_verifier::crl::Crl;
use cloister_verifier::{
    Certificate, Claims, Context, Evidence, Policy, Report, appraise, report as format,
};

/// Of a real machine, with the certificate of its key and AMD's chain; `verifier/tests/vectors/README.md` says where
/// they are from.
const REPORT: &[u8] =
    include_bytes!("../../verifier/tests/vectors/reports/v5-genoa-vcek-8fd94192.bin");
const VCEK: &[u8] =
    include_bytes!("../../verifier/tests/vectors/reports/v5-genoa-vcek-8fd94192.vcek.der");
const ASK: &[u8] = include_bytes!("../../verifier/tests/vectors/chains/genoa-ask.der");
const ARK: &[u8] = include_bytes!("../../verifier/tests/vectors/chains/genoa-ark.der");

/// Some time at which the chain above is valid: November 2026.
const NOW_S: u64 = 1_795_000_000;

/// A report: what is accepted has the length and one of the versions.
pub fn report(data: &[u8]) -> bool {
    let Ok(report) = Report::parse(data) else {
        return false;
    };
    assert_eq!(data.len(), format::REPORT_BYTES);
    assert!(format::VERSIONS.contains(&report.version));
    true
}

/// One of each version that there is.
pub fn report_seeds() -> Vec<Vec<u8>> {
    let others: [&[u8]; 4] = [
        include_bytes!("../../verifier/tests/vectors/reports/v2-milan-vcek-120d77b2.bin"),
        include_bytes!("../../verifier/tests/vectors/reports/v3-milan-vlek-decdab94.bin"),
        include_bytes!("../../verifier/tests/vectors/reports/v4-milan-vcek-68535c46.bin"),
        include_bytes!("../../verifier/tests/vectors/reports/v5-turin-vcek-3f44a09b.bin"),
    ];
    let all = others.into_iter().chain([REPORT]);
    all.map(<[u8]>::to_vec).collect()
}

/// A certificate: what is accepted is kept byte for byte, and AMD's root signs nothing but its own.
pub fn certificate(data: &[u8]) -> bool {
    let Ok(certificate) = Certificate::parse(data) else {
        return false;
    };
    assert_eq!(certificate.der(), data);
    let (from, to) = certificate.validity_s();
    assert!(from <= to);
    if data != ARK && data != ASK {
        let ark = Certificate::parse(ARK).expect("AMD's");
        assert!(!certificate.is_signed_by(&ark));
    }
    true
}

/// VCEK, VLEK, intermediate and root.
pub fn certificate_seeds() -> Vec<Vec<u8>> {
    let vlek =
        include_bytes!("../../verifier/tests/vectors/reports/v3-milan-vlek-decdab94.vlek.der");
    [VCEK, vlek, ASK, ARK].map(<[u8]>::to_vec).to_vec()
}

/// Files with certificates: PEM, DER one behind another, the GHCB's table.
pub fn carrier(data: &[u8]) -> bool {
    let mut carried = Carried::default();
    let accepted = carried.add_file(data).is_ok();
    let count = carried.certificates.len() + carried.crls.len();
    assert!(count <= MAX_CERTIFICATES);
    let _ = Carried::default().add_table(data);
    // An empty file is one without certificates.
    accepted && count > 0
}

/// One of each kind.
pub fn carrier_seeds() -> Vec<Vec<u8>> {
    let pem = [VCEK, ASK].map(|der| {
        pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, der)
            .expect("it fits")
    });
    // The GUID of the VCEK, offset and length; an entry of zeros ends the table.
    let mut table = vec![
        0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac,
        0xcd, 48, 0, 0, 0,
    ];
    table.extend_from_slice(&(VCEK.len() as u32).to_le_bytes());
    table.extend_from_slice(&[0; 24]);
    table.extend_from_slice(VCEK);
    vec![pem.concat().into_bytes(), [VCEK, ASK].concat(), table]
}

/// A revocation list: it is not AMD's, whose key has not signed what a fuzzer finds.
pub fn crl(data: &[u8]) -> bool {
    let Ok(crl) = Crl::parse(data) else {
        return false;
    };
    let [ark, vcek] = [ARK, VCEK].map(|der| Certificate::parse(der).expect("AMD's"));
    assert!(!crl.is_signed_by(&ark));
    let _ = (
        crl.names_as_issuer(&ark),
        crl.is_current(NOW_S),
        crl.revokes(&vcek),
    );
    true
}

/// A list with two serial numbers, whose signature is zeros.
pub fn crl_seeds() -> Vec<Vec<u8>> {
    let ark = Certificate::parse(ARK).expect("AMD's");
    let name = [
        element(0x06, &[0x55, 4, 3]),
        element(0x13, ark.name().as_bytes()),
    ];
    let name = element(0x30, &element(0x31, &element(0x30, &name.concat())));
    let entry = |serial: u8| {
        let fields = [element(2, &[serial]), element(0x17, b"250601000000Z")];
        element(0x30, &fields.concat())
    };
    let fields = [
        element(2, &[1]),
        PSS_SHA384.to_vec(),
        name,
        element(0x17, b"260101000000Z"),
        element(0x17, b"270101000000Z"),
        element(0x30, &[entry(1), entry(2)].concat()),
    ];
    let list = [
        element(0x30, &fields.concat()),
        PSS_SHA384.to_vec(),
        element(3, &[0; 513]),
    ];
    vec![element(0x30, &list.concat())]
}

/// AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt (RFC 4055, section 3.1).
const PSS_SHA384: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0,
    0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00,
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03,
    0x02, 0x01, 0x30,
];

/// A DER element of at most 65,535 bytes.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let bytes = contents.len() as u16;
    let mut element = vec![tag];
    match bytes {
        0..0x80 => element.push(bytes as u8),
        0x80..0x100 => element.extend([0x81, bytes as u8]),
        _ => element.extend([&[0x82][..], &bytes.to_be_bytes()].concat()),
    }
    element.extend_from_slice(contents);
    element
}

/// Whole evidence: report, certificate of its key and key config list, each behind two bytes of length. Nothing is
/// accepted but what the real machine signed, with its own certificate.
pub fn appraisal(data: &[u8]) -> bool {
    let Some((report, rest)) = part(data) else {
        return false;
    };
    let Some((leaf, rest)) = part(rest) else {
        return false;
    };
    let Some((key_configs, _)) = part(rest) else {
        return false;
    };
    let evidence = Evidence {
        report: report.to_vec(),
        carried: Carried {
            certificates: [leaf, ASK, ARK].map(<[u8]>::to_vec).to_vec(),
            crls: Vec::new(),
        },
        claims: Some(Claims {
            epoch: 1,
            key_configs: key_configs.to_vec(),
            tls_public_key: Vec::new(),
            nonce: Some([7; NONCE_BYTES]),
        }),
        release: None,
    };
    let policy = Policy {
        measurements: vec![measurement(REPORT)],
        require_alias_check: false,
        require_binding: false,
        require_log: false,
        ..Policy::new()
    };
    let context = Context {
        now_s: Some(NOW_S),
        ..Context::default()
    };
    let appraisal = appraise(&evidence, &policy, &context);
    assert!(!appraisal.to_string().contains('\u{1b}'));
    // The claims are not what the report binds.
    assert!(!appraisal.is_accepted());
    let alone = Evidence {
        claims: None,
        ..evidence
    };
    let accepted = appraise(&alone, &policy, &context).is_accepted();
    assert!(!accepted || (signed(report) == signed(REPORT) && leaf == VCEK));
    accepted
}

/// The bytes behind a length of two, and the rest.
fn part(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

fn signed(report: &[u8]) -> Option<&[u8]> {
    report.get(..format::SIGNED_BYTES)
}

/// The launch digest in a report.
fn measurement(report: &[u8]) -> [u8; 48] {
    let field = report[0x90..].first_chunk();
    *field.expect("a report is longer")
}

/// The evidence of a real machine, and a list of keys that it does not bind.
pub fn appraisal_seeds() -> Vec<Vec<u8>> {
    let parts = [REPORT, VCEK, b"keys"].map(|part| {
        let length = (part.len() as u16).to_le_bytes();
        [&length, part].concat()
    });
    vec![parts.concat()]
}
