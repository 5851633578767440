//! Proofs are read and written byte for byte, and other texts refused.

use super::*;
use crate::note::NoteError;
use alloc::format;
use alloc::string::ToString;

const OAK: &str = include_str!("../../../tests/vectors/tlog/oak.tlog-proof");

#[test]
fn a_proof_is_read_and_written() {
    let with_extra = OAK.replacen("@v1\n", "@v1\nextra dGVzdA==\n", 1);
    for (text, extra) in [(OAK, None), (&with_extra, Some(b"test".to_vec()))] {
        let proof = LogProof::parse(text.as_bytes()).expect("another's");
        assert_eq!(
            (proof.index, proof.hashes.len(), &proof.extra),
            (3, 2, &extra)
        );
        assert_eq!(proof.to_string(), text);
    }
}

#[test]
fn other_texts_are_refused_with_the_reason() {
    let refused = |text: &str, why: ProofFormatError| {
        assert_eq!(LogProof::parse(text.as_bytes()), Err(why), "{text:?}");
    };
    refused("", ProofFormatError::Header);
    refused("c2sp.org/tlog-proof@v1", ProofFormatError::Header);
    refused(&OAK.replace("@v1", "@v2"), ProofFormatError::Header);
    refused("c2sp.org/tlog-proof@v1\n", ProofFormatError::Index);
    for index in [
        "index 03",
        "index -3",
        "index",
        "Index 3",
        "index 3 ",
        "index 9223372036854775808",
    ] {
        refused(&OAK.replace("index 3", index), ProofFormatError::Index);
    }
    for extra in ["extra dGVzdB==", "extra dGVzdA", "extra  dGVzdA=="] {
        refused(
            &OAK.replace("@v1\n", &format!("@v1\n{extra}\n")),
            ProofFormatError::Extra,
        );
    }
    refused(
        &OAK.replace("@v1\n", "@v1\nextra dGVzdA==\nextra dGVzdA==\n"),
        ProofFormatError::Index,
    );
    let large = base64::encode(&alloc::vec![0; MAX_EXTRA_BYTES + 3]);
    refused(
        &OAK.replace("@v1\n", &format!("@v1\nextra {large}\n")),
        ProofFormatError::Extra,
    );
    refused(
        &OAK.replace("JBLY", "JBL"),
        ProofFormatError::Hash { line: 0 },
    );
    refused(
        &OAK.replace("oihc=", "oihd="),
        ProofFormatError::Hash { line: 1 },
    );
    refused(&OAK[..120], ProofFormatError::NoCheckpoint);
    let line = format!("{}\n", Hash([0; 32]));
    let many = line.repeat(MAX_PROOF_HASHES + 1);
    refused(
        &OAK.replace("index 3\n", &format!("index 3\n{many}")),
        ProofFormatError::TooManyHashes,
    );
    let unsigned = ProofFormatError::Checkpoint(CheckpointError::Note(NoteError::Format));
    refused(
        OAK.split_inclusive("GgE=\n").next().expect("a root"),
        unsigned,
    );
    let bytes = MAX_PROOF_BYTES + 1;
    refused(&" ".repeat(bytes), ProofFormatError::TooLarge { bytes });
    assert_eq!(LogProof::parse(b"\xff"), Err(ProofFormatError::NotUtf8));
}
