//! Keys of the specification's example, and every way in which a text is not a key.

use super::*;
use alloc::string::ToString;

const EXAMPLE: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

fn seed(byte: u8) -> Zeroizing<[u8; SEED_BYTES]> {
    Zeroizing::new([byte; SEED_BYTES])
}

#[test]
fn the_key_of_the_specification_is_read_and_written() {
    let key = VerifierKey::parse(EXAMPLE).expect("the specification's");
    assert_eq!(key.name(), "example.com/foo");
    assert_eq!(key.id(), KeyId([0x53, 0x0d, 0x90, 0x3a]));
    assert_eq!(key.key_type(), KeyType::Ed25519);
    assert_eq!(key.to_string(), EXAMPLE);
}

#[test]
fn the_keys_of_other_logs_and_witnesses_are_read() {
    for text in [
        "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx",
        "fake.log.origin/log+527eabb8+AddT9PtBhhNAsDYZ0V0euiRbXuvrLsw4L6vKARfipnmz",
        "test-witness+26349ef0+BIQDFTUlktisMqJzWn8qhteWrRr4dLcQ9R37T+8LQyQF",
        "witness2.example.org+2e55b896+BIZ7fpceQWd60IfqQeS9IAnmNOCZjMDne8lZuguz/bi9",
    ] {
        assert_eq!(
            VerifierKey::parse(text)
                .map(|key| key.to_string())
                .as_deref(),
            Ok(text)
        );
    }
}

#[test]
fn signing_keys_are_read_and_written() {
    for key_type in [KeyType::Ed25519, KeyType::CosignatureV1] {
        let key = SigningKey::from_seed("example.com/log", key_type, &seed(7)).expect("a name");
        let text = key.to_text();
        assert!(text.starts_with("PRIVATE+KEY+example.com/log+"));
        let again = SigningKey::parse(&text).expect("what was written");
        assert_eq!(again.verifier(), key.verifier());
        assert_eq!(again.sign_ed25519(b"text"), key.sign_ed25519(b"text"));
        assert!(
            !alloc::format!("{key:?}").contains(&text[40..]),
            "only the public half is shown"
        );
    }
}

#[test]
fn one_key_of_two_types_has_two_ids() {
    let id = |key_type| {
        SigningKey::from_seed("w", key_type, &seed(1))
            .expect("a name")
            .verifier()
            .id()
    };
    assert_ne!(id(KeyType::Ed25519), id(KeyType::CosignatureV1));
}

#[test]
fn other_texts_are_refused_with_the_reason() {
    let refused =
        |text: &str, why: KeyError| assert_eq!(VerifierKey::parse(text), Err(why), "{text}");
    let (name, rest) = EXAMPLE.split_once('+').expect("three parts");
    refused("", KeyError::Format);
    refused("example.com/foo+530d903a", KeyError::Format);
    refused(&format!("+{rest}"), KeyError::Name);
    refused(&format!("a b+{rest}"), KeyError::Name);
    refused(&format!("a\u{2003}b+{rest}"), KeyError::Name);
    refused(&format!("a\nb+{rest}"), KeyError::Name);
    refused(
        &format!("{}+{rest}", "a".repeat(MAX_NAME_BYTES + 1)),
        KeyError::Name,
    );
    refused(
        &format!("{}+{rest}", "a".repeat(MAX_KEY_TEXT_BYTES)),
        KeyError::TooLong {
            bytes: MAX_KEY_TEXT_BYTES + 54,
        },
    );
    refused(&EXAMPLE.replace("530d903a", "530D903A"), KeyError::IdFormat);
    refused(&EXAMPLE.replace("530d903a", "530d903"), KeyError::IdFormat);
    refused(&EXAMPLE.replace("530d903a", "+30d903a"), KeyError::IdFormat);
    let computed = KeyId([0x53, 0x0d, 0x90, 0x3a]);
    refused(
        &EXAMPLE.replace("530d903a", "530d903b"),
        KeyError::IdMismatch { computed },
    );
    refused(&format!("{name}+530d903a+"), KeyError::Material);
    refused(&format!("{name}+530d903a+Aeky"), KeyError::Material);
    refused(&format!("{EXAMPLE}="), KeyError::Material);
    refused(
        &format!("{name}+530d903a+{}", base64::encode(&[6; 1313])),
        KeyError::TooLong { bytes: 1777 },
    );
    refused(
        &format!("{name}+530d903a+{}", base64::encode(&[6; 33])),
        KeyError::UnsupportedType { byte: 6 },
    );
}

#[test]
fn keys_that_prove_nothing_are_refused() {
    let identity = core::array::from_fn(|at| u8::from(at == 0));
    let no_point = core::array::from_fn(|at| if at == 0 { 2 } else { 0 });
    for public in [identity, [0; 32], no_point] {
        assert_eq!(
            VerifierKey::new("w", KeyType::CosignatureV1, &public),
            Err(KeyError::WeakKey)
        );
    }
}
