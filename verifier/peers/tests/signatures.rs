//! The same verdict on every vector, and on some thousand flips of single bits.

use std::fs;
use std::path::{Path, PathBuf};

use cloister_verifier::report::SIGNED_BYTES;
use cloister_verifier_peers::{Signed, as_they_see_it, ours, theirs};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

/// Every report with every certificate that was published with it.
fn signed() -> Vec<(String, Signed)> {
    let read = |file: String| fs::read(vectors().join(file));
    let mut all = Vec::new();
    for entry in fs::read_dir(vectors().join("reports")).expect("the folder is there") {
        let file = entry.expect("an entry").file_name();
        let file = file.to_str().expect("ASCII").to_owned();
        let Some(name) = file.strip_suffix(".bin") else {
            continue;
        };
        let product = name.split('-').nth(1).expect("a product");
        for (leaf, intermediate) in [("vcek", "ask"), ("vcek2", "ask"), ("vlek", "asvk")] {
            let Ok(leaf) = read(format!("reports/{name}.{leaf}.der")) else {
                continue;
            };
            let chain = ["ark", intermediate]
                .map(|name| read(format!("chains/{product}-{name}.der")).expect("a chain"));
            let [ark, ask] = chain;
            let report = read(format!("reports/{file}")).expect("a report");
            let chain = [ark, ask, leaf];
            all.push((name.to_owned(), Signed { report, chain }));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// SplitMix64, so that every run flips the same bits.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[test]
fn every_vector() {
    let all = signed();
    assert_eq!(all.len(), 20);
    for (name, signed) in &all {
        assert!(ours(signed), "{name}");
        assert!(theirs(signed), "{name}");
    }
    let mut mixed = 0;
    for (name, signed) in &all {
        for (other, with) in &all {
            let chain = with.chain.clone();
            let report = signed.report.clone();
            let pair = Signed { report, chain };
            assert_eq!(ours(&pair), theirs(&pair), "{name} with {other}");
            mixed += 1;
        }
    }
    assert_eq!(mixed, 400);
}

/// The crate verifies what it reads and writes again, not the bytes that came. Where a byte has no field (reserved,
/// unused levels of a TCB version, padding of the signature), a flipped bit is gone by then. The verifier here refuses it.
#[test]
fn single_bits_of_reports() {
    let mut rng = Rng(1);
    let (mut same, mut lost) = (0, 0);
    for (name, good) in signed() {
        for _ in 0..60 {
            let mut altered = good.clone();
            let at = rng.below(altered.report.len());
            altered.report[at] ^= 1 << rng.below(8);
            assert!(!ours(&altered), "{name} at {at:#x}");
            if theirs(&altered) {
                let seen = as_they_see_it(&altered.report);
                assert_eq!(
                    seen.as_deref(),
                    Some(&good.report[..SIGNED_BYTES]),
                    "{name}"
                );
                lost += 1;
            } else {
                same += 1;
            }
        }
    }
    println!("{same} flips with the same verdict, {lost} of bits that the crate does not see");
    assert!(same >= 200);
}

#[test]
fn single_bits_of_signatures() {
    let mut rng = Rng(2);
    let mut flips = 0;
    for (name, good) in signed() {
        for _ in 0..20 {
            let mut altered = good.clone();
            let at = [0x2a0, 0x2e8][rng.below(2)] + rng.below(48);
            altered.report[at] ^= 1 << rng.below(8);
            assert!(!ours(&altered) && !theirs(&altered), "{name} at {at:#x}");
            flips += 1;
        }
    }
    assert_eq!(flips, 400);
}

#[test]
fn single_bits_of_certificates() {
    let mut rng = Rng(3);
    let (mut same, mut stricter) = (0, 0);
    for (name, good) in signed() {
        for which in [1, 2] {
            for _ in 0..15 {
                let mut altered = good.clone();
                let certificate = &mut altered.chain[which];
                let bytes = certificate.len();
                let at = rng.below(bytes);
                certificate[at] ^= 1 << rng.below(8);
                let (ours, theirs) = (ours(&altered), theirs(&altered));
                assert!(!ours, "{name} {which} at {at}");
                if theirs {
                    // What is not signed: the algorithm behind the signed part, in front of the signature.
                    let unsigned = bytes - 512 - 5 - 72..bytes - 512;
                    assert!(unsigned.contains(&at), "{name} {which} at {at} of {bytes}");
                    stricter += 1;
                } else {
                    same += 1;
                }
            }
        }
    }
    println!("{same} flips with the same verdict, {stricter} of the algorithm that is not signed");
    assert!(same >= 200);
}

/// (r, -s) is a signature of the same report by the same key, and both say so.
#[test]
fn the_other_signature_of_the_same_report() {
    let order: [u8; 48] = [
        0x73, 0x29, 0xc5, 0xcc, 0x6a, 0x19, 0xec, 0xec, 0x7a, 0xa7, 0xb0, 0x48, 0xb2, 0x0d, 0x1a,
        0x58, 0xdf, 0x2d, 0x37, 0xf4, 0x81, 0x4d, 0x63, 0xc7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff,
    ];
    for (name, mut signed) in signed() {
        let mut borrow = 0;
        for (digit, byte) in order.iter().zip(&mut signed.report[0x2e8..]) {
            let difference = i16::from(*digit) - i16::from(*byte) - borrow;
            borrow = i16::from(difference < 0);
            *byte = difference.rem_euclid(256) as u8;
        }
        assert!(ours(&signed) && theirs(&signed), "{name}");
        signed.report[0x2e8..0x318].fill(0);
        assert!(!ours(&signed) && !theirs(&signed), "{name}");
    }
}
