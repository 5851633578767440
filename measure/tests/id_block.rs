//! ID blocks, signed with test keys, as the `sev` crate makes them.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use base64ct::{Base64, Encoding as _};
use cloister_measure::id_block::{IdAuthError, IdKeyError};
use cloister_measure::{IdAuth, IdBlock, IdKey, LaunchDigest};
use serde_json::Value;

const ID_KEY: &str = include_str!("vectors/idblock/test_id_key.pem");
const AUTHOR_KEY: &str = include_str!("vectors/idblock/test_auth_key.pem");
const ID_AUTH: &[u8; 4096] = include_bytes!("vectors/idblock/test_auth_block.bin");

fn key(pem: &str) -> IdKey {
    IdKey::from_pem(pem).unwrap()
}

fn expected() -> Value {
    serde_json::from_str(include_str!("vectors/idblock/expected.json")).unwrap()
}

fn block() -> IdBlock {
    let digest: LaunchDigest = expected()["launch_digest_hex"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    IdBlock::new(digest)
}

#[test]
fn id_block_and_key_digests_are_those_of_the_sev_crate() {
    let expected = expected();
    assert_eq!(block().to_base64(), expected["id_block"].as_str().unwrap());
    let digest = |pem| Base64::encode_string(&key(pem).digest());
    assert_eq!(digest(ID_KEY), expected["id_key_digest"].as_str().unwrap());
    assert_eq!(
        digest(AUTHOR_KEY),
        expected["author_key_digest"].as_str().unwrap()
    );
}

/// The signatures of the vector have random nonces; everything around them is compared.
#[test]
fn id_auth_is_that_of_the_sev_crate_but_for_nonces() {
    let auth = IdAuth::new(&block(), &key(ID_KEY), Some(&key(AUTHOR_KEY)));
    let mut ours = *auth.as_bytes();
    for signature in [0x40..0x240, 0x680..0x880] {
        ours[signature.clone()].copy_from_slice(&ID_AUTH[signature]);
    }
    assert_eq!(&ours, ID_AUTH);
    assert_eq!(
        IdAuth::from_bytes(ID_AUTH).unwrap().verify(&block()),
        Ok(())
    );
    assert_eq!(
        &ID_AUTH[0x40..0x240],
        include_bytes!("vectors/idblock/test_id_sig.bin")
    );
    assert_eq!(
        &ID_AUTH[0x680..0x880],
        include_bytes!("vectors/idblock/test_auth_sig.bin")
    );
}

#[test]
fn what_is_signed_is_verified_and_signed_the_same_again() {
    let (id_key, author_key) = (key(ID_KEY), key(AUTHOR_KEY));
    for author_key in [None, Some(&author_key)] {
        let auth = IdAuth::new(&block(), &id_key, author_key);
        assert_eq!(auth.verify(&block()), Ok(()));
        assert_eq!(auth, IdAuth::new(&block(), &id_key, author_key));
        assert_eq!(IdAuth::from_bytes(auth.as_bytes()), Ok(auth));
    }
}

#[test]
fn what_was_altered_is_refused() {
    let good = IdAuth::new(&block(), &key(ID_KEY), Some(&key(AUTHOR_KEY)));
    let other_block = IdBlock {
        guest_svn: 1,
        ..block()
    };
    assert_eq!(good.verify(&other_block), Err(IdAuthError::Signature(0x40)));
    for (at, error) in [
        (0x000, IdAuthError::Algorithm(0)),
        (0x004, IdAuthError::Algorithm(0)),
        (0x040, IdAuthError::Signature(0x40)),
        (0x040 + 48, IdAuthError::Signature(0x40)),
        (0x240, IdAuthError::Key(0x240)),
        (0x244, IdAuthError::Key(0x240)),
        (0x680, IdAuthError::Signature(0x680)),
        (0x884, IdAuthError::Key(0x880)),
    ] {
        let mut bytes = *good.as_bytes();
        bytes[at] ^= 1;
        let altered = IdAuth::from_bytes(&bytes).unwrap();
        assert_eq!(altered.verify(&block()), Err(error), "{at:#x}");
    }
    assert_eq!(
        IdAuth::from_bytes(&[0; 4095]),
        Err(IdAuthError::Length(4095))
    );
}

#[test]
fn other_keys_are_refused() {
    let p256 = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n";
    for pem in ["", "no key", p256] {
        assert_eq!(IdKey::from_pem(pem).err(), Some(IdKeyError));
    }
    assert!(!format!("{:?}", key(ID_KEY)).contains("secret"));
}
