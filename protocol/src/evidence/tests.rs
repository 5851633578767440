//! The encoding, byte for byte, and what is refused.

use super::*;
use crate::ohttp::Gateway;
use crate::testing::{TestRng, mutate};

fn evidence() -> Evidence {
    Evidence {
        kind: Kind::None,
        key_configs: b"keys".to_vec(),
        epoch: 258,
        nonce: Some([7; 32]),
        tls_public_key: Vec::new(),
        enclosures: Enclosures::default(),
    }
}

/// A collection with these entries, whatever they are: label, then raw CBOR.
fn collection(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![0xa0 | entries.len() as u8];
    for (label, value) in entries {
        Encoder::new(&mut out).str(label).unwrap();
        out.extend_from_slice(value);
    }
    out
}

fn record(media_type: &str, value: &[u8], indicator: Option<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder
        .array(2 + u64::from(indicator.is_some()))
        .unwrap()
        .str(media_type)
        .unwrap()
        .bytes(value)
        .unwrap();
    indicator.map(|indicator| encoder.u32(indicator).map(drop));
    out
}

fn collection_type(uri: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(&mut out).str(uri).unwrap();
    out
}

/// The entries of [`evidence`], in the order of the text above the module.
fn entries() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (TYPE_KEY, collection_type(COLLECTION_TYPE)),
        (
            "epoch",
            record(EPOCH_MEDIA_TYPE, &[0, 0, 0, 0, 0, 0, 1, 2], None),
        ),
        ("evidence", record(NONE_MEDIA_TYPE, b"", Some(4))),
        ("keys", record("application/ohttp-keys", b"keys", None)),
        ("nonce", record(NONCE_MEDIA_TYPE, &[7; 32], None)),
    ]
}

fn decode(entries: &[(&'static str, Vec<u8>)]) -> Result<Evidence, EvidenceError> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(label, value)| (*label, &value[..]))
        .collect();
    Evidence::decode(&collection(&entries))
}

/// The entries with the value of one replaced.
fn with(label: &'static str, value: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let replace = |(other, old)| {
        if other == label {
            (other, value.clone())
        } else {
            (other, old)
        }
    };
    entries().into_iter().map(replace).collect()
}

#[test]
fn the_encoding_is_a_cbor_map_of_records() {
    let entries = entries();
    let sorted: Vec<_> = [3, 1, 4, 0, 2]
        .map(|index| (entries[index].0, &entries[index].1[..]))
        .to_vec();
    assert_eq!(evidence().encode(), collection(&sorted));
    assert_eq!(Evidence::decode(&evidence().encode()), Ok(evidence()));
}

#[test]
fn labels_are_in_deterministic_order() {
    let encoded = evidence().encode();
    let mut decoder = Decoder::new(&encoded);
    let count = decoder.map().unwrap().unwrap();
    let mut labels = Vec::new();
    for _ in 0..count {
        let start = decoder.position();
        decoder.str().unwrap();
        labels.push(encoded[start..decoder.position()].to_vec());
        decoder.skip().unwrap();
    }
    assert!(labels.is_sorted());
}

#[test]
fn any_order_is_taken_and_unknown_entries_are_passed_over() {
    assert_eq!(decode(&entries()), Ok(evidence()));
    let mut more = entries();
    more.push(("weather", record("text/plain", b"...", None)));
    assert_eq!(decode(&more), Ok(evidence()));
}

#[test]
fn enclosures_go_with_the_evidence_as_they_are() {
    let enclosed = Evidence {
        enclosures: Enclosures {
            certificates: vec![9; 5000],
            release_note: b"note".to_vec(),
            release_proof: b"proof".to_vec(),
        },
        ..evidence()
    };
    let encoded = enclosed.encode();
    assert_eq!(Evidence::decode(&encoded), Ok(enclosed));
    for (label, media_type) in ENCLOSURES {
        let decode_with = |records: &[Vec<u8>]| {
            let mut more = entries();
            more.extend(records.iter().map(|record| (label, record.clone())));
            decode(&more)
        };
        let good = record(media_type, b"c", Some(2));
        assert!(decode_with(core::slice::from_ref(&good)).is_ok());
        let twice = Err(EvidenceError::Duplicate { label });
        assert_eq!(decode_with(&[good.clone(), good]), twice);
        let wrong = Err(EvidenceError::Entry { label });
        assert_eq!(decode_with(&[record(media_type, b"c", Some(4))]), wrong);
        assert_eq!(decode_with(&[record("text/plain", b"c", Some(2))]), wrong);
        let long = vec![0; MAX_ENCLOSURE_BYTES + 1];
        assert_eq!(
            decode_with(&[record(media_type, &long, Some(2))]),
            Err(EvidenceError::TooLarge)
        );
    }
}

#[test]
fn cached_evidence_has_no_nonce() {
    let cached = Evidence {
        nonce: None,
        ..evidence()
    };
    assert_eq!(Evidence::decode(&cached.encode()), Ok(cached));
}

#[test]
fn a_report_arrives_byte_for_byte() {
    let report: [u8; SEV_SNP_REPORT_BYTES] = core::array::from_fn(|at| at as u8);
    let attested = Evidence {
        kind: Kind::SevSnp(Box::new(report)),
        ..evidence()
    };
    assert_eq!(Evidence::decode(&attested.encode()), Ok(attested));
    for length in [0, SEV_SNP_REPORT_BYTES - 1] {
        let short = record(SEV_SNP_MEDIA_TYPE, &report[..length], Some(4));
        let refused = Err(EvidenceError::Entry { label: "evidence" });
        assert_eq!(decode(&with("evidence", short)), refused, "{length}");
    }
}

#[test]
fn the_tls_key_goes_with_the_evidence() {
    let with_key = Evidence {
        tls_public_key: b"key".to_vec(),
        ..evidence()
    };
    let encoded = with_key.encode();
    assert_eq!(Evidence::decode(&encoded), Ok(with_key));
    // Between the labels of five and of eight letters.
    let label = |text: &str| {
        encoded
            .windows(text.len())
            .position(|w| w == text.as_bytes())
    };
    assert!(label("nonce") < label("tls-key") && label("tls-key") < label(TYPE_KEY));
    let decode_with = |value: &[u8]| {
        let mut more = entries();
        more.push(("tls-key", record(TLS_KEY_MEDIA_TYPE, value, None)));
        decode(&more)
    };
    assert!(decode_with(&[1; MAX_TLS_KEY_BYTES]).is_ok());
    let too_long = decode_with(&[1; MAX_TLS_KEY_BYTES + 1]);
    assert_eq!(too_long, Err(EvidenceError::TooLarge));
    let wrong = Err(EvidenceError::Entry { label: "tls-key" });
    assert_eq!(decode_with(b""), wrong);
    let mut other_type = entries();
    other_type.push(("tls-key", record("text/plain", b"key", None)));
    assert_eq!(decode(&other_type), wrong);
}

#[test]
fn a_real_key_config_list_arrives_byte_for_byte() {
    let key_configs = Gateway::generate(&mut TestRng(1)).key_configs();
    let evidence = Evidence {
        key_configs,
        ..evidence()
    };
    assert_eq!(Evidence::decode(&evidence.encode()), Ok(evidence));
}

#[test]
fn entries_that_must_be_there() {
    for (index, label) in [(1, "epoch"), (2, "evidence"), (3, "keys")] {
        let mut fewer = entries();
        fewer.remove(index);
        assert_eq!(decode(&fewer), Err(EvidenceError::Missing { label }));
    }
    assert_eq!(decode(&entries()[1..]), Err(EvidenceError::CollectionType));
    assert_eq!(
        decode(&with(TYPE_KEY, collection_type("urn:other"))),
        Err(EvidenceError::CollectionType)
    );
}

#[test]
fn entries_that_are_there_twice() {
    for (index, label) in [
        (0, TYPE_KEY),
        (1, "epoch"),
        (2, "evidence"),
        (3, "keys"),
        (4, "nonce"),
    ] {
        let mut twice = entries();
        twice.push(entries()[index].clone());
        assert_eq!(decode(&twice), Err(EvidenceError::Duplicate { label }));
    }
}

#[test]
fn entries_of_the_wrong_type_or_size() {
    let epoch = EvidenceError::Entry { label: "epoch" };
    assert_eq!(
        decode(&with("epoch", record(EPOCH_MEDIA_TYPE, &[0; 7], None))),
        Err(epoch.clone())
    );
    assert_eq!(
        decode(&with("epoch", record("text/plain", &[0; 8], None))),
        Err(epoch.clone())
    );
    assert_eq!(
        decode(&with("epoch", record(EPOCH_MEDIA_TYPE, &[0; 8], Some(4)))),
        Err(epoch)
    );
    let nonce = EvidenceError::Entry { label: "nonce" };
    assert_eq!(
        decode(&with("nonce", record(NONCE_MEDIA_TYPE, &[0; 33], None))),
        Err(nonce)
    );
    let keys = EvidenceError::Entry { label: "keys" };
    assert_eq!(
        decode(&with("keys", record("application/json", b"keys", None))),
        Err(keys)
    );
}

#[test]
fn no_other_kind_passes_for_none() {
    let entry = EvidenceError::Entry { label: "evidence" };
    assert_eq!(
        decode(&with("evidence", record(NONE_MEDIA_TYPE, b"", None))),
        Err(entry.clone())
    );
    assert_eq!(
        decode(&with("evidence", record(NONE_MEDIA_TYPE, b"", Some(2)))),
        Err(entry.clone())
    );
    assert_eq!(
        decode(&with("evidence", record(NONE_MEDIA_TYPE, b"x", Some(4)))),
        Err(entry)
    );
    let report = record("application/vnd.example.report", b"x", Some(4));
    assert_eq!(
        decode(&with("evidence", report)),
        Err(EvidenceError::UnknownKind)
    );
}

#[test]
fn only_definite_lengths_and_records() {
    assert_eq!(Evidence::decode(&[0xbf, 0xff]), Err(EvidenceError::Cbor));
    assert_eq!(Evidence::decode(&[0x80]), Err(EvidenceError::Cbor));
    let pieces = [
        &record("text/plain", b"", None)[..12],
        &[0x5f, 0x41, 0, 0xff],
    ]
    .concat();
    assert_eq!(decode(&with("keys", pieces)), Err(EvidenceError::Cbor));
    assert_eq!(decode(&with("keys", vec![0xf6])), Err(EvidenceError::Cbor));
    assert_eq!(
        decode(&with("keys", vec![0xa1, 0x61, b'x', 0x80])),
        Err(EvidenceError::Cbor)
    );
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    let mut encoded = evidence().encode();
    for length in 0..encoded.len() {
        assert!(Evidence::decode(&encoded[..length]).is_err(), "{length}");
    }
    encoded.push(0);
    assert_eq!(
        Evidence::decode(&encoded),
        Err(EvidenceError::TrailingBytes)
    );
}

#[test]
fn limits_hold() {
    assert_eq!(
        Evidence::decode(&vec![0; MAX_BYTES + 1]),
        Err(EvidenceError::TooLarge)
    );
    assert_eq!(
        Evidence::decode(&[0xb8, MAX_ENTRIES as u8 + 1]),
        Err(EvidenceError::TooLarge)
    );
    let keys = record(
        "application/ohttp-keys",
        &vec![0; keyconfig::MAX_LIST_BYTES + 1],
        None,
    );
    assert_eq!(decode(&with("keys", keys)), Err(EvidenceError::TooLarge));
    // Lengths of 2^64 - 1 are no allocation.
    assert_eq!(
        Evidence::decode(&[&[0xbb][..], &[0xff; 8]].concat()),
        Err(EvidenceError::TooLarge)
    );
    let huge = [&[0x82, 0x60, 0x5b][..], &[0xff; 8]].concat();
    assert_eq!(decode(&with("keys", huge)), Err(EvidenceError::Cbor));
}

#[test]
fn random_alterations_never_panic() {
    let evidence = Evidence {
        tls_public_key: b"key".to_vec(),
        ..evidence()
    };
    mutate(&evidence.encode(), 5000, |altered| {
        if let Ok(decoded) = Evidence::decode(altered) {
            assert_eq!(Evidence::decode(&decoded.encode()), Ok(decoded));
        }
    });
}

/// Computed with another implementation of SHA-2 (Python's hashlib) from the formula in the design.
#[test]
fn report_data_binds_epoch_keys_and_nonce() {
    let data = report_data(258, b"keys", b"", Some(&[7; 32]));
    assert_eq!(to_hex(&data), EXPECTED_REPORT_DATA);
    assert_ne!(report_data(259, b"keys", b"", Some(&[7; 32])), data);
    assert_ne!(report_data(258, b"keyz", b"", Some(&[7; 32])), data);
    assert_ne!(report_data(258, b"keys", b"tls", Some(&[7; 32])), data);
    assert_ne!(report_data(258, b"keys", b"", None), data);
}

const EXPECTED_REPORT_DATA: &str = "832d0c48e44a0a75d1e060995c93ecc3e26d507e64abe92979aef6aee144d0e24302a6f1775b79c90ae86dc77a7bce7d43cbddca2d7c6ae950d362e58edc9996";

#[test]
fn nonces_are_64_hex_digits() {
    let text = "00ff".repeat(16);
    assert_eq!(
        parse_nonce(&text).map(|nonce| to_hex(&nonce)),
        Some(text.clone())
    );
    assert_eq!(parse_nonce(&text.to_uppercase()), parse_nonce(&text));
    for bad in [
        "",
        &text[1..],
        &text[2..],
        &format!("{text}00"),
        &text.replace("ff", "fg"),
        &text.replace("ff", "é"),
    ] {
        assert_eq!(parse_nonce(bad), None, "{bad}");
    }
}
