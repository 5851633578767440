//! Real certificates of every kind; altered and synthetic ones are in `tests/mutations`.

use super::*;

const ARK: &[u8] = include_bytes!("../roots/turin-ark.der");
const ASVK: &[u8] = include_bytes!("../../tests/vectors/chains/milan-asvk.der");
const VCEK: &[u8] = include_bytes!("../../tests/vectors/reports/v5-turin-vcek-3f44a09b.vcek.der");
const OLD_VCEK: &[u8] =
    include_bytes!("../../tests/vectors/reports/v2-milan-vcek-120d77b2.vcek.der");
const VLEK: &[u8] = include_bytes!("../../tests/vectors/reports/v3-milan-vlek-decdab94.vlek.der");

#[test]
fn authorities() {
    let ark = Certificate::parse(ARK).unwrap();
    assert_eq!((ark.kind(), ark.name()), (Kind::Ark, "ARK-Turin"));
    assert_eq!(ark.product(), Some(Product::Turin));
    assert_eq!(ark.amd(), &AmdExtensions::default());
    assert!(ark.report_key().is_none());
    let asvk = Certificate::parse(ASVK).unwrap();
    assert_eq!((asvk.kind(), asvk.name()), (Kind::Asvk, "SEV-VLEK-Milan"));
    assert_eq!(asvk.issuer_name(), "ARK-Milan");
    assert_eq!(asvk.serial(), [1, 1, 1]);
    assert_eq!(asvk.product(), Some(Product::Milan));
    assert!(!asvk.names_as_issuer(&ark) && !asvk.is_signed_by(&ark));
}

#[test]
fn a_vcek_of_turin() {
    let vcek = Certificate::parse(VCEK).unwrap();
    assert_eq!((vcek.kind(), vcek.issuer_name()), (Kind::Vcek, "SEV-Turin"));
    assert_eq!(
        (vcek.serial(), vcek.product()),
        (&[][..], Some(Product::Turin))
    );
    // 2025-07-17T17:04:46Z to 2032-07-17T17:04:46Z.
    assert_eq!(vcek.validity_s(), (1_752_771_886, 1_973_696_686));
    let amd = vcek.amd();
    assert_eq!(amd.integer(AmdExtension::StructVersion), Some(1));
    assert_eq!(amd.hwid.as_ref().map(Vec::len), Some(8));
    assert_eq!(amd.csp_id, None);
    let raw = amd.tcb(crate::tcb::TcbLayout::Turin).unwrap();
    assert_eq!(raw.0, [0, 1, 0, 2, 0, 0, 0, 0x47]);
}

#[test]
fn a_vcek_with_a_stepping_and_an_explicit_trailer() {
    let vcek = Certificate::parse(OLD_VCEK).unwrap();
    assert_eq!(vcek.amd().product_name.as_deref(), Some("Milan-B0"));
    assert_eq!(vcek.product(), Some(Product::Milan));
    assert_eq!(vcek.amd().hwid.as_ref().map(Vec::len), Some(64));
    let turin = vcek.amd().tcb(crate::tcb::TcbLayout::Turin);
    assert_eq!(turin, Err(AmdExtension::Fmc));
}

#[test]
fn a_vlek() {
    let vlek = Certificate::parse(VLEK).unwrap();
    assert_eq!(
        (vlek.kind(), vlek.issuer_name()),
        (Kind::Vlek, "SEV-VLEK-Milan")
    );
    let amd = vlek.amd();
    assert_eq!(amd.csp_id.as_deref(), Some("CN=cc-us-east-2.amazonaws.com"));
    assert_eq!(amd.hwid, None);
    assert_eq!(amd.integer(AmdExtension::Microcode), Some(0xd9));
    assert!(vlek.is_signed_by(&Certificate::parse(ASVK).unwrap()));
}

#[test]
fn names_decide_what_a_certificate_is_for() {
    for (name, expected) in [
        ("SEV-VCEK", Some(Kind::Vcek)),
        ("SEV-VLEK", Some(Kind::Vlek)),
        ("SEV-Genoa", Some(Kind::Ask)),
        ("SEV-VLEK-Genoa", Some(Kind::Asvk)),
        ("ARK-Genoa", Some(Kind::Ark)),
        ("ARK-Rome", None),
        ("ARK-", None),
        ("SEV-VLEK-", None),
        ("ARK-Genoa-B1", None),
        ("ark-Genoa", None),
        ("", None),
    ] {
        assert_eq!(kind(name), expected, "{name}");
    }
}

#[test]
fn no_prefix_of_a_certificate_is_one() {
    for length in 0..VCEK.len() {
        assert!(Certificate::parse(&VCEK[..length]).is_err(), "{length}");
    }
}
