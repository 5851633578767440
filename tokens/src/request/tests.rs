//! The vectors of two other implementations, byte for byte in both directions, and answers that are none.

use super::*;
use crate::field::{Offer, read_offers, read_token, write_token};
use crate::issuer::{IssueError, IssuerKey, IssuerKeyError};
use cloister_protocol::test_rng::TestRng;
use serde_json::Value;
use std::string::String;
use std::vec::Vec;

fn vectors(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(all.len() >= 2);
    all
}

fn hex(vector: &Value, name: &str) -> Vec<u8> {
    let text = vector[name].as_str().unwrap_or_else(|| panic!("no {name}"));
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap())
        .collect()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    hex(vector, name).try_into().unwrap()
}

fn issuance() -> Vec<Value> {
    [
        vectors(include_str!(
            "../../../tests/vectors/privacypass/pub_verif_rfc9578.go.json"
        )),
        vectors(include_str!(
            "../../../tests/vectors/privacypass/pub_verif_rfc9578.rust.json"
        )),
    ]
    .concat()
}

/// PKCS #8 in DER out of PEM.
fn der(pem: &[u8]) -> Vec<u8> {
    use base64ct::{Base64, Encoding};
    let text = std::str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    Base64::decode_vec(&body).unwrap()
}

fn issuer(vector: &Value) -> IssuerKey {
    IssuerKey::from_pkcs8(&der(&hex(vector, "skS"))).unwrap()
}

/// A key of the vectors, and a token of it.
pub(crate) fn a_key() -> IssuerKey {
    issuer(&issuance()[0])
}

#[test]
fn issuance_is_that_of_other_implementations_byte_for_byte() {
    let all = issuance();
    assert_eq!(all.len(), 10);
    for vector in &all {
        let key = TokenKey::from_spki(&hex(vector, "pkS")).unwrap();
        let private = issuer(vector);
        assert_eq!(private.public(), &key);
        let challenge = TokenChallenge::decode(&hex(vector, "token_challenge")).unwrap();
        assert_eq!(challenge.encode(), hex(vector, "token_challenge"));

        let blinding = Blinding::new(&key.rsa().unwrap(), &array(vector, "blind")).unwrap();
        let (nonce, salt) = (array(vector, "nonce"), array(vector, "salt"));
        let (request, pending) = Pending::with(&key, &challenge, nonce, &salt, blinding).unwrap();
        assert_eq!(request.encode()[..], hex(vector, "token_request"));
        assert_eq!(
            TokenRequest::decode(&request.encode()),
            Some(request.clone())
        );

        let response = private.issue(&request, &mut TestRng(1)).unwrap();
        assert_eq!(response[..], hex(vector, "token_response"));

        let token = pending.finalize(&response).unwrap();
        assert_eq!(token.encode(), hex(vector, "token"));
        assert_eq!(Token::decode(&token.encode()), Some(token.clone()));
        assert!(key.has_signed(&token));
        assert_eq!(read_token(write_token(&token).as_bytes()), Ok(token));
    }
}

#[test]
fn challenges_and_what_is_signed_are_those_of_the_specification() {
    let all = vectors(include_str!(
        "../../../tests/vectors/privacypass/auth_scheme_token_v14.json"
    ));
    for vector in &all {
        let text = |name| String::from_utf8(hex(vector, name)).unwrap();
        let context = hex(vector, "redemption_context");
        let context = (!context.is_empty()).then(|| context.try_into().unwrap());
        let challenge =
            TokenChallenge::new(&text("issuer_name"), context, &text("origin_info")).unwrap();
        assert_eq!(
            TokenChallenge::decode(&challenge.encode()),
            Ok(challenge.clone())
        );
        let input = token::input(
            &array(vector, "nonce"),
            &challenge.digest(),
            &array(vector, "token_key_id"),
        );
        assert_eq!(input[..], hex(vector, "token_authenticator_input"));
    }
}

#[test]
fn fields_are_those_of_the_specification() {
    let all = vectors(include_str!(
        "../../../tests/vectors/privacypass/auth_scheme_header_v14.json"
    ));
    for vector in &all {
        let field = vector["WWW-Authenticate"].as_str().unwrap();
        let offers = read_offers(field.as_bytes()).unwrap();
        let [offer] = &offers[..] else {
            panic!("one challenge is of type 2: {offers:?}");
        };
        assert_eq!(offer.challenge.encode(), hex(vector, "token-challenge-0"));
        assert_eq!(offer.token_key.spki()[..], hex(vector, "token-key-0"));
        assert_eq!(
            read_offers(offer.to_field().as_bytes()).as_ref(),
            Ok(&offers)
        );
        let written = Offer {
            max_age_s: None,
            ..offer.clone()
        }
        .to_field();
        // Unknown parameters follow in the vectors.
        assert!(field.starts_with(&written), "{field}");
        assert_eq!(offer.max_age_s, Some(10));
    }
}

#[test]
fn answers_that_are_none() {
    let issuer = a_key();
    let challenge = TokenChallenge::new("issuer.example", None, "").unwrap();
    let begin = || Pending::new(issuer.public(), &challenge, &mut TestRng(7)).unwrap();
    let (request, pending) = begin();
    let response = issuer.issue(&request, &mut TestRng(8)).unwrap();
    assert!(pending.finalize(&response).is_ok());
    for length in [0, 1, 255] {
        let outcome = begin().1.finalize(&response[..length]);
        assert_eq!(outcome, Err(FinalizeError::Response));
    }
    assert_eq!(
        begin().1.finalize(&[0xff; 256]),
        Err(FinalizeError::Response)
    );
    for at in [0, 100, 255] {
        let mut altered = response;
        altered[at] ^= 1;
        assert!(begin().1.finalize(&altered).is_err(), "{at}");
    }
    // An answer to another request of the same client.
    let (_, other) = Pending::new(issuer.public(), &challenge, &mut TestRng(9)).unwrap();
    assert_eq!(other.finalize(&response), Err(FinalizeError::Signature));
}

#[test]
fn requests_that_are_refused() {
    let issuer = a_key();
    let challenge = TokenChallenge::new("issuer.example", None, "").unwrap();
    let (request, _) = Pending::new(issuer.public(), &challenge, &mut TestRng(7)).unwrap();
    let bytes = request.encode();
    for length in 0..REQUEST_BYTES {
        assert_eq!(TokenRequest::decode(&bytes[..length]), None);
    }
    assert_eq!(TokenRequest::decode(&[&bytes[..], &[0]].concat()), None);
    let mut other_type = bytes;
    other_type[1] = 1;
    assert_eq!(TokenRequest::decode(&other_type), None);
    let mut wrong = request.clone();
    wrong.truncated_token_key_id ^= 1;
    assert_eq!(
        issuer.issue(&wrong, &mut TestRng(1)),
        Err(IssueError::OtherKey)
    );
    wrong = request;
    wrong.blinded_message = [0xff; 256];
    assert_eq!(
        issuer.issue(&wrong, &mut TestRng(1)),
        Err(IssueError::Message)
    );
}

#[test]
fn the_issuer_sees_nothing_twice() {
    let key = a_key().public().clone();
    let challenge = TokenChallenge::new("issuer.example", None, "").unwrap();
    let mut rng = TestRng(3);
    let mut request = || Pending::new(&key, &challenge, &mut rng).unwrap().0;
    assert_ne!(request(), request());
}

#[test]
fn keys_are_read_in_one_form_only() {
    let vector = &issuance()[0];
    let spki = hex(vector, "pkS");
    let key = TokenKey::from_spki(&spki).unwrap();
    assert_eq!(TokenKey::from_base64(&key.to_base64()), Ok(key.clone()));
    for at in (0..81).chain(spki.len() - 5..spki.len()) {
        let mut altered = spki.clone();
        altered[at] ^= 1;
        assert!(TokenKey::from_spki(&altered).is_err(), "{at}");
    }
    for length in 0..spki.len() {
        assert!(TokenKey::from_spki(&spki[..length]).is_err());
    }
    assert!(TokenKey::from_spki(&[&spki[..], &[0]].concat()).is_err());
    let mut even = spki.clone();
    even[81 + 255] &= 0xfe;
    assert!(TokenKey::from_spki(&even).is_err());
    let mut short = spki;
    short[81] &= 0x7f;
    assert!(TokenKey::from_spki(&short).is_err());

    let private = der(&hex(vector, "skS"));
    let again = IssuerKey::from_pkcs8(&private).unwrap().to_pkcs8().unwrap();
    assert_eq!(IssuerKey::from_pkcs8(&again).unwrap().public(), &key);
    for at in [10, 100, 400, 800] {
        let mut altered = private.clone();
        altered[at] ^= 1;
        let outcome = IssuerKey::from_pkcs8(&altered).map(drop);
        assert_eq!(outcome, Err(IssuerKeyError::Encoding), "{at}");
    }
}

#[test]
fn a_directory_is_read_and_other_keys_are_passed_over() {
    use crate::directory::{Directory, DirectoryError};
    let key = a_key().public().clone();
    let directory = Directory {
        request_uri: "/token-request".into(),
        token_keys: [key.clone()].to_vec(),
    };
    let json = String::from_utf8(directory.to_json()).unwrap();
    assert_eq!(Directory::from_json(json.as_bytes()), Ok(directory.clone()));
    let more = json.replace(
        "\"token-keys\":[",
        "\"x\":1,\"token-keys\":[{\"token-type\":1,\"token-key\":\"AA\",\"not-before\":5},",
    );
    assert_eq!(Directory::from_json(more.as_bytes()), Ok(directory));
    let wrong = json.replace("MIIB", "MIIC");
    assert_eq!(
        Directory::from_json(wrong.as_bytes()),
        Err(DirectoryError::Key)
    );
    let long = std::vec![b' '; crate::directory::MAX_BYTES + 1];
    assert_eq!(Directory::from_json(&long), Err(DirectoryError::TooLarge));
    assert!(matches!(
        Directory::from_json(b"{}"),
        Err(DirectoryError::Json(_))
    ));
}
