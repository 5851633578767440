//! What others wrote: logs, cosigned checkpoints, a proof.

use cloister_transparency::checkpoint::SignedCheckpoint;
use cloister_transparency::merkle::{self, ProofError, check_consistency};
use cloister_transparency::note::Verified;
use cloister_transparency::tiles::{
    Tile, TileKind, TileSource, TreeReader, parse_entries, parse_hashes,
};
use cloister_transparency::{Freshness, Hash, LogProof, Policy, VerifierKey, appraise};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/tlog")
}

fn read(path: &str) -> Vec<u8> {
    fs::read(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Tiles below a folder.
struct Folder(&'static str);

impl TileSource for Folder {
    type Error = ProofError;

    fn hashes(&mut self, tile: Tile) -> Result<Vec<Hash>, ProofError> {
        let bytes = read(&format!("{}/{tile}", self.0));
        Ok(parse_hashes(&tile, &bytes).expect("whole hashes"))
    }
}

const TESSERA_KEY: &str =
    "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
const MIRRORED: &str =
    "sunlight/witness/mirror/000de184301123b9278c086a7d9f68c9577e83872224c197058fd90784ea9706";

fn tessera_checkpoint(size: u64) -> SignedCheckpoint {
    let checkpoint = SignedCheckpoint::parse(&read(&format!("tessera-log/checkpoint.{size}")))
        .expect("Tessera's");
    let key = VerifierKey::parse(TESSERA_KEY).expect("Tessera's");
    assert_eq!(checkpoint.verify_log([&key]), Ok(()));
    assert_eq!(checkpoint.checkpoint().size, size);
    checkpoint
}

#[test]
fn a_log_of_tessera_at_every_size() {
    for size in 0..=15 {
        let signed = tessera_checkpoint(size);
        let root = signed.checkpoint().root;
        let mut source = Folder("tessera-log");
        assert_eq!(
            merkle::root(&mut TreeReader::new(&mut source, size), size),
            Ok(root),
            "{size}"
        );
        let Some(tile) = Tile::of_tree(TileKind::Entries, 0, size) else {
            continue;
        };
        let bundle = read(&format!("tessera-log/{tile}"));
        for (index, entry) in parse_entries(&tile, &bundle)
            .expect("Tessera's")
            .iter()
            .enumerate()
        {
            let index = index as u64;
            let hashes =
                merkle::inclusion_proof(&mut TreeReader::new(&mut source, size), index, size);
            let hashes = hashes.expect("in a tile");
            let proof = LogProof {
                extra: None,
                index,
                hashes,
                checkpoint: signed.clone(),
            };
            let policy = Policy::parse(format!("log {TESSERA_KEY}\nquorum none\n").as_bytes())
                .expect("a policy");
            let freshness = Freshness {
                now_s: 0,
                max_age_s: None,
                clock_skew_s: 0,
            };
            let accepted = appraise(entry, proof.to_string().as_bytes(), &policy, &freshness);
            assert_eq!(
                accepted.map(|entry| entry.index),
                Ok(index),
                "{index} of {size}"
            );
        }
    }
}

#[test]
fn every_two_sizes_of_a_log_of_tessera_are_consistent() {
    for new in 0..=15 {
        for old in 0..=new {
            let roots = [old, new].map(|size| tessera_checkpoint(size).checkpoint().root);
            let mut source = Folder("tessera-log");
            let proof = merkle::consistency_proof(&mut TreeReader::new(&mut source, new), old, new);
            let proof = proof.expect("in a tile");
            assert_eq!(
                check_consistency(old, &roots[0], new, &roots[1], &proof),
                Ok(()),
                "{old} to {new}"
            );
            if old > 0 && old < new {
                assert!(check_consistency(old, &roots[1], new, &roots[1], &proof).is_err());
            }
        }
    }
}

#[test]
fn a_log_of_sunlight_with_full_and_partial_tiles() {
    let signed =
        SignedCheckpoint::parse(&read(&format!("{MIRRORED}/checkpoint"))).expect("Sunlight's");
    let tree = signed.checkpoint();
    assert_eq!(tree.size, 300);
    let mut source = Folder(MIRRORED);
    let mut reader = TreeReader::new(&mut source, 300);
    assert_eq!(merkle::root(&mut reader, 300), Ok(tree.root));
    let leaves = [source_tile(0), source_tile(1)].concat();
    for index in [0, 1, 127, 255, 256, 299_u64] {
        let proof = merkle::inclusion_proof(&mut reader, index, 300).expect("in tiles");
        let leaf = &leaves[index as usize];
        assert_eq!(
            merkle::check_inclusion(leaf, index, 300, &proof, &tree.root),
            Ok(()),
            "{index}"
        );
    }
}

fn source_tile(index: u64) -> Vec<Hash> {
    let tile = Tile::of_tree(TileKind::Hashes { level: 0 }, index, 300).expect("two tiles");
    Folder(MIRRORED).hashes(tile).expect("on disk")
}

/// Checkpoints with signatures of RFC 6962, which are kept unread, and with cosignatures.
#[test]
fn cosignatures_of_sunlight() {
    let key = |path: &str| {
        let json: serde_json::Value = serde_json::from_slice(&read(path)).expect("JSON");
        VerifierKey::parse(json["verifier_keys"][0].as_str().expect("a key")).expect("Sunlight's")
    };
    let witness = key("sunlight/witness/witness.v0.json");
    let witness2 = key("sunlight/witness2/witness.v0.json");
    let mirror = key("sunlight/witness/mirror/mirror.v0.json");
    let rome = "000de184301123b9278c086a7d9f68c9577e83872224c197058fd90784ea9706";
    let milan = "88ad7a28caeb0b2aa890fdf0304c2fcaf59fca2ee140134ff8c1300bac493482";
    let keys = [&witness, &witness2, &mirror];
    for (path, by) in [
        (format!("sunlight/witness/{rome}/checkpoint"), 0),
        (format!("sunlight/witness2/{milan}/checkpoint"), 1),
        (format!("{MIRRORED}/checkpoint"), 2),
    ] {
        let bytes = read(&path);
        let signed = SignedCheckpoint::parse(&bytes).expect("Sunlight's");
        assert_eq!(signed.to_string().as_bytes(), bytes);
        let expected = Verified {
            key: by,
            time_s: Some(1_767_139_200),
        };
        assert_eq!(signed.note().verify(keys), Ok(vec![expected]), "{path}");
    }
    let unknown = SignedCheckpoint::parse(&read("sunlight/tree/checkpoint")).expect("Sunlight's");
    assert!(unknown.note().verify(keys).is_err());
}

/// The entry and the keys are from the tests of oak's `tr/c2sp/lib.rs`.
#[test]
fn a_proof_of_oak() {
    let log = "fake.log.origin/log+527eabb8+AddT9PtBhhNAsDYZ0V0euiRbXuvrLsw4L6vKARfipnmz";
    let witness = "test-witness+26349ef0+BIQDFTUlktisMqJzWn8qhteWrRr4dLcQ9R37T+8LQyQF";
    let policy = format!("log {log}\nwitness w1 {witness}\nquorum w1\n");
    let policy = Policy::parse(policy.as_bytes()).expect("a policy");
    let bytes = read("oak.tlog-proof");
    let time_s = 1_771_605_822;
    let freshness = Freshness {
        now_s: time_s + 60,
        max_age_s: Some(60),
        clock_skew_s: 0,
    };
    let accepted = appraise(b"test entry data", &bytes, &policy, &freshness).expect("oak's");
    assert_eq!((accepted.index, accepted.checkpoint.size), (3, 4));
    assert_eq!(accepted.witnesses[0].time_s, time_s);
    assert_eq!(
        LogProof::parse(&bytes)
            .expect("oak's")
            .to_string()
            .as_bytes(),
        bytes
    );
    assert!(appraise(b"other entry data", &bytes, &policy, &freshness).is_err());
}

/// A proof at a size of some ten thousands, out of the same tests.
#[test]
fn a_long_proof_of_oak() {
    let hashes = [
        "fGRlLyuz+L9Jb8+uTSut/2aVc4z7fKFW+clvsb6xjEM=",
        "F6LautOHD5eppkWC0xn/lz00X5g2yLlZAkl2jCI/wdE=",
        "qH7OJxFNup+TDvJuohd2HphKVngfMeMzUK8QChEDcas=",
        "+Y3g758yXtPCRh/eqhLTA3bdcx+cCV1Uah0JdgB0YEs=",
        "vq8cJSjj8dPVmFBRUqDLlaMqW6aAYR2GKugVhgudXLs=",
        "J0z3X5qTb9WFC1gABhVFx0bW1rVZRL+DAoBL2e2h4G4=",
        "NmSbYg25xNFzTRerIsF3HbEMyTIDqW87AQd9ekzopE8=",
        "L8BZipjURnkctkjJtGJs+YyTXMssvNKA7+a8nV2JT/s=",
        "pva4RFzCejMkVMVmYc93As2lbk7WAyrw58TvrzEOjNc=",
    ];
    let hashes = hashes.map(|text| Hash::from_base64(text).expect("a hash"));
    let root = Hash::from_base64("QYfrD7XAd4qUHbRBs4dDyDZwpZN4M/cccXr2G56pxkY=").expect("a hash");
    let leaf = Hash::leaf(b"hello tesseroak\n");
    assert_eq!(
        merkle::check_inclusion(&leaf, 76_958, 76_959, &hashes, &root),
        Ok(())
    );
    assert!(merkle::check_inclusion(&leaf, 76_957, 76_959, &hashes, &root).is_err());
}
