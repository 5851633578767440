//! Exchanges between our own client and gateway, and what is refused.

use super::*;
use crate::keyconfig::{Aead, Epoch, Kem, KeyConfig, decode_list};
use crate::testing::{TestRng, mutate};

const REQUEST: &[u8] = b"a request";
const RESPONSE: &[u8] = b"a response";

fn gateway() -> Gateway {
    Gateway::generate(&mut TestRng(1))
}

fn config(gateway: &Gateway, kem: Kem) -> KeyConfig {
    let list = decode_list(&gateway.key_configs()).unwrap();
    list.configs()
        .iter()
        .find(|config| config.kem() == kem)
        .unwrap()
        .clone()
}

/// A client for each KEM and AEAD that the gateway offers.
fn clients(gateway: &Gateway) -> Vec<Client> {
    let configs = Kem::ALL.map(|kem| config(gateway, kem));
    let with_aeads = configs
        .iter()
        .flat_map(|config| Aead::ALL.map(|aead| Client::with_aead(config, aead)));
    let clients: Vec<Client> = with_aeads.flatten().collect();
    assert_eq!(
        clients.len(),
        4,
        "two KEMs with two AEADs each; AES-128-GCM is not offered"
    );
    clients
}

#[test]
fn a_fresh_gateway_prefers_x_wing_with_key_id_1() {
    let list = decode_list(&gateway().key_configs()).unwrap();
    let ids: Vec<_> = list
        .configs()
        .iter()
        .map(|config| (config.key_id(), config.kem()))
        .collect();
    assert_eq!(ids, [(1, Kem::XWing), (2, Kem::X25519)]);
    assert_eq!(list.preferred().kem(), Kem::XWing);
    assert_eq!(list.epoch(), None);
}

#[test]
fn an_exchange_with_every_suite() {
    let gateway = gateway();
    let mut rng = TestRng(2);
    for client in clients(&gateway) {
        let (sealed, opener) = client.encapsulate(&mut rng, REQUEST).unwrap();
        let (request, sealer) = gateway.decapsulate(&sealed).unwrap();
        assert_eq!(&request[..], REQUEST);
        let sealed = sealer.seal(&mut rng, RESPONSE);
        assert_eq!(&opener.open(&sealed).unwrap()[..], RESPONSE);
    }
}

#[test]
fn sizes_are_as_announced() {
    let gateway = gateway();
    let mut rng = TestRng(3);
    let client = Client::new(&config(&gateway, Kem::XWing));
    let (sealed, _) = client.encapsulate(&mut rng, REQUEST).unwrap();
    assert_eq!(sealed.len(), REQUEST.len() + MAX_REQUEST_OVERHEAD_BYTES);
    let (_, sealer) = gateway.decapsulate(&sealed).unwrap();
    assert_eq!(
        sealer.seal(&mut rng, RESPONSE).len(),
        RESPONSE.len() + MAX_RESPONSE_OVERHEAD_BYTES
    );
}

#[test]
fn two_requests_share_no_bytes_but_the_header() {
    let gateway = gateway();
    let mut rng = TestRng(4);
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (first, _) = client.encapsulate(&mut rng, REQUEST).unwrap();
    let (second, _) = client.encapsulate(&mut rng, REQUEST).unwrap();
    assert_eq!(first[..7], second[..7]);
    assert_ne!(first[7..39], second[7..39]);
    assert_ne!(first[39..], second[39..]);
}

#[test]
fn empty_messages_are_messages() {
    let gateway = gateway();
    let mut rng = TestRng(5);
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (sealed, opener) = client.encapsulate(&mut rng, b"").unwrap();
    let (request, sealer) = gateway.decapsulate(&sealed).unwrap();
    assert!(request.is_empty());
    assert!(opener.open(&sealer.seal(&mut rng, b"")).unwrap().is_empty());
}

#[test]
fn an_unknown_key_id_has_an_error_of_its_own() {
    let gateway = gateway();
    let client = Client::new(&config(&gateway, Kem::XWing));
    let (mut sealed, _) = client.encapsulate(&mut TestRng(6), REQUEST).unwrap();
    sealed[0] = 99;
    assert_eq!(
        gateway.decapsulate(&sealed).unwrap_err(),
        OhttpError::UnknownKey { key_id: 99 }
    );
    // Even when nothing but the header has arrived: the key is looked up first.
    assert_eq!(
        gateway.decapsulate(&sealed[..7]).unwrap_err(),
        OhttpError::UnknownKey { key_id: 99 }
    );
}

#[test]
fn key_ids_tell_epochs_apart() {
    let epoch = |number| Epoch {
        number,
        start_s: 3600 * number,
        end_s: 3600 * (number + 1),
    };
    let mut rng = TestRng(7);
    let [old, new] = [126, 127].map(|number| Gateway::generate_for_epoch(&mut rng, epoch(number)));
    assert_eq!(
        decode_list(&new.key_configs()).unwrap().epoch(),
        Some(epoch(127))
    );
    assert_eq!(new.epoch(), Some(epoch(127)));
    let client = Client::new(&config(&old, Kem::X25519));
    let (sealed, _) = client.encapsulate(&mut rng, REQUEST).unwrap();
    assert_eq!(
        new.decapsulate(&sealed).unwrap_err(),
        OhttpError::UnknownKey { key_id: 254 }
    );
    assert!(old.decapsulate(&sealed).is_ok());
}

#[test]
fn algorithms_that_were_not_offered_are_refused() {
    let gateway = gateway();
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (sealed, _) = client.encapsulate(&mut TestRng(8), REQUEST).unwrap();
    let unsupported = OhttpError::UnsupportedSuite { key_id: 2 };
    // KEM of the other key, another KDF, AES-128-GCM, export-only.
    for (at, value) in [
        (1, [0x64, 0x7a]),
        (3, [0, 2]),
        (5, [0, 1]),
        (5, [0xff, 0xff]),
    ] {
        let mut altered = sealed.clone();
        altered[at..at + 2].copy_from_slice(&value);
        assert_eq!(gateway.decapsulate(&altered).unwrap_err(), unsupported);
    }
}

#[test]
fn every_flipped_bit_of_a_request_is_refused() {
    let gateway = gateway();
    for (client, step) in clients(&gateway).iter().zip([16, 16, 1, 1]) {
        let (sealed, _) = client.encapsulate(&mut TestRng(9), REQUEST).unwrap();
        for bit in (0..sealed.len() * 8).step_by(step) {
            let mut altered = sealed.clone();
            // One bit in each 16 of the long X-Wing ciphertext, a different one each time; each bit elsewhere.
            let bit = bit + if step > 1 { bit / step % step } else { 0 };
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(
                gateway.decapsulate(&altered).is_err(),
                "bit {bit} of {client:?}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_of_a_response_is_refused() {
    let gateway = gateway();
    let client = Client::new(&config(&gateway, Kem::X25519));
    let exchange = || {
        let mut rng = TestRng(10);
        let (sealed, opener) = client.encapsulate(&mut rng, REQUEST).unwrap();
        (
            gateway
                .decapsulate(&sealed)
                .unwrap()
                .1
                .seal(&mut rng, RESPONSE),
            opener,
        )
    };
    let bits = exchange().0.len() * 8;
    for bit in 0..bits {
        let (mut sealed, opener) = exchange();
        sealed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            opener.open(&sealed).unwrap_err(),
            OhttpError::Unopenable,
            "bit {bit}"
        );
    }
}

#[test]
fn every_truncation_is_refused() {
    let gateway = gateway();
    for client in clients(&gateway) {
        let mut rng = TestRng(11);
        let (sealed, opener) = client.encapsulate(&mut rng, REQUEST).unwrap();
        for length in 0..sealed.len() {
            let error = gateway.decapsulate(&sealed[..length]).unwrap_err();
            assert!(
                matches!(error, OhttpError::Truncated | OhttpError::Unopenable),
                "{length}: {error}"
            );
        }
        let sealed = gateway
            .decapsulate(&sealed)
            .unwrap()
            .1
            .seal(&mut rng, RESPONSE);
        drop(opener);
        for length in (0..sealed.len()).step_by(7) {
            let (_, opener) = client.encapsulate(&mut TestRng(11), REQUEST).unwrap();
            assert!(opener.open(&sealed[..length]).is_err(), "{length}");
        }
    }
}

#[test]
fn a_response_opens_only_for_its_own_request() {
    let gateway = gateway();
    let mut rng = TestRng(12);
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (first, _) = client.encapsulate(&mut rng, REQUEST).unwrap();
    let (_, other_opener) = client.encapsulate(&mut rng, REQUEST).unwrap();
    let sealed = gateway
        .decapsulate(&first)
        .unwrap()
        .1
        .seal(&mut rng, RESPONSE);
    assert_eq!(
        other_opener.open(&sealed).unwrap_err(),
        OhttpError::Unopenable
    );
}

/// A point of small order makes the shared secret zero, which RFC 9180, section 7.1.4, wants refused on both sides.
#[test]
fn keys_of_small_order_are_refused() {
    let small = KeyConfig::new(
        2,
        Kem::X25519,
        vec![0; 32],
        crate::suite::Suite::OFFERED.to_vec(),
    )
    .unwrap();
    let refused = Client::new(&small).encapsulate(&mut TestRng(13), REQUEST);
    assert_eq!(refused.unwrap_err(), OhttpError::InvalidKey);

    let gateway = gateway();
    let client = Client::new(&config(&gateway, Kem::X25519));
    let (mut sealed, _) = client.encapsulate(&mut TestRng(14), REQUEST).unwrap();
    sealed[7..39].fill(0);
    assert_eq!(
        gateway.decapsulate(&sealed).unwrap_err(),
        OhttpError::InvalidKey
    );
}

#[test]
fn random_alterations_never_panic() {
    let gateway = gateway();
    for client in clients(&gateway) {
        let (sealed, _) = client.encapsulate(&mut TestRng(15), REQUEST).unwrap();
        mutate(&sealed, 300, |altered| {
            let opened = gateway.decapsulate(altered);
            assert_eq!(opened.is_ok(), altered == sealed);
        });
    }
}
