//! Proof bundles that a client refuses, each for its reason; and those that it accepts, so that it is the alteration
//! which is refused.

mod common;

use cloister_transparency::appraise::{AppraisalError, Cosigned, MAX_ENTRY_BYTES};
use cloister_transparency::checkpoint::CheckpointError;
use cloister_transparency::merkle::ProofError;
use cloister_transparency::note::NoteError;
use cloister_transparency::proof::ProofFormatError;
use cloister_transparency::{Freshness, Hash, LogProof, LoggedEntry, Policy, appraise};
use common::{
    Bundle, DAY_S, FRESHNESS, Leaves, NOW_S, ORIGIN, entry, log_key, policy, witness_key,
};

type Verdict = Result<LoggedEntry, AppraisalError>;

const INDEX: u64 = 6;
const SIZE: u64 = 11;

fn bundle() -> Bundle {
    Bundle::new(INDEX, SIZE)
}

/// What a client makes of a text.
fn judge(text: &str) -> Verdict {
    appraise(&entry(INDEX), text.as_bytes(), &policy(), &FRESHNESS)
}

/// What it makes of an altered bundle.
fn altered(alter: impl FnOnce(&mut Bundle)) -> Verdict {
    let mut bundle = bundle();
    alter(&mut bundle);
    judge(&bundle.to_text())
}

/// What it makes of a text with a replacement in it.
fn replaced(from: &str, to: &str) -> Verdict {
    let text = bundle().to_text();
    assert!(text.contains(from), "{from}");
    judge(&text.replacen(from, to, 1))
}

fn format(error: ProofFormatError) -> Verdict {
    Err(AppraisalError::Format(error))
}

fn note(error: NoteError) -> Verdict {
    format(ProofFormatError::Checkpoint(CheckpointError::Note(error)))
}

fn inclusion(error: ProofError) -> Verdict {
    Err(AppraisalError::Inclusion(error))
}

/// Numbers of cosignatures that count, are too old, are from the future.
fn quorum_missed(verdict: Verdict, counts: usize, too_old: usize, from_future: usize) {
    let Err(AppraisalError::Quorum {
        cosigned,
        stale,
        early,
    }) = verdict
    else {
        panic!("a quorum: {verdict:?}");
    };
    assert_eq!(
        (cosigned.len(), stale.len(), early.len()),
        (counts, too_old, from_future)
    );
}

fn is_root_mismatch(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Err(AppraisalError::Inclusion(ProofError::RootMismatch { .. }))
    )
}

#[test]
fn the_bundle_is_accepted_before_it_is_altered() {
    let accepted = judge(&bundle().to_text()).expect("a valid bundle");
    assert_eq!(
        (accepted.index, accepted.leaf),
        (INDEX, Hash::leaf(&entry(INDEX)))
    );
    assert_eq!(
        (
            accepted.checkpoint.size,
            accepted.checkpoint.origin.as_str()
        ),
        (SIZE, ORIGIN)
    );
    let cosigned = |name: &[u8]| Cosigned {
        witness: name.to_vec(),
        time_s: NOW_S - 3600,
    };
    assert_eq!(
        accepted.witnesses,
        [b"w1", b"w2", b"w3"].map(|name| cosigned(name))
    );
}

#[test]
fn every_entry_of_every_small_log_is_accepted() {
    for size in 1..40 {
        for index in 0..size {
            let text = Bundle::new(index, size).to_text();
            let accepted = appraise(&entry(index), text.as_bytes(), &policy(), &FRESHNESS);
            assert_eq!(
                accepted.map(|entry| entry.index),
                Ok(index),
                "{index} of {size}"
            );
        }
    }
}

#[test]
fn entries_that_are_not_the_logged_one() {
    let text = bundle().to_text();
    let judge = |entry: &[u8]| appraise(entry, text.as_bytes(), &policy(), &FRESHNESS);
    // 1 to 4: one byte altered, one more, cut off, another entry of the log.
    for other in [&b"release 7"[..], b"release 6 ", b"release", &entry(5)] {
        assert!(is_root_mismatch(&judge(other)));
    }
    // 5: a node of the tree given out as an entry, which the prefixes of RFC 6962 tell apart.
    let mut leaves = Leaves::new(SIZE);
    let (left, right) = (leaves.0[6], leaves.0[7]);
    let mut shorter = bundle();
    shorter.hashes.remove(0);
    (shorter.index, shorter.checkpoint.size) = (3, 6);
    shorter.checkpoint.root = leaves.root(SIZE);
    let node = [left.0, right.0].concat();
    let verdict = appraise(&node, shorter.to_text().as_bytes(), &policy(), &FRESHNESS);
    assert!(is_root_mismatch(&verdict));
    // 6: longer than any entry.
    let long = vec![0; MAX_ENTRY_BYTES + 1];
    assert_eq!(
        judge(&long),
        Err(AppraisalError::EntryTooLarge { bytes: 0x1_0000 })
    );
}

#[test]
fn logs_that_the_policy_does_not_know() {
    let unknown = |origin: &str| {
        Err(AppraisalError::UnknownLog {
            origin: origin.into(),
        })
    };
    // 7: another origin, signed with the key of the log all the same.
    assert_eq!(
        altered(|b| b.checkpoint.origin = "other.example".into()),
        unknown("other.example")
    );
    // 8, 9: origins that look like it.
    assert_eq!(
        replaced("\n\nlog.example/releases", "\n\nlog.example/Releases"),
        unknown("log.example/Releases")
    );
    assert_eq!(
        replaced("\n\nlog.example/releases", "\n\nlog.example/releases "),
        unknown("log.example/releases ")
    );
    // 10: a policy of another log.
    let other =
        "log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\nquorum none\n";
    let other = Policy::parse(other.as_bytes()).expect("well-formed");
    let verdict = appraise(
        &entry(INDEX),
        bundle().to_text().as_bytes(),
        &other,
        &FRESHNESS,
    );
    assert_eq!(verdict, unknown(ORIGIN));
}

#[test]
fn checkpoints_that_the_log_did_not_sign() {
    let not_signed = Err(AppraisalError::NotSignedByLog {
        origin: ORIGIN.into(),
    });
    let invalid = Err(AppraisalError::LogSignature {
        origin: ORIGIN.into(),
        key_id: log_key().verifier().id(),
    });
    // 11: witnesses only. 12: another key under the log's name. 13: the log's key, used as a witness's.
    assert_eq!(altered(|b| _ = b.signers.remove(0)), not_signed);
    assert_eq!(altered(|b| b.signers[0].0 = "another's log"), not_signed);
    assert_eq!(altered(|b| b.signers[0].0 = "w4"), not_signed);
    // 14: another's key under the log's name and id.
    let mut text = bundle();
    text.signers[0].0 = "another's log";
    let (mine, theirs) = (bundle().signed(), text.signed());
    let (mine, mut line) = (
        &mine.note().signatures()[0],
        theirs.note().signatures()[0].clone(),
    );
    line.key_id = mine.key_id;
    assert_eq!(replaced(&mine.to_string(), &line.to_string()), invalid);
    // 15: one bit of the signature. 16: a shorter one. 17: a good one and a bad one.
    let mut flipped = mine.clone();
    flipped.bytes[40] ^= 1;
    assert_eq!(replaced(&mine.to_string(), &flipped.to_string()), invalid);
    let mut short = mine.clone();
    short.bytes.pop();
    assert_eq!(replaced(&mine.to_string(), &short.to_string()), invalid);
    assert_eq!(judge(&format!("{}{flipped}", bundle().to_text())), invalid);
    // 18, 19: what was signed was another size, or another root.
    assert_eq!(replaced("\n11\n", "\n12\n"), invalid);
    let root = bundle().checkpoint.root.to_string();
    assert_eq!(replaced(&root, &Hash([1; 32]).to_string()), invalid);
    // 20: an extension line that was not signed.
    assert_eq!(replaced(&root, &format!("{root}\nextension")), invalid);
}

#[test]
fn proofs_that_lead_elsewhere() {
    // 21, 22: another index, with the same and with another number of hashes.
    assert!(is_root_mismatch(&altered(|b| b.index = 5)));
    assert_eq!(
        altered(|b| b.index = 10),
        inclusion(ProofError::Length {
            expected: 2,
            found: 4
        })
    );
    // 23: an index beyond the tree.
    assert_eq!(
        altered(|b| b.index = 11),
        inclusion(ProofError::IndexOutOfRange {
            index: 11,
            size: 11
        })
    );
    // 24, 25: cut off, and longer.
    assert_eq!(
        altered(|b| _ = b.hashes.pop()),
        inclusion(ProofError::Length {
            expected: 4,
            found: 3
        })
    );
    assert_eq!(
        altered(|b| b.hashes.push(Hash([0; 32]))),
        inclusion(ProofError::Length {
            expected: 4,
            found: 5
        })
    );
    // 26, 27: two hashes exchanged, one altered.
    assert!(is_root_mismatch(&altered(|b| b.hashes.swap(0, 1))));
    assert!(is_root_mismatch(&altered(|b| b.hashes[3].0[0] ^= 1)));
    // 28: a tree that was rolled back to before the entry, signed by everyone.
    let before = Bundle::new(0, 5).checkpoint;
    assert_eq!(
        altered(|b| b.checkpoint = before),
        inclusion(ProofError::IndexOutOfRange { index: 6, size: 5 })
    );
    // 29: the proof of an older tree under a newer checkpoint.
    let newer = Bundle::new(INDEX, 12).checkpoint;
    assert!(is_root_mismatch(&altered(|b| b.checkpoint = newer)));
    // 30: a tree in which the entry is replaced, signed by everyone.
    let mut rewritten = Leaves::new(SIZE);
    rewritten.0[INDEX as usize] = Hash::leaf(b"another release");
    let root = rewritten.root(SIZE);
    assert!(is_root_mismatch(&altered(|b| b.checkpoint.root = root)));
    // 31: the empty tree.
    assert_eq!(
        altered(|b| (b.index, b.checkpoint.size, b.hashes) = (0, 0, vec![])),
        inclusion(ProofError::IndexOutOfRange { index: 0, size: 0 })
    );
}

#[test]
fn views_that_too_few_witnesses_saw() {
    // 32: a view made for one client: the log signs it, no witness does. 33: two of the four witnesses are deceived.
    quorum_missed(altered(|b| b.signers.truncate(1)), 0, 0, 0);
    quorum_missed(altered(|b| b.signers.truncate(3)), 2, 0, 0);
    // 34: the same cosignature three times. 35: three cosignatures of one witness at three times.
    let mut twice = bundle();
    twice.signers.truncate(2);
    let line = twice.signed().note().signatures()[1].to_string();
    quorum_missed(judge(&format!("{}{line}{line}", twice.to_text())), 1, 0, 0);
    let times = [("w1", NOW_S), ("w1", NOW_S - 1), ("w1", NOW_S - 2)];
    quorum_missed(
        altered(|b| b.signers.splice(1.., times).for_each(drop)),
        1,
        0,
        0,
    );
    // 36, 37: a stranger's cosignature, and a stranger's under a witness's name.
    quorum_missed(altered(|b| b.signers[3].0 = "stranger"), 2, 0, 0);
    quorum_missed(altered(|b| b.signers[1].0 = "another's w1"), 2, 0, 0);
    // 38: a witness's key that signed the text without a time.
    quorum_missed(altered(|b| b.signers[1].0 = "w1 without time"), 2, 0, 0);
    // 39: the witnesses of a split view: each half of them sees one tree.
    let mut halves = bundle();
    halves.signers.truncate(3);
    let mut other = Bundle::new(INDEX, SIZE + 1);
    other.signers.drain(1..3);
    other.signers.push(("w4", NOW_S));
    for half in [halves, other] {
        quorum_missed(judge(&half.to_text()), 2, 0, 0);
    }
}

#[test]
fn cosignatures_of_another_time() {
    let at = |time_s: u64| {
        altered(|b| {
            b.signers
                .iter_mut()
                .skip(1)
                .for_each(|signer| signer.1 = time_s)
        })
    };
    assert!(at(NOW_S - 7 * DAY_S).is_ok() && at(NOW_S + 300).is_ok());
    // 40: a week and a second old. 41: from the future.
    quorum_missed(at(NOW_S - 7 * DAY_S - 1), 0, 3, 0);
    quorum_missed(at(NOW_S + 301), 0, 0, 3);
    // 42: one is stale, and the fourth witness did not sign.
    quorum_missed(altered(|b| b.signers[2].1 = 1), 2, 1, 0);
    // A stale one does no harm where the others are enough.
    assert!(altered(|b| b.signers.push(("w4", 1))).is_ok());
    let text = bundle().to_text();
    let any_age = Freshness {
        now_s: 4 * NOW_S,
        max_age_s: None,
        clock_skew_s: 0,
    };
    assert!(appraise(&entry(INDEX), text.as_bytes(), &policy(), &any_age).is_ok());
}

#[test]
fn cosignatures_that_do_not_hold() {
    let invalid = Err(AppraisalError::WitnessSignature {
        witness: b"w1".to_vec(),
    });
    let line = bundle().signed().note().signatures()[1].clone();
    // 43: made younger than it is. 44: a bit of the signature. 45: a cosignature of another checkpoint.
    for at in [7, 30] {
        let mut other = line.clone();
        other.bytes[at] ^= 1;
        assert_eq!(replaced(&line.to_string(), &other.to_string()), invalid);
    }
    let other = Bundle::new(INDEX, 12).signed().note().signatures()[1].to_string();
    assert_eq!(replaced(&line.to_string(), &other), invalid);
    // 46: without a time, or with one beyond what is allowed.
    for time_s in [0, 1 << 63] {
        assert_eq!(altered(|b| b.signers[1].1 = time_s), invalid);
    }
    // 47: fourteen bytes less than a cosignature has.
    let mut short = line.clone();
    short.bytes.truncate(58);
    assert_eq!(replaced(&line.to_string(), &short.to_string()), invalid);
}

#[test]
fn texts_that_have_another_form() {
    let text = bundle().to_text();
    let hash = bundle().hashes[0].to_string();
    // 48 to 53: base 64 with bits that no byte holds, without padding, in the other alphabet, with spaces; another line end.
    let last = hash.as_bytes()[42] as char;
    let next = format!(
        "{}{}=",
        &hash[..42],
        if last == '9' {
            '+'
        } else {
            (last as u8 + 1) as char
        }
    );
    assert_eq!(
        replaced(&hash, &next),
        format(ProofFormatError::Hash { line: 0 })
    );
    assert_eq!(
        replaced(&hash, hash.trim_end_matches('=')),
        format(ProofFormatError::Hash { line: 0 })
    );
    assert_eq!(
        replaced(&hash, &format!("{hash} ")),
        format(ProofFormatError::Hash { line: 0 })
    );
    assert_eq!(
        replaced(&hash, &format!("-{}", &hash[1..])),
        format(ProofFormatError::Hash { line: 0 })
    );
    assert_eq!(
        judge(&text.replace('\n', "\r\n")),
        format(ProofFormatError::Header)
    );
    let line = bundle().signed().note().signatures()[0].to_string();
    assert_eq!(
        replaced(&line, &line.replace("=\n", "\n")),
        note(NoteError::SignatureLine { line: 0 })
    );
    // 54 to 57: numbers in other forms.
    assert_eq!(
        replaced("index 6", "index 06"),
        format(ProofFormatError::Index)
    );
    assert_eq!(
        replaced("index 6", "index +6"),
        format(ProofFormatError::Index)
    );
    let size = || format(ProofFormatError::Checkpoint(CheckpointError::Size));
    assert_eq!(replaced("\n11\n", "\n011\n"), size());
    assert_eq!(replaced("\n11\n", "\n18446744073709551627\n"), size());
    // 58 to 62: another version, cut off, more behind the end, no signature, no empty line.
    assert_eq!(replaced("@v1", "@v2"), format(ProofFormatError::Header));
    assert_eq!(judge(text.trim_end()), note(NoteError::Format));
    assert_eq!(
        judge(&format!("{text}more\n")),
        note(NoteError::SignatureLine { line: 4 })
    );
    assert_eq!(judge(&format!("{text}\n")), note(NoteError::Unsigned));
    assert_eq!(
        replaced("\n\nlog.example", "\nlog.example"),
        format(ProofFormatError::Hash { line: 4 })
    );
    // 63: more hashes than any tree is high.
    assert_eq!(
        altered(|b| b.hashes = vec![Hash([0; 32]); 64]),
        format(ProofFormatError::TooManyHashes)
    );
}

/// Extra data is in nobody's signature: it is carried, and changes nothing.
#[test]
fn extra_data_changes_nothing() {
    assert!(replaced("@v1\n", "@v1\nextra ZXZpbA==\n").is_ok());
}

/// A policy with the quorum `none` asks for no witness; that is the policy's choice, and the answer shows it.
#[test]
fn a_policy_without_quorum_takes_the_log_at_its_word() {
    let text = format!(
        "log {}\nwitness w1 {}\nquorum none\n",
        log_key().verifier(),
        witness_key(1).verifier()
    );
    let policy = Policy::parse(text.as_bytes()).expect("well-formed");
    let mut alone = bundle();
    alone.signers.truncate(1);
    let accepted = appraise(
        &entry(INDEX),
        alone.to_text().as_bytes(),
        &policy,
        &FRESHNESS,
    );
    assert_eq!(accepted.map(|entry| entry.witnesses), Ok(vec![]));
}

/// No alteration of one byte is accepted with another meaning.
#[test]
fn no_altered_byte_changes_what_is_accepted() {
    let text = bundle().to_text();
    let accepted = judge(&text).expect("a valid bundle");
    for at in 0..text.len() {
        for flip in [1, 2, 4, 0x20, 0x80] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= flip;
            // A line of an unknown key is ignored, so that a quorum of the others may still be there; here it is not.
            let verdict = appraise(&entry(INDEX), &bytes, &policy(), &FRESHNESS);
            assert!(verdict.is_err(), "byte {at} with {flip:#x} of {accepted:?}");
        }
    }
    for end in 0..text.len() {
        assert!(LogProof::parse(&text.as_bytes()[..end]).is_err() || judge(&text[..end]).is_err());
    }
}
