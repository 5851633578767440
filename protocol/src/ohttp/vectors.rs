//! Vectors from outside: RFC 9180, RFC 9458, X-Wing, draft-ietf-hpke-pq. Origins: tests/vectors/{hpke,ohttp}/README.md.

use super::context::{self, PrivateKey};
use super::response::ResponseSecret;
use super::*;
use crate::keyconfig::{Aead, KeyConfig, Suite};
use crate::testing::{ScriptedRng, hex};
use hpke::kem::{Kem as HpkeKem, XWing};
use hpke::{Deserializable, Serializable};
use serde_json::Value;

const RFC_9180: &str = include_str!("../../../tests/vectors/hpke/rfc9180-x25519-base.json");
const HPKE_PQ: &str = include_str!("../../../tests/vectors/hpke/hpke-pq-xwing-hkdf.json");
const X_WING: &str = include_str!("../../../tests/vectors/hpke/xwing-vectors.json");
const RFC_9458: &str = include_str!("../../../tests/vectors/ohttp/rfc9458-appendix-a.json");

fn array(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// The bytes of a member that holds hex.
fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    hex(vector[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is hex")))
}

fn number(vector: &Value, name: &str) -> u64 {
    vector[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} is a number"))
}

/// Setup, encryptions and exports of one vector of RFC 9180's format, as sender and as receiver.
fn check_hpke_vector(vector: &Value) {
    let kem = Kem::from_id(number(vector, "kem_id") as u16).unwrap();
    let suite = Suite::from_ids(
        number(vector, "kdf_id") as u16,
        number(vector, "aead_id") as u16,
    )
    .unwrap();
    let info = bytes(vector, "info");
    let mut rng = ScriptedRng(bytes(vector, "ikmE"));
    let (encapped, mut sender) =
        context::sender(kem, suite.aead, &bytes(vector, "pkRm"), &info, &mut rng).unwrap();
    assert_eq!(encapped, bytes(vector, "enc"));

    let (private, public) = PrivateKey::from_bytes(kem, &bytes(vector, "skRm"));
    assert_eq!(public, bytes(vector, "pkRm"));
    let mut receiver = private.receiver(suite.aead, &encapped, &info).unwrap();

    let base_nonce = bytes(vector, "base_nonce");
    let mut next = 0;
    for encryption in vector["encryptions"].as_array().unwrap() {
        let sequence = sequence_number(&base_nonce, &bytes(encryption, "nonce"));
        for skipped in next..sequence {
            let sealed = sender.seal(b"", &[skipped as u8]).unwrap();
            assert_eq!(&receiver.open(b"", &sealed).unwrap()[..], [skipped as u8]);
        }
        let (aad, plaintext) = (bytes(encryption, "aad"), bytes(encryption, "pt"));
        let sealed = sender.seal(&aad, &plaintext).unwrap();
        assert_eq!(
            sealed,
            bytes(encryption, "ct"),
            "sequence number {sequence}"
        );
        assert_eq!(&receiver.open(&aad, &sealed).unwrap()[..], plaintext);
        next = sequence + 1;
    }
    for export in vector["exports"].as_array().unwrap() {
        let expected = bytes(export, "exported_value");
        assert_eq!(number(export, "L") as usize, expected.len());
        let (mut sent, mut received) = (vec![0; expected.len()], vec![0; expected.len()]);
        sender.export(&bytes(export, "exporter_context"), &mut sent);
        receiver.export(&bytes(export, "exporter_context"), &mut received);
        assert_eq!(sent, expected);
        assert_eq!(received, expected);
    }
}

/// What was XORed into the base nonce.
fn sequence_number(base_nonce: &[u8], nonce: &[u8]) -> u64 {
    let difference = base_nonce.iter().zip(nonce).map(|(base, byte)| base ^ byte);
    difference.fold(0, |number, byte| (number << 8) | u64::from(byte))
}

#[test]
fn hpke_vectors_of_rfc_9180() {
    let vectors = array(RFC_9180);
    assert_eq!(vectors.len(), 3);
    vectors.iter().for_each(check_hpke_vector);
}

#[test]
fn hpke_vectors_of_the_post_quantum_draft() {
    let vectors = array(HPKE_PQ);
    assert_eq!(vectors.len(), 1);
    assert_eq!(number(&vectors[0], "kem_id"), 0x647a);
    vectors.iter().for_each(check_hpke_vector);
}

#[test]
fn key_pairs_derived_as_the_vectors_say() {
    for vector in array(RFC_9180) {
        let (_, public) =
            PrivateKey::generate(Kem::X25519, &mut ScriptedRng(bytes(&vector, "ikmR")));
        assert_eq!(public, bytes(&vector, "pkRm"));
    }
    for vector in array(HPKE_PQ) {
        let (_, public) =
            PrivateKey::generate(Kem::XWing, &mut ScriptedRng(bytes(&vector, "ikmR")));
        assert_eq!(public, bytes(&vector, "pkRm"));
    }
}

#[test]
fn x_wing_vectors() {
    let vectors = array(X_WING);
    assert_eq!(vectors.len(), 3);
    for vector in &vectors {
        let private = <XWing as HpkeKem>::PrivateKey::from_bytes(&bytes(vector, "sk")).unwrap();
        let public = XWing::sk_to_pk(&private);
        assert_eq!(public.to_bytes().to_vec(), bytes(vector, "pk"));
        let mut rng = ScriptedRng(bytes(vector, "eseed"));
        let (secret, encapped) = XWing::encap_with_rng(&public, None, &mut rng).unwrap();
        assert_eq!(encapped.to_bytes().to_vec(), bytes(vector, "ct"));
        assert_eq!(secret.0.to_vec(), bytes(vector, "ss"));
        assert_eq!(
            XWing::decap(&private, None, &encapped).unwrap().0.to_vec(),
            bytes(vector, "ss")
        );
    }
}

/// The gateway of RFC 9458, appendix A.
fn rfc_9458_gateway(vector: &Value) -> Gateway {
    let suites = [
        Suite {
            aead: Aead::Aes128Gcm,
        },
        Suite {
            aead: Aead::ChaCha20Poly1305,
        },
    ];
    Gateway::with_key(
        1,
        Kem::X25519,
        &bytes(vector, "gateway_secret_key_x25519"),
        &suites,
    )
}

#[test]
fn key_config_of_rfc_9458_appendix_a() {
    let vector: Value = serde_json::from_str(RFC_9458).unwrap();
    let encoded = bytes(&vector, "key_config");
    let config = KeyConfig::decode(&encoded).unwrap().unwrap();
    assert_eq!(config.encode(), encoded);
    let list = [&(encoded.len() as u16).to_be_bytes()[..], &encoded].concat();
    assert_eq!(rfc_9458_gateway(&vector).key_configs(), list);
}

#[test]
fn request_and_response_of_rfc_9458_appendix_a() {
    let vector: Value = serde_json::from_str(RFC_9458).unwrap();
    let sealed_request = bytes(&vector, "encapsulated_request");
    let (request, sealer) = rfc_9458_gateway(&vector)
        .decapsulate(&sealed_request)
        .unwrap();
    assert_eq!(&request[..], bytes(&vector, "binary_http_request"));

    let sealed_response = bytes(&vector, "encapsulated_response");
    let mut rng = ScriptedRng(sealed_response[..16].to_vec());
    assert_eq!(
        sealer.seal(&mut rng, &bytes(&vector, "binary_http_response")),
        sealed_response
    );
}

/// The vector's client key is not derived from input that a generator could hand out, so that the client's side is
/// checked from the exported secret on.
#[test]
fn response_of_rfc_9458_appendix_a_opens_at_the_client() {
    let vector: Value = serde_json::from_str(RFC_9458).unwrap();
    let exported = bytes(&vector, "exported_secret");
    let encapped = bytes(&vector, "enc_public_key");
    let secret = ResponseSecret::new(Aead::Aes128Gcm, &encapped, |out| {
        out.copy_from_slice(&exported)
    });
    let sealed = bytes(&vector, "encapsulated_response");
    let response = secret
        .cipher(&sealed[..16])
        .open(b"", &sealed[16..])
        .unwrap();
    assert_eq!(&response[..], bytes(&vector, "binary_http_response"));
}

/// RFC 9458 has no vector with a key of 32 bytes. These were computed with Python's `hmac` and the `cryptography`
/// package: the first part without additional data, the second, with the counter at 1, with that of a final chunk.
#[test]
fn responses_with_keys_of_32_bytes() {
    let range = |start: u8| (start..start + 32).collect::<Vec<u8>>();
    for (aead, first, second) in [
        (
            Aead::ChaCha20Poly1305,
            "7dee55412758ce1f04bfcb7f45b513f6ce17a0b79a7ec3b54174",
            "52077632d5279af8228bc4d33afe5052cd923ae8222f13d656b5",
        ),
        (
            Aead::Aes256Gcm,
            "efca948293021b39e6f7d89323324e6f3d263f3d9ba48e9e79a0",
            "c2b2e1fa31b85e4f645ab27e81dc7fdb328302d810fc2178b1d7",
        ),
    ] {
        let secret = ResponseSecret::new(aead, &range(64), |out| out.copy_from_slice(&range(0)));
        let mut cipher = secret.cipher(&range(128));
        assert_eq!(cipher.seal(b"", b"a response").unwrap(), hex(first));
        assert_eq!(cipher.seal(b"final", b"a response").unwrap(), hex(second));
    }
}
