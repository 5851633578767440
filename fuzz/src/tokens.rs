//! Anonymous tokens: what a client sends to a guest, what a server or an issuer answers, and the files that name issuers.

use std::sync::LazyLock;

use cloister_protocol::test_rng::TestRng;
use cloister_tokens::directory::{self, Directory};
use cloister_tokens::field::{self, Offer};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin::{Issuer, Limits, Origin, Refusal};
use cloister_tokens::request::{Pending, TokenRequest};
use cloister_tokens::{Token, TokenChallenge, TokenKey, description};

/// A key of another implementation's vectors: one that is made takes seconds.
static KEY: LazyLock<IssuerKey> = LazyLock::new(|| {
    let vectors = include_str!("../../tests/vectors/privacypass/pub_verif_rfc9578.go.json");
    let key = vectors.split("\"skS\"").nth(1);
    let hex = key.and_then(|rest| rest.split('"').nth(1)).expect("a key");
    let digits: Vec<char> = hex.chars().collect();
    let pair = |two: &[char]| u8::from_str_radix(&String::from_iter(two), 16);
    let pem: Vec<u8> = digits
        .chunks(2)
        .map(|two| pair(two).expect("hexadecimal"))
        .collect();
    let (_, der) = pem_rfc7468::decode_vec(&pem).expect("PEM");
    IssuerKey::from_pkcs8(&der).expect("a key")
});

fn challenge() -> TokenChallenge {
    TokenChallenge::new("issuer.example", Some([7; 32]), "cloister.example").expect("names")
}

/// The same on each call.
fn pending() -> (TokenRequest, Pending) {
    Pending::new(KEY.public(), &challenge(), &mut TestRng(1)).expect("a sound key")
}

fn response() -> Vec<u8> {
    let signed = KEY.issue(&pending().0, &mut TestRng(2));
    signed.expect("its own key").to_vec()
}

static TOKEN: LazyLock<Token> = LazyLock::new(|| {
    let token = pending().1.finalize(&response());
    token.expect("a signature")
});

fn issuer() -> Issuer {
    Issuer {
        name: "issuer.example".to_owned(),
        token_key: KEY.public().clone(),
        origin_info: "cloister.example".to_owned(),
    }
}

/// Challenges, as they stand in a field.
pub fn token_challenge(data: &[u8]) -> bool {
    let Ok(challenge) = TokenChallenge::decode(data) else {
        return false;
    };
    assert_eq!(challenge.encode(), data);
    let offer = Offer {
        challenge: challenge.clone(),
        token_key: KEY.public().clone(),
        max_age_s: None,
    };
    let field = offer.to_field();
    assert_eq!(field::read_offers(field.as_bytes()), Ok(vec![offer]));
    true
}

/// In a context and in any, for an origin and for any.
pub fn token_challenge_seeds() -> Vec<Vec<u8>> {
    let any = TokenChallenge::new("i", None, "").expect("names");
    [challenge(), any].map(|it| it.encode()).to_vec()
}

/// `WWW-Authenticate`, which a client reads.
pub fn token_offers(data: &[u8]) -> bool {
    let Ok(offers) = field::read_offers(data) else {
        return false;
    };
    assert!(offers.len() <= field::MAX_OFFERS);
    for offer in &offers {
        let again = field::read_offers(offer.to_field().as_bytes());
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(offer)));
    }
    !offers.is_empty()
}

/// Alone, and between other schemes.
pub fn token_offers_seeds() -> Vec<Vec<u8>> {
    let mut offer = Offer {
        challenge: challenge(),
        token_key: KEY.public().clone(),
        max_age_s: Some(60),
    };
    let alone = offer.to_field();
    offer.max_age_s = None;
    let among = format!(
        "Basic realm=\"x\", {}, Digest realm=\"y\"",
        offer.to_field()
    );
    [alone, among].map(String::into_bytes).to_vec()
}

/// `Authorization`, which the guest reads: only a token that the issuer signed for a challenge of now is good, and once.
pub fn token(data: &[u8]) -> bool {
    let limits = Limits {
        capacity: 4,
        ..Limits::DEFAULT
    };
    let origin = Origin::new(issuer(), limits, &mut TestRng(3), 0);
    let origin = origin.expect("names");
    if let Ok(unspent) = origin.check(Some(data)) {
        // Its challenge is none of this origin's.
        panic!("a token for another challenge is taken: {unspent:?}");
    }
    let Ok(token) = field::read_token(data) else {
        return false;
    };
    assert_eq!(Token::decode(&token.encode()).as_ref(), Some(&token));
    assert!(field::read_token(field::write_token(&token).as_bytes()) == Ok(token.clone()));
    let refusal = match token.token_key_id == *KEY.public().id() {
        true => Refusal::OtherChallenge,
        false => Refusal::OtherKey,
    };
    assert_eq!(origin.check(Some(data)).err(), Some(refusal));
    if KEY.public().has_signed(&token) {
        assert_eq!(
            token.input(),
            TOKEN.input(),
            "a signature of something else"
        );
    }
    true
}

/// One that was signed.
pub fn token_seeds() -> Vec<Vec<u8>> {
    vec![field::write_token(&TOKEN).into_bytes()]
}

/// Keys as SubjectPublicKeyInfo: in a manifest, in a release.
pub fn token_key(data: &[u8]) -> bool {
    let Ok(key) = TokenKey::from_spki(data) else {
        return false;
    };
    assert_eq!(&key.spki()[..], data);
    assert_eq!(TokenKey::from_base64(&key.to_base64()), Ok(key.clone()));
    // Whatever number its modulus is, it signed nothing of another key's.
    assert!(!key.has_signed(&TOKEN) || key == *KEY.public());
    // One that is no key of RSA is found out before anything is blinded with it.
    let begun = Pending::new(&key, &challenge(), &mut TestRng(4));
    assert!(begun.is_none() || key.rsa().is_some());
    true
}

/// One.
pub fn token_key_seeds() -> Vec<Vec<u8>> {
    vec![KEY.public().spki().to_vec()]
}

/// An issuer's directory.
pub fn token_directory(data: &[u8]) -> bool {
    let Ok(read) = Directory::from_json(data) else {
        return false;
    };
    assert!(data.len() <= directory::MAX_BYTES && read.token_keys.len() <= directory::MAX_KEYS);
    assert_eq!(Directory::from_json(&read.to_json()), Ok(read));
    true
}

/// Of one key, and with others that are passed over.
pub fn token_directory_seeds() -> Vec<Vec<u8>> {
    let ours = Directory {
        request_uri: "/token-request".to_owned(),
        token_keys: vec![KEY.public().clone()],
    };
    let text = String::from_utf8(ours.to_json()).expect("text");
    let more = text.replace(
        "[{",
        "[{\"token-type\":1,\"token-key\":\"AA==\",\"not-before\":7},{",
    );
    vec![text.into_bytes(), more.into_bytes()]
}

/// The file that names an issuer.
pub fn token_issuer(data: &[u8]) -> bool {
    let Ok(issuer) = Issuer::from_json(data) else {
        return false;
    };
    assert!(data.len() <= description::MAX_BYTES);
    assert_eq!(
        Issuer::from_json(issuer.to_json().as_bytes()).as_ref(),
        Ok(&issuer)
    );
    Origin::new(issuer, Limits::DEFAULT, &mut TestRng(5), 0).expect("names that a challenge has");
    true
}

/// One.
pub fn token_issuer_seeds() -> Vec<Vec<u8>> {
    vec![issuer().to_json().into_bytes()]
}

/// What an issuer is asked.
pub fn token_request(data: &[u8]) -> bool {
    let Some(request) = TokenRequest::decode(data) else {
        return false;
    };
    assert_eq!(request.encode()[..], *data);
    KEY.issue(&request, &mut TestRng(6)).is_ok()
}

/// One.
pub fn token_request_seeds() -> Vec<Vec<u8>> {
    vec![pending().0.encode().to_vec()]
}

/// What it answers: only a signature of what was asked makes a token.
pub fn token_response(data: &[u8]) -> bool {
    let Ok(token) = pending().1.finalize(data) else {
        return false;
    };
    assert!(KEY.public().has_signed(&token) && token.challenge_digest == challenge().digest());
    true
}

/// One.
pub fn token_response_seeds() -> Vec<Vec<u8>> {
    vec![response()]
}
