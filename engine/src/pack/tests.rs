//! Packs made here, then damaged.

use super::format::{
    CHUNK_BYTES, FIXED_BYTES, MAX_COLUMNS, MAX_LAYERS, PAGE_BYTES, TENSOR_ENTRY_BYTES,
};
use super::write::{Plan, TensorSpec};
use super::{Config, Head, Pack, PackError, Role};
use crate::layout::{Encoding, Kind};
use crate::workers::{Alone, Threads, Workers};
use sha2::{Digest, Sha256};

fn config() -> Config {
    Config {
        dim: 64,
        hidden: 96,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocabulary: 16_000,
        context_tokens: 128,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
    }
}

fn specs() -> Vec<TensorSpec> {
    let spec = |role, layer, encoding, rows, columns| TensorSpec {
        role,
        layer,
        encoding,
        rows,
        columns,
    };
    vec![
        spec(Role::AttentionNorm, 1, Encoding::F32, 1, 64),
        spec(Role::Down, 0, Encoding::Tiles(Kind::Five), 64, 96),
        spec(
            Role::TokenEmbedding,
            0,
            Encoding::Tiles(Kind::Byte),
            16_000,
            64,
        ),
        spec(Role::AttentionNorm, 0, Encoding::F32, 1, 64),
    ]
}

/// A complete pack whose body holds a counter, and its root.
fn pack() -> (Vec<u8>, [u8; 32]) {
    let plan =
        Plan::new(config(), "a model", 5000, &specs()).expect("the plan is within all limits");
    let mut body = vec![0; (plan.pack_bytes() - plan.head_bytes() as u64) as usize];
    body[..5000].fill(7);
    for entry in plan.entries() {
        let start = entry.offset as usize - plan.head_bytes();
        for (index, byte) in body[start..start + entry.bytes as usize]
            .iter_mut()
            .enumerate()
        {
            // Finite when read as f32.
            *byte = if index % 4 == 3 {
                0x3f
            } else {
                (index / 4) as u8
            };
        }
    }
    let digests: Vec<[u8; 32]> = body
        .chunks(CHUNK_BYTES)
        .map(|chunk| Sha256::digest(chunk).into())
        .collect();
    let mut bytes = plan.head(&digests).expect("a digest for each chunk");
    let root = Head::root_of(&bytes);
    bytes.extend(body);
    (bytes, root)
}

#[test]
fn what_was_written_is_read() {
    let (bytes, root) = pack();
    let pack = Pack::open(&bytes).expect("a fresh pack opens");
    assert_eq!(pack.name(), "a model");
    assert_eq!(*pack.config(), config());
    assert_eq!(pack.tokenizer_section(), [7; 5000]);
    let order: Vec<_> = pack
        .entries()
        .map(|entry| (entry.layer, entry.role))
        .collect();
    assert_eq!(
        order,
        [
            (0, Role::TokenEmbedding),
            (0, Role::AttentionNorm),
            (0, Role::Down),
            (1, Role::AttentionNorm)
        ]
    );
    assert!(
        pack.entries()
            .all(|entry| entry.offset.is_multiple_of(PAGE_BYTES as u64))
    );
    assert_eq!(
        pack.vector(Role::AttentionNorm, 1, 64)
            .map(|norm| norm.map(|norm| norm.len())),
        Ok(Some(64))
    );
    assert!(matches!(pack.matrix(Role::Down, 0, 64, 96), Ok(Some(_))));
    assert!(matches!(pack.matrix(Role::Down, 1, 64, 96), Ok(None)));
    let wrong = Err(PackError::Tensor {
        role: Role::Down,
        layer: 0,
    });
    assert_eq!(pack.matrix(Role::Down, 0, 64, 64).map(|_| ()), wrong);
    assert_eq!(pack.vector(Role::Down, 0, 96).map(|_| ()), wrong);

    let head = Head::parse(&bytes[..head_bytes(&bytes)], &root).expect("the root names this head");
    assert_eq!(head.pack_bytes(), bytes.len() as u64);
    assert_eq!(head.chunks(), 2);
    assert_eq!(head.chunk_range(1).end, bytes.len() as u64);
    for index in 0..head.chunks() {
        let range = head.chunk_range(index);
        assert_eq!(
            head.check_chunk(index, &bytes[range.start as usize..range.end as usize]),
            Ok(())
        );
    }
    assert_eq!(
        head.check_chunk(0, &bytes[..10]),
        Err(PackError::Chunk { index: 0 })
    );
    assert_eq!(head.check_chunk(2, &[]), Err(PackError::Chunk { index: 2 }));
}

#[test]
fn any_number_of_workers_finds_the_first_altered_chunk() {
    let body: Vec<u8> = (0..5 * CHUNK_BYTES + 8192).map(|i| (i / 7) as u8).collect();
    let plan = Plan::new(config(), "long", body.len(), &[]).expect("a valid plan");
    let digests: Vec<[u8; 32]> = body
        .chunks(CHUNK_BYTES)
        .map(|chunk| Sha256::digest(chunk).into())
        .collect();
    let head = plan.head(&digests).expect("as many digests as chunks");
    let head = Head::parse(&head, &Head::root_of(&head)).expect("a valid head");
    let teams: [&dyn Workers; 3] = [&Alone, &Threads::new(2), &Threads::new(4)];
    for workers in teams {
        let check = |first, bytes: &[u8]| {
            let mut calls = 0;
            let outcome = head.check_chunks(workers, first, bytes, || calls += 1);
            assert_eq!(calls, 1);
            outcome
        };
        let altered = |index| Err(PackError::Chunk { index });
        assert_eq!(check(0, &body), Ok(()));
        assert_eq!(check(2, &body[2 * CHUNK_BYTES..4 * CHUNK_BYTES]), Ok(()));
        assert_eq!(check(0, &[]), Ok(()));
        assert_eq!(check(1, &body), altered(1));
        assert_eq!(check(6, b"x"), altered(6));
        assert_eq!(check(usize::MAX, b"x"), altered(usize::MAX));
        assert_eq!(check(0, &body[..body.len() - 1]), altered(5));
        for (first, second) in [(0, 3), (4, 5), (5, 5)] {
            let mut body = body.clone();
            body[first * CHUNK_BYTES] ^= 1;
            body[(second * CHUNK_BYTES + CHUNK_BYTES - 1).min(5 * CHUNK_BYTES + 8191)] ^= 1;
            assert_eq!(check(0, &body), altered(first));
        }
    }
}

fn head_bytes(pack: &[u8]) -> usize {
    u32::from_le_bytes([pack[8], pack[9], pack[10], pack[11]]) as usize
}

#[test]
fn another_root_refuses_every_head() {
    let (bytes, root) = pack();
    let head = &bytes[..head_bytes(&bytes)];
    assert!(matches!(
        Head::parse(&head[..head.len() - 1], &root),
        Err(PackError::Root)
    ));
    assert!(matches!(Head::parse(&bytes, &root), Err(PackError::Root)));
    assert!(matches!(Head::parse(head, &[0; 32]), Err(PackError::Root)));
    // A root over invalid bytes: the structure is checked all the same.
    assert!(matches!(
        Head::parse(&[], &Head::root_of(&[])),
        Err(PackError::Truncated)
    ));
    assert!(matches!(
        Head::parse(&bytes, &Head::root_of(&bytes)),
        Err(PackError::Size)
    ));
}

#[test]
fn every_truncation_is_refused() {
    let (bytes, _) = pack();
    for length in (0..2 * FIXED_BYTES).chain((0..bytes.len()).step_by(997)) {
        assert!(Pack::open(&bytes[..length]).is_err());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(Pack::open(&longer), Err(PackError::Truncated)));
}

#[test]
fn no_byte_of_the_head_brings_the_reader_down() {
    let (mut bytes, _) = pack();
    for at in 0..FIXED_BYTES + specs().len() * TENSOR_ENTRY_BYTES {
        let before = bytes[at];
        for value in [0, 1, 0x7f, 0x80, 0xff, before ^ 1, before ^ 0x40] {
            bytes[at] = value;
            if let Ok(pack) = Pack::open(&bytes) {
                // Only names and constants may change unnoticed: the root covers them.
                assert!(pack.entries().count() == specs().len());
            }
        }
        bytes[at] = before;
    }
}

/// Field of a tensor's line: where it begins, how long it is.
const ROLE: (usize, usize) = (0, 2);
const LAYER: (usize, usize) = (2, 2);
const ENCODING: (usize, usize) = (4, 4);
const ROWS: (usize, usize) = (8, 4);
const OFFSET: (usize, usize) = (16, 8);
const BYTES: (usize, usize) = (24, 8);

#[test]
fn tensors_outside_or_over_each_other_are_refused() {
    let (bytes, _) = pack();
    let with = |line: usize, (field, length): (usize, usize), value: u64| {
        let mut copy = bytes.clone();
        let at = FIXED_BYTES + line * TENSOR_ENTRY_BYTES + field;
        copy[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        Pack::open(&copy)
            .map(|_| ())
            .expect_err("this table is invalid")
    };
    let first = {
        let pack = Pack::open(&bytes).expect("a fresh pack opens");
        pack.entries().next().copied().expect("it has tensors")
    };
    for (line, field, value) in [
        (0, ROLE, 99),
        (0, LAYER, 1),
        (1, LAYER, 2),
        (0, ENCODING, 77),
        (0, ENCODING, 0),
        (0, ROWS, 0),
        (0, ROWS, u64::from(u32::MAX)),
        (1, OFFSET, first.offset),
        (1, OFFSET, 0),
        (1, OFFSET, first.offset + 1),
        (0, OFFSET, u64::MAX),
        (0, OFFSET, bytes.len() as u64),
        (0, BYTES, u64::MAX),
        (0, BYTES, 0),
        (3, BYTES, 4096),
        (2, ROLE, Role::TokenEmbedding as u64),
        (2, ROLE, Role::AttentionNorm as u64),
    ] {
        assert_eq!(
            with(line, field, value),
            PackError::TensorTable,
            "line {line} field {field:?} = {value}"
        );
    }
}

#[test]
fn constants_out_of_range_are_refused() {
    let good = config();
    assert_eq!(good.check(), Ok(()));
    for bad in [
        Config { dim: 0, ..good },
        Config {
            dim: MAX_COLUMNS + 1,
            ..good
        },
        Config { hidden: 0, ..good },
        Config { layers: 0, ..good },
        Config {
            layers: MAX_LAYERS + 1,
            ..good
        },
        Config { heads: 0, ..good },
        Config {
            kv_heads: 0,
            ..good
        },
        Config {
            kv_heads: 3,
            ..good
        },
        Config {
            kv_heads: 8,
            ..good
        },
        Config {
            head_dim: 24,
            ..good
        },
        Config {
            head_dim: 512,
            ..good
        },
        Config {
            heads: 4096,
            kv_heads: 1,
            ..good
        },
        Config {
            vocabulary: 0,
            ..good
        },
        Config {
            context_tokens: 0,
            ..good
        },
        Config {
            rope_base: f32::NAN,
            ..good
        },
        Config {
            rope_base: 0.0,
            ..good
        },
        Config {
            norm_epsilon: -1.0,
            ..good
        },
        Config {
            norm_epsilon: f32::INFINITY,
            ..good
        },
    ] {
        assert_eq!(bad.check(), Err(PackError::Config), "{bad:?}");
        assert!(Plan::new(bad, "a model", 1, &[]).is_err());
    }
}

#[test]
fn a_plan_refuses_what_no_pack_may_have() {
    let plan = |name: &str, specs: &[TensorSpec]| Plan::new(config(), name, 1, specs).map(|_| ());
    assert_eq!(plan("", &[]), Err(PackError::Name));
    assert_eq!(plan("two\nlines", &[]), Err(PackError::Name));
    assert_eq!(plan(&"x".repeat(65), &[]), Err(PackError::Name));
    assert_eq!(plan(&"x".repeat(64), &[]), Ok(()));
    let odd = TensorSpec {
        columns: 40,
        ..specs()[1]
    };
    assert_eq!(plan("a model", &[odd]), Err(PackError::TensorTable));
    let plan = Plan::new(config(), "a model", 1, &specs()).expect("the plan is within all limits");
    assert_eq!(plan.head(&[]), Err(PackError::Size));
}
