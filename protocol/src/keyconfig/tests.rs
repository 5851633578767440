//! Lists that are taken, and lists that are not.

use super::*;
use crate::ohttp::Gateway;
use crate::testing::{TestRng, mutate};

const X25519_KEY: [u8; 32] = [9; 32];

fn x25519(key_id: u8) -> KeyConfig {
    KeyConfig::new(
        key_id,
        Kem::X25519,
        X25519_KEY.to_vec(),
        Suite::OFFERED.to_vec(),
    )
    .unwrap()
}

/// An entry behind its length.
fn framed(entry: &[u8]) -> Vec<u8> {
    [&(entry.len() as u16).to_be_bytes()[..], entry].concat()
}

fn fresh_list() -> Vec<u8> {
    let epoch = Epoch {
        number: 5,
        start_s: 100,
        end_s: 3700,
    };
    Gateway::generate_for_epoch(&mut TestRng(1), epoch).key_configs()
}

#[test]
fn one_entry_byte_by_byte() {
    let encoded = x25519(7).encode();
    let expected = [
        &[7, 0x00, 0x20][..],
        &X25519_KEY,
        &[0, 8, 0, 1, 0, 3, 0, 1, 0, 2],
    ]
    .concat();
    assert_eq!(encoded, expected);
    assert_eq!(KeyConfig::decode(&encoded), Ok(Some(x25519(7))));
}

#[test]
fn a_fresh_list_decodes_to_both_keys_and_the_epoch() {
    let list = decode_list(&fresh_list()).unwrap();
    assert_eq!(list.configs().len(), 2);
    assert_eq!(
        list.epoch(),
        Some(Epoch {
            number: 5,
            start_s: 100,
            end_s: 3700
        })
    );
    assert_eq!(encode_list(list.configs(), list.epoch()), fresh_list());
}

#[test]
fn x_wing_is_preferred_wherever_it_stands() {
    let list = decode_list(&fresh_list()).unwrap();
    let reversed = encode_list(list.configs().iter().rev(), None);
    assert_eq!(
        decode_list(&reversed).unwrap().preferred().kem(),
        Kem::XWing
    );
}

#[test]
fn entries_of_unknown_algorithms_are_skipped() {
    let p256 = [&[3, 0x00, 0x10][..], &[4; 65], &[0, 4, 0, 1, 0, 1]].concat();
    let mut other_suites = x25519(4).encode();
    let suites_at = other_suites.len() - 8;
    other_suites[suites_at..].copy_from_slice(&[0, 2, 0, 1, 0, 1, 0xff, 0xff]);
    let list = [
        framed(&p256),
        framed(&other_suites),
        framed(&x25519(5).encode()),
    ]
    .concat();
    assert_eq!(decode_list(&list).unwrap().configs(), [x25519(5)]);
    assert_eq!(decode_list(&framed(&p256)), Err(KeyConfigError::NoneUsable));
}

#[test]
fn unknown_suites_of_a_known_key_are_left_out() {
    let mut encoded = x25519(4).encode();
    let suites_at = encoded.len() - 8;
    encoded[suites_at..].copy_from_slice(&[0, 3, 0, 3, 0, 1, 0, 3]);
    let config = KeyConfig::decode(&encoded).unwrap().unwrap();
    assert_eq!(
        config.suites(),
        [Suite {
            aead: Aead::ChaCha20Poly1305
        }]
    );
}

#[test]
fn an_empty_list_is_refused() {
    assert_eq!(decode_list(b""), Err(KeyConfigError::NoneUsable));
}

#[test]
fn every_truncation_is_refused() {
    let list = fresh_list();
    // Between two entries the list is shorter, but a list.
    let is_boundary = |length: usize| {
        let mut reader = Reader::new(&list);
        while let Some(entry) = reader.u16() {
            reader.take(entry.into());
            if list.len() - reader.rest().len() == length {
                return true;
            }
        }
        false
    };
    for length in 0..list.len() {
        assert_eq!(
            decode_list(&list[..length]).is_ok(),
            is_boundary(length),
            "{length}"
        );
    }
}

#[test]
fn every_entry_is_exactly_as_long_as_its_content() {
    let mut longer = x25519(4).encode();
    longer.push(0);
    assert_eq!(
        decode_list(&framed(&longer)),
        Err(KeyConfigError::TrailingBytes { key_id: 4 })
    );
    for length in 3..longer.len() - 1 {
        assert_eq!(
            decode_list(&framed(&longer[..length])),
            Err(KeyConfigError::Truncated),
            "{length}"
        );
    }
}

#[test]
fn suites_are_whole_pairs_and_at_least_one() {
    let head = &x25519(4).encode()[..35];
    for suites in [&[0, 0][..], &[0, 2, 0, 1], &[0, 5, 0, 1, 0, 1, 0]] {
        let entry = [head, suites].concat();
        assert_eq!(
            decode_list(&framed(&entry)),
            Err(KeyConfigError::Suites { key_id: 4 })
        );
    }
    let none = KeyConfig::new(4, Kem::X25519, X25519_KEY.to_vec(), Vec::new());
    assert_eq!(none, Err(KeyConfigError::Suites { key_id: 4 }));
}

#[test]
fn one_malformed_entry_voids_the_list() {
    let list = [fresh_list(), framed(&x25519(9).encode()[..20])].concat();
    assert_eq!(decode_list(&list), Err(KeyConfigError::Truncated));
}

#[test]
fn a_public_key_must_be_one_of_its_kem() {
    let too_short = KeyConfig::new(1, Kem::XWing, vec![0; 32], Suite::OFFERED.to_vec());
    assert_eq!(too_short, Err(KeyConfigError::PublicKey { key_id: 1 }));
    // Coefficients of 0xfff are above ML-KEM's modulus (FIPS 203, section 7.2).
    let not_reduced = KeyConfig::new(1, Kem::XWing, vec![0xff; 1216], Suite::OFFERED.to_vec());
    assert_eq!(not_reduced, Err(KeyConfigError::PublicKey { key_id: 1 }));
}

#[test]
fn a_key_id_stands_for_one_key() {
    let list = encode_list(&[x25519(4), x25519(4)], None);
    assert_eq!(
        decode_list(&list),
        Err(KeyConfigError::DuplicateKeyId { key_id: 4 })
    );
}

#[test]
fn limits_hold() {
    let many: Vec<_> = (0..=MAX_ENTRIES as u8).map(x25519).collect();
    assert!(decode_list(&encode_list(&many[1..], None)).is_ok());
    assert_eq!(
        decode_list(&encode_list(&many, None)),
        Err(KeyConfigError::TooLarge)
    );
    assert_eq!(
        decode_list(&vec![0; MAX_LIST_BYTES + 1]),
        Err(KeyConfigError::TooLarge)
    );
}

#[test]
fn the_epoch_is_there_once_and_whole() {
    let epoch = Epoch {
        number: 1,
        start_s: 2,
        end_s: 3,
    };
    let entry = encode_epoch(epoch);
    let keys = encode_list(&[x25519(4)], None);
    let with = |entries: &[&[u8]]| {
        let framed: Vec<u8> = entries.iter().flat_map(|entry| framed(entry)).collect();
        decode_list(&[&keys[..], &framed].concat()).map(|list| list.epoch())
    };
    assert_eq!(with(&[&entry]), Ok(Some(epoch)));
    assert_eq!(with(&[&entry, &entry]), Err(KeyConfigError::Epoch));
    assert_eq!(
        with(&[&entry[..entry.len() - 1]]),
        Err(KeyConfigError::Epoch)
    );
    assert_eq!(
        with(&[&[&entry[..], &[0]].concat()]),
        Err(KeyConfigError::Epoch)
    );
    assert_eq!(
        with(&[&encode_epoch(Epoch {
            start_s: 4,
            ..epoch
        })]),
        Err(KeyConfigError::Epoch)
    );
    assert_eq!(
        with(&[&[0, 0, 0]]),
        Ok(None),
        "another use of the reserved KEM is skipped"
    );
}

#[test]
fn random_alterations_never_panic() {
    let list = fresh_list();
    mutate(&list, 2000, |altered| {
        if let Ok(decoded) = decode_list(altered) {
            assert!(!decoded.configs().is_empty());
            assert_eq!(
                decode_list(&encode_list(decoded.configs(), decoded.epoch())),
                Ok(decoded)
            );
        }
    });
}
