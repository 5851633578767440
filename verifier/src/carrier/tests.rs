//! What certificates travel in, and what is refused. The contents are not looked at here.

use super::*;

/// A sequence that begins like a certificate (`0xa0`) or like a list (`0x02`), `extra` bytes longer than needed.
fn element(first: u8, extra: u8) -> Vec<u8> {
    let signed = [0x30, 2, first, 0];
    let padding = [0x05, 0x00].repeat(64 + usize::from(extra));
    let length = u8::try_from(signed.len() + padding.len()).unwrap();
    [&[0x30, 0x81, length], &signed[..], &padding].concat()
}

fn table(entries: &[([u8; 16], Vec<u8>)]) -> Vec<u8> {
    let mut offset = (entries.len() + 1) * ENTRY_BYTES;
    let (mut head, mut body) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (guid, content) in entries {
        head.extend(guid);
        head.extend((offset as u32).to_le_bytes());
        head.extend((content.len() as u32).to_le_bytes());
        body.extend(content);
        offset += content.len();
    }
    head.extend([0; ENTRY_BYTES]);
    head.extend(body);
    head
}

fn add(bytes: &[u8]) -> Result<Carried, CarrierError> {
    let mut carried = Carried::default();
    carried.add_file(bytes).map(|()| carried)
}

#[test]
fn der_one_behind_the_other() {
    let (certificate, list) = (element(0xa0, 0), element(0x02, 1));
    let carried = add(&[&certificate[..], &list, &certificate].concat()).unwrap();
    assert_eq!(
        carried.certificates,
        [certificate.clone(), certificate.clone()]
    );
    assert_eq!(carried.crls, [list]);
    assert_eq!(add(&certificate[..20]), Err(CarrierError::Format));
    let cut = [&certificate[..], &[0x30]].concat();
    assert_eq!(add(&cut), Err(CarrierError::Format));
    assert_eq!(
        add(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        Err(CarrierError::Format)
    );
    assert_eq!(add(b""), Ok(Carried::default()));
}

#[test]
fn pem_with_text_around_it() {
    let (certificate, list) = (element(0xa0, 0), element(0x02, 0));
    let pem = |label, der: &[u8]| {
        pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::CRLF, der).unwrap()
    };
    let text = format!(
        "subject=SEV-VCEK\n{}\n{}trailer",
        pem("CERTIFICATE", &certificate),
        pem("X509 CRL", &list)
    );
    let carried = add(text.as_bytes()).unwrap();
    assert_eq!(
        (carried.certificates, carried.crls),
        (vec![certificate.clone()], vec![list])
    );
    for broken in [
        pem("PRIVATE KEY", &certificate),
        text.replace("-----END", "-----ENDE"),
        "-----BEGIN CERTIFICATE-----".into(),
        "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n".into(),
    ] {
        assert_eq!(add(broken.as_bytes()), Err(CarrierError::Pem), "{broken}");
    }
}

#[test]
fn a_table_of_the_hypervisor() {
    let [ark, ask, vcek, vlek] = CERTIFICATE_GUIDS;
    let content = |number: u8| vec![number; 100 + usize::from(number)];
    let entries = [
        (vcek, content(1)),
        (ask, content(2)),
        ([0xee; 16], content(3)),
        (CRL_GUID, content(4)),
        (vlek, content(5)),
        (ark, content(6)),
    ];
    let carried = add(&table(&entries)).unwrap();
    assert_eq!(carried.certificates, [1, 2, 5, 6].map(content));
    assert_eq!(carried.crls, [content(4)]);
    let pem = pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, &content(7));
    let mut with_pem = Carried::default();
    with_pem
        .add_table(&table(&[(vcek, pem.unwrap().into_bytes())]))
        .unwrap();
    assert_eq!(with_pem.certificates, [content(7)]);
    // What KVM hands out when there is none.
    assert_eq!(add(&[0; ENTRY_BYTES]), Ok(Carried::default()));
    assert_eq!(add(&[0; 4096]), Ok(Carried::default()));
}

#[test]
fn a_table_that_points_elsewhere() {
    let [ark, ..] = CERTIFICATE_GUIDS;
    let good = table(&[(ark, vec![1; 100])]);
    assert_eq!(good.len(), 148);
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        add(&bytes)
    };
    assert!(with(16, 48).is_ok());
    // Into the list of entries, behind the end, around the address space.
    for (at, value) in [
        (16, 47),
        (16, 0),
        (16, 49),
        (20, 101),
        (20, u32::MAX),
        (16, u32::MAX),
    ] {
        assert_eq!(with(at, value), Err(CarrierError::Table), "{at} {value}");
    }
    // No end.
    assert_eq!(add(&good[..24]), Err(CarrierError::Table));
    assert_eq!(add(&[1; 24 * 40]), Err(CarrierError::Table));
}

#[test]
fn limits() {
    let certificate = element(0xa0, 0);
    assert!(add(&certificate.repeat(MAX_CERTIFICATES)).is_ok());
    let many = certificate.repeat(MAX_CERTIFICATES + 1);
    assert_eq!(add(&many), Err(CarrierError::TooLarge));
    let large = vec![0x30; MAX_CARRIER_BYTES + 1];
    assert_eq!(add(&large), Err(CarrierError::TooLarge));
    assert_eq!(
        Carried::default().add_table(&large),
        Err(CarrierError::TooLarge)
    );
}
