//! The specification's example, its limits, and malformed notes.

use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use zeroize::Zeroizing;

const EXAMPLE: &str = include_str!("../../../tests/vectors/tlog/signed-note-example.txt");
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &Zeroizing::new([byte; 32])).expect("a name")
}

/// The example with another signature line behind the first one.
fn with_line(line: &str) -> String {
    format!("{EXAMPLE}{line}\n")
}

#[test]
fn the_example_of_the_specification_is_verified() {
    let note = Note::parse(EXAMPLE.as_bytes()).expect("the specification's");
    assert_eq!(note.text(), "This is an example message.\n");
    let key = VerifierKey::parse(EXAMPLE_KEY).expect("the specification's");
    assert_eq!(
        note.verify([&key]),
        Ok(vec![Verified {
            key: 0,
            time_s: None
        }])
    );
    assert_eq!(note.to_string(), EXAMPLE);
}

#[test]
fn what_is_signed_is_verified_and_written_again() {
    for text in [
        "one line\n",
        "two\n\nparts\n",
        "\n",
        "ends in an empty line\n\n",
        "\u{e8} subito sera\n",
    ] {
        let (log, witness) = (
            key("log", KeyType::Ed25519, 1),
            key("w", KeyType::CosignatureV1, 2),
        );
        let mut note = Note::new(text).expect("a text");
        note.sign(&log, 0).expect("room");
        note.sign(&witness, 77).expect("room");
        let again = Note::parse(note.to_string().as_bytes()).expect("what was written");
        assert_eq!(again, note);
        let keys = [witness.verifier(), log.verifier()];
        let expected = vec![
            Verified {
                key: 0,
                time_s: Some(77),
            },
            Verified {
                key: 1,
                time_s: None,
            },
        ];
        assert_eq!(again.verify(keys), Ok(expected));
    }
}

#[test]
fn signatures_of_unknown_keys_and_types_are_kept_and_ignored() {
    let unknown = Signature {
        name: "pq.example".into(),
        key_id: KeyId([1, 2, 3, 4]),
        bytes: vec![5; 2428],
    };
    let text = with_line(unknown.to_string().trim_end());
    let note = Note::parse(text.as_bytes()).expect("any type");
    assert_eq!(note.signatures()[1], unknown);
    assert_eq!(note.to_string(), text);
    let key = VerifierKey::parse(EXAMPLE_KEY).expect("the specification's");
    assert!(note.verify([&key]).is_ok());
    // The same name with another id, and the same id with another name, are other keys.
    let line = |name: &str, key_id| {
        Signature {
            name: name.into(),
            key_id,
            bytes: vec![0; 64],
        }
        .to_string()
    };
    for line in [
        line("example.com/foo", KeyId([0; 4])),
        line("example.com/bar", key.id()),
    ] {
        let note = Note::parse(with_line(line.trim_end()).as_bytes()).expect("a note");
        assert!(note.verify([&key]).is_ok());
    }
}

#[test]
fn a_signature_that_names_a_trusted_key_and_is_not_by_it_voids_the_note() {
    let key = VerifierKey::parse(EXAMPLE_KEY).expect("the specification's");
    let invalid = || {
        Err(NoteError::InvalidSignature {
            name: key.name().into(),
            key_id: key.id(),
        })
    };
    for bytes in [vec![0; 64], vec![0; 63], vec![0; 72]] {
        let line = Signature {
            name: key.name().into(),
            key_id: key.id(),
            bytes,
        }
        .to_string();
        let note = Note::parse(with_line(line.trim_end()).as_bytes()).expect("a note");
        assert_eq!(note.verify([&key]), invalid());
    }
    let altered = EXAMPLE.replace("message", "Message");
    assert_eq!(
        Note::parse(altered.as_bytes())
            .expect("a note")
            .verify([&key]),
        invalid()
    );
    let note = Note::parse(EXAMPLE.as_bytes()).expect("a note");
    assert_eq!(note.verify([]), Err(NoteError::NoTrustedSignature));
}

/// Of two cosignatures of one witness the newer one tells when it last looked.
#[test]
fn several_cosignatures_of_one_key_count_once() {
    let witness = key("w", KeyType::CosignatureV1, 2);
    let mut note = Note::new("text\n").expect("a text");
    for now_s in [5, 9, 7, 9] {
        note.sign(&witness, now_s).expect("room");
    }
    assert_eq!(
        note.signatures().len(),
        3,
        "the same line is not added twice"
    );
    let expected = vec![Verified {
        key: 0,
        time_s: Some(9),
    }];
    assert_eq!(note.verify([witness.verifier()]), Ok(expected));
}

#[test]
fn times_that_say_nothing_are_refused() {
    let witness = key("w", KeyType::CosignatureV1, 2);
    for (now_s, holds) in [
        (0, false),
        (1, true),
        ((1 << 63) - 1, true),
        (1 << 63, false),
    ] {
        let mut note = Note::new("text\n").expect("a text");
        note.sign(&witness, now_s).expect("room");
        assert_eq!(note.verify([witness.verifier()]).is_ok(), holds, "{now_s}");
    }
}

#[test]
fn malformed_notes_are_refused_with_the_reason() {
    let refused =
        |note: &str, why: NoteError| assert_eq!(Note::parse(note.as_bytes()), Err(why), "{note:?}");
    let (text, line) = EXAMPLE.split_once("\n\n").expect("a note");
    refused("", NoteError::Format);
    refused("text\n", NoteError::Format);
    refused(&format!("{text}\n{line}"), NoteError::Format);
    refused(&format!("{text}\n\n"), NoteError::Unsigned);
    refused(EXAMPLE.trim_end(), NoteError::Format);
    refused(
        &EXAMPLE.replace("\n\n", "\r\n\r\n"),
        NoteError::ControlCharacter { at: text.len() },
    );
    refused(
        &EXAMPLE.replace("This", "\u{1}his"),
        NoteError::ControlCharacter { at: 0 },
    );
    refused(
        &EXAMPLE.replace('\u{2014}', "-"),
        NoteError::SignatureLine { line: 0 },
    );
    refused(
        &EXAMPLE.replace("foo Uw2", "foo  Uw2"),
        NoteError::SignatureLine { line: 0 },
    );
    refused(
        &EXAMPLE.replace("foo Uw2", "f+o Uw2"),
        NoteError::SignatureLine { line: 0 },
    );
    refused(
        &EXAMPLE.replace("example.com/foo ", " "),
        NoteError::SignatureLine { line: 0 },
    );
    // The last digit of base 64 has bits that no byte holds.
    refused(
        &EXAMPLE.replace("yaQM=", "yaQN="),
        NoteError::SignatureLine { line: 0 },
    );
    refused(
        &EXAMPLE.replace("yaQM=", "yaQM"),
        NoteError::SignatureLine { line: 0 },
    );
    refused(
        &with_line("\u{2014} w AAAAAA=="),
        NoteError::SignatureLine { line: 1 },
    );
    refused(
        &with_line("\u{2014} w AAAA"),
        NoteError::SignatureLine { line: 1 },
    );
    refused(&with_line("trailer"), NoteError::SignatureLine { line: 1 });
    let long = Signature {
        name: "w".into(),
        key_id: KeyId([0; 4]),
        bytes: vec![0; MAX_SIGNATURE_BYTES + 1],
    };
    refused(
        &with_line(long.to_string().trim_end()),
        NoteError::SignatureLine { line: 1 },
    );
    refused(
        &format!("{}{EXAMPLE}", "a".repeat(MAX_NOTE_BYTES)),
        NoteError::TooLarge {
            bytes: MAX_NOTE_BYTES + EXAMPLE.len(),
        },
    );
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::NotUtf8));
    assert_eq!(Note::new("no newline"), Err(NoteError::Format));
}

#[test]
fn as_many_signatures_are_taken_as_the_limit_says() {
    let line = |n: usize| Signature {
        name: format!("w{n}"),
        key_id: KeyId([0; 4]),
        bytes: vec![1; 64],
    };
    let mut note = Note::new("text\n").expect("a text");
    for n in 0..MAX_SIGNATURES {
        note.add(line(n)).expect("room");
    }
    assert_eq!(
        note.add(line(MAX_SIGNATURES)),
        Err(NoteError::TooManySignatures)
    );
    assert_eq!(Note::parse(note.to_string().as_bytes()).as_ref(), Ok(&note));
    let more = format!("{note}{}", line(MAX_SIGNATURES));
    assert_eq!(
        Note::parse(more.as_bytes()),
        Err(NoteError::TooManySignatures)
    );
}

/// What `peers/go` prints: keys and a note that Go's sumdb package made.
#[test]
fn keys_and_a_note_of_go() {
    let signing =
        "PRIVATE+KEY+peers.example/go+155e42e5+AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    let verifier = "peers.example/go+155e42e5+AXm1Vi6P5lT5QHixEuipi6eQH4U65pW+1+DjkQutBJZk";
    let text = "written by Go\n\n\u{e8} subito sera\n";
    let line = "\u{2014} peers.example/go FV5C5T/1zbvgKGVFsyJXrP9PjCJ5eVGZoRqwWhxHKCPP+vQg+ZYd8HS6y9M/b/bVqe2ORLtzam2BeME6Uv7SLfMXXww=\n";
    let key = SigningKey::parse(signing).expect("Go's");
    assert_eq!(key.verifier().to_string(), verifier);
    assert_eq!(*key.to_text(), signing);
    let mut note = Note::new(text).expect("a text");
    note.sign(&key, 0).expect("room");
    assert_eq!(note.to_string(), format!("{text}\n{line}"));
    let verifier = VerifierKey::parse(verifier).expect("Go's");
    assert!(note.verify([&verifier]).is_ok());
}
