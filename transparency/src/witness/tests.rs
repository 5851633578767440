//! The conversation of the vectors, and every status.

use super::*;
use crate::SigningKey;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::merkle::naive;
use crate::note::MAX_SIGNATURES;
use alloc::string::ToString;
use alloc::vec;
use zeroize::Zeroizing;

const ORIGIN: &str = "log.example";
const NOW_S: u64 = 1_795_000_000;

/// A store in memory, whose next write can fail.
#[derive(Debug, Default)]
struct Memory {
    kept: BTreeMap<String, SignedCheckpoint>,
    fails: bool,
}

#[derive(Debug, PartialEq)]
struct Full;

impl WitnessStore for Memory {
    type Error = Full;

    fn latest(&mut self, origin: &str) -> Result<Option<SignedCheckpoint>, Full> {
        Ok(self.kept.get(origin).cloned())
    }

    fn put(&mut self, checkpoint: &SignedCheckpoint) -> Result<(), Full> {
        if self.fails {
            return Err(Full);
        }
        let origin = checkpoint.checkpoint().origin.clone();
        self.kept.insert(origin, checkpoint.clone());
        Ok(())
    }
}

fn key(name: &str, key_type: KeyType, byte: u8) -> SigningKey {
    SigningKey::from_seed(name, key_type, &Zeroizing::new([byte; 32])).expect("a name")
}

fn log_key() -> SigningKey {
    key(ORIGIN, KeyType::Ed25519, 1)
}

fn witness() -> Witness<Memory> {
    let cosigner = key("w.example", KeyType::CosignatureV1, 2);
    Witness::new(cosigner, [log_key().verifier().clone()], Memory::default()).expect("a cosigner")
}

fn request(old: usize, new: usize) -> AddCheckpoint {
    let leaves = naive::leaves(new.max(old));
    let checkpoint = Checkpoint::new(ORIGIN, new as u64, naive::root(&leaves[..new]));
    let mut checkpoint = SignedCheckpoint::unsigned(&checkpoint).expect("a checkpoint");
    checkpoint.note_mut().sign(&log_key(), 0).expect("room");
    let proof = if old == 0 || old > new {
        vec![]
    } else {
        naive::proof(old, &leaves[..new])
    };
    AddCheckpoint {
        old_size: old as u64,
        proof,
        checkpoint,
    }
}

fn ask(witness: &mut Witness<Memory>, request: &AddCheckpoint) -> Answer<Full> {
    witness.add_checkpoint(request.to_string().as_bytes(), NOW_S)
}

/// In order, as the state carries over. One expectation is of an older specification: a log that is not known was 403
/// and is 404 now.
#[test]
fn the_conversation_of_the_vectors() {
    let vectors = include_str!("../../../tests/vectors/tlog/witness-add-checkpoint.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
    let hex = vectors["log_public_key_hex"].as_str().expect("a key");
    let public =
        core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"));
    let origin =
        "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
    let log = VerifierKey::new(origin, KeyType::Ed25519, &public).expect("the log's");
    let cosigner = key("example.com/witness", KeyType::CosignatureV1, 3);
    let mut witness = Witness::new(cosigner, [log], Memory::default()).expect("a cosigner");
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 9);
    for (number, case) in cases.iter().enumerate() {
        let body = case["request_body"].as_str().expect("a body");
        let answer = witness.add_checkpoint(body.as_bytes(), NOW_S);
        let expected = case["expected"][0]
            .as_str()
            .expect("what is expected of the body");
        let status = match expected {
            "body contains \"unknown log\"" => 404,
            _ => case["expected_status"].as_u64().expect("a status"),
        };
        assert_eq!(
            u64::from(answer.status()),
            status,
            "case {number}: {answer:?}"
        );
        let text = answer.body();
        match expected.split_once("contains ") {
            Some((_, quoted)) => assert!(
                text.contains(quoted.trim_matches('"')),
                "case {number}: {text}"
            ),
            None => assert_eq!(format!("body == {text:?}"), expected, "case {number}"),
        }
        // The wrong signature of the vectors is not canonical base 64 either.
        if status != 403 {
            let read = AddCheckpoint::parse(body.as_bytes()).expect("well-formed");
            assert_eq!(read.to_string(), body);
        }
    }
}

#[test]
fn a_log_is_cosigned_as_it_grows() {
    let mut witness = witness();
    let mut last = 0;
    for size in [0, 0, 1, 2, 7, 7, 8, 255, 256, 300] {
        let request = request(last, size);
        let Answer::Cosigned(signature) = ask(&mut witness, &request) else {
            panic!("{last} to {size}");
        };
        let lines = signature.to_string();
        let reply = read_reply(
            200,
            lines.as_bytes(),
            &request.checkpoint,
            [witness.verifier()],
        );
        assert_eq!(reply, Ok(Reply::Cosigned(vec![signature])));
        last = size;
    }
    let kept = witness
        .monitored(&origin_hash(ORIGIN))
        .expect("readable")
        .expect("cosigned");
    assert_eq!(kept.checkpoint().size, 300);
    assert_eq!(
        kept.note().signatures().len(),
        2,
        "the log's and the witness's"
    );
    assert_eq!(witness.monitored(&origin_hash("other")), Ok(None));
}

#[test]
fn the_origin_hash_is_that_of_another_witness() {
    let expected = "000de184301123b9278c086a7d9f68c9577e83872224c197058fd90784ea9706";
    assert_eq!(origin_hash("rome2026h1.example.org"), expected);
}

#[test]
fn each_reason_has_its_status() {
    let mut witness = witness();
    let mut answers = |request: &AddCheckpoint| {
        let answer = ask(&mut witness, request);
        (answer.status(), answer)
    };
    assert_eq!(answers(&request(0, 5)).0, 200);
    // 409: another old size than the last, also one that a proof would lead from.
    assert_eq!(answers(&request(0, 9)), (409, Answer::Conflict { size: 5 }));
    assert_eq!(answers(&request(3, 5)), (409, Answer::Conflict { size: 5 }));
    // 400: a checkpoint below the old size, which comes first.
    assert_eq!(
        answers(&request(5, 3)),
        (
            400,
            Answer::OldSizeAbove {
                old_size: 5,
                size: 3
            }
        )
    );
    // 422: no proof, a wrong one, one that is not needed, another tree of the same size.
    let mut none = request(5, 9);
    none.proof.clear();
    assert_eq!(answers(&none).0, 422);
    let mut wrong = request(5, 9);
    wrong.proof[1].0[0] ^= 1;
    assert_eq!(answers(&wrong).0, 422);
    let mut needless = request(5, 5);
    needless.proof.push(Hash([0; 32]));
    assert_eq!(answers(&needless).0, 422);
    let other = signed(&Checkpoint::new(ORIGIN, 5, Hash([5; 32])));
    let other = AddCheckpoint {
        old_size: 5,
        proof: vec![],
        checkpoint: other,
    };
    assert_eq!(
        answers(&other),
        (422, Answer::Inconsistent(ProofError::RootsDiffer))
    );
    // 404 and 403.
    let elsewhere = AddCheckpoint {
        checkpoint: signed(&Checkpoint::new("other.example", 9, Hash([5; 32]))),
        ..none.clone()
    };
    assert_eq!(answers(&elsewhere), (404, Answer::UnknownLog));
    let mut unsigned = none.clone();
    unsigned.checkpoint = unsigned.checkpoint.with_signatures(vec![]);
    unsigned
        .checkpoint
        .note_mut()
        .sign(&key("w", KeyType::CosignatureV1, 9), 1)
        .expect("room");
    assert_eq!(
        answers(&unsigned),
        (403, Answer::InvalidSignature(NoteError::NoTrustedSignature))
    );
    assert_eq!(answers(&request(5, 9)).0, 200);
}

fn signed(checkpoint: &Checkpoint) -> SignedCheckpoint {
    let mut signed = SignedCheckpoint::unsigned(checkpoint).expect("a checkpoint");
    signed.note_mut().sign(&log_key(), 0).expect("room");
    signed
}

#[test]
fn an_empty_tree_has_one_root() {
    let mut witness = witness();
    let other = AddCheckpoint {
        old_size: 0,
        proof: vec![],
        checkpoint: signed(&Checkpoint::new(ORIGIN, 0, Hash([0; 32]))),
    };
    assert_eq!(ask(&mut witness, &other).status(), 422);
    let mut needless = request(0, 3);
    needless.proof.push(Hash([0; 32]));
    assert_eq!(ask(&mut witness, &needless).status(), 422);
}

#[test]
fn malformed_requests_are_refused_with_the_reason() {
    let text = request(5, 9).to_string();
    let forbidden = text.replace("\u{2014} log", "- log");
    let answer = witness().add_checkpoint(forbidden.as_bytes(), NOW_S);
    assert_eq!(answer.status(), 403);
    let refused = |body: &str, why: RequestError| {
        assert_eq!(
            AddCheckpoint::parse(body.as_bytes()),
            Err(why.clone()),
            "{body}"
        );
        assert_eq!(
            witness().add_checkpoint(body.as_bytes(), NOW_S),
            Answer::Malformed(why)
        );
    };
    refused("", RequestError::OldSize);
    for old in [
        "old 05",
        "old -5",
        "old",
        "Old 5",
        "old 5 ",
        "old 9223372036854775808",
    ] {
        refused(&text.replace("old 5", old), RequestError::OldSize);
    }
    refused(
        &text.replacen("=\n", "\n", 1),
        RequestError::Hash { line: 0 },
    );
    refused("old 5\n", RequestError::NoCheckpoint);
    let many = format!("old 5\n{}", format!("{}\n", Hash([0; 32])).repeat(64));
    refused(&many, RequestError::TooManyHashes);
    let note = |error| RequestError::Checkpoint(CheckpointError::Note(error));
    refused(text.trim_end(), note(NoteError::Format));
    refused(
        &text.replace("\n9\n", "\n09\n"),
        RequestError::Checkpoint(CheckpointError::Size),
    );
    let bytes = MAX_REQUEST_BYTES + 1;
    refused(&"x".repeat(bytes), RequestError::TooLarge { bytes });
    assert_eq!(
        AddCheckpoint::parse(b"old \xff"),
        Err(RequestError::NotUtf8)
    );
}

/// A witness that cannot keep what it cosigns does not hand the cosignature out.
#[test]
fn nothing_is_cosigned_that_is_not_kept() {
    let mut witness = witness();
    assert_eq!(ask(&mut witness, &request(0, 3)).status(), 200);
    witness.store.fails = true;
    assert_eq!(ask(&mut witness, &request(3, 5)), Answer::Store(Full));
    witness.store.fails = false;
    assert_eq!(ask(&mut witness, &request(3, 4)).status(), 200);
}

#[test]
fn a_time_that_says_nothing_is_not_cosigned() {
    let mut witness = witness();
    for now_s in [0, 1 << 63] {
        let answer = witness.add_checkpoint(request(0, 3).to_string().as_bytes(), now_s);
        assert_eq!((answer.status(), &answer), (500, &Answer::Clock));
    }
    assert_eq!(ask(&mut witness, &request(0, 3)).status(), 200);
}

#[test]
fn state_that_is_not_its_own_is_refused() {
    for damage in [signed(&Checkpoint::new(ORIGIN, 2, Hash([1; 32]))), {
        let mut other = signed(&Checkpoint::new("other.example", 2, Hash([1; 32])));
        other
            .note_mut()
            .sign(&key("w.example", KeyType::CosignatureV1, 2), 1)
            .expect("room");
        other
    }] {
        let mut witness = witness();
        witness.store.kept.insert(ORIGIN.into(), damage);
        let answer = ask(&mut witness, &request(2, 3));
        assert_eq!((answer.status(), &answer), (500, &Answer::StateDamaged));
    }
}

#[test]
fn a_witness_needs_a_cosigners_key() {
    let made = Witness::new(log_key(), [], Memory::default());
    assert_eq!(made.err(), Some(WitnessError::NotACosigner));
}

#[test]
fn replies_are_read() {
    let mut witness = witness();
    let request = request(0, 3);
    let lines = ask(&mut witness, &request).body();
    let verifier = witness.verifier().clone();
    let read =
        |status, body: &str| read_reply(status, body.as_bytes(), &request.checkpoint, [&verifier]);
    let unknown = request.checkpoint.note().signatures()[0].to_string();
    assert!(
        matches!(read(200, &format!("{unknown}{lines}")), Ok(Reply::Cosigned(of)) if of.len() == 1)
    );
    assert_eq!(
        read(200, &unknown),
        Err(ReplyError::Cosignature(NoteError::NoTrustedSignature))
    );
    assert_eq!(
        read(200, ""),
        Err(ReplyError::Cosignature(NoteError::Unsigned))
    );
    assert_eq!(
        read(200, "x\n"),
        Err(ReplyError::Cosignature(NoteError::SignatureLine {
            line: 0
        }))
    );
    let many = lines.repeat(MAX_SIGNATURES + 1);
    assert_eq!(
        read(200, &many),
        Err(ReplyError::Cosignature(NoteError::TooManySignatures))
    );
    // A cosignature of another checkpoint.
    let mut later = self::request(3, 4);
    later.old_size = 3;
    let other = ask(&mut witness, &later).body();
    assert!(matches!(
        read(200, &other),
        Err(ReplyError::Cosignature(NoteError::InvalidSignature { .. }))
    ));
    assert_eq!(read(409, "17\n"), Ok(Reply::Conflict { size: 17 }));
    for body in ["17", "017\n", "17\n\n", "\n", "many\n"] {
        assert_eq!(read(409, body), Err(ReplyError::Malformed), "{body:?}");
    }
    for status in [201, 400, 403, 404, 422, 500] {
        assert_eq!(read(status, &lines), Err(ReplyError::Refused { status }));
    }
    let bytes = crate::note::MAX_NOTE_BYTES + 1;
    assert_eq!(
        read(200, &"x".repeat(bytes)),
        Err(ReplyError::TooLarge { bytes })
    );
}
