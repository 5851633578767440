//! Integer attention against the textbook's.

use super::attention::{HEADS, Scratch};
use super::kv::KvCache;
use super::{MAX_SEQUENCES, batch_bytes, sequence_bytes, working_bytes};
use crate::pack::Config;
use crate::simd;
use crate::simd::tests::Random;

fn config(head_dim: usize, heads: usize, kv_heads: usize) -> Config {
    Config {
        dim: heads * head_dim,
        hidden: 64,
        layers: 2,
        heads,
        kv_heads,
        head_dim,
        vocabulary: 100,
        context_tokens: 4096,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
    }
}

/// `softmax(query . keys / sqrt(head_dim)) . values` in f64.
fn reference(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    let scores: Vec<f64> = keys
        .iter()
        .map(|key| dot(query, key) / (query.len() as f64).sqrt())
        .collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..query.len())
        .map(|d| {
            weights
                .iter()
                .zip(values)
                .map(|(weight, value)| weight / total * f64::from(value[d]))
                .sum()
        })
        .collect()
}

/// `spread`: how far scores lie apart; `offset`: a large part that all keys share, as biased keys have it.
fn compare(head_dim: usize, positions: usize, spread: f32, offset: f32) {
    let mut random = Random(head_dim as u64 + positions as u64);
    let config = config(head_dim, 4, 2);
    let mut cache = KvCache::new(&config);
    cache.grow(&config, positions).expect("there is memory");
    let mut vector = |size: f32, offset: f32| -> Vec<f32> {
        (0..2 * head_dim)
            .map(|i| random.float() * size + if i % head_dim == 3 { offset } else { 0.0 })
            .collect()
    };
    let keys: Vec<Vec<f32>> = (0..positions).map(|_| vector(spread, offset)).collect();
    // Values of very different size.
    let values: Vec<Vec<f32>> = (0..positions)
        .map(|p| vector(if p % 5 == 0 { 0.01 } else { 1.0 }, 0.0))
        .collect();
    for position in 0..positions {
        cache.store(1, position, &keys[position], &values[position]);
    }
    // Keys have 15 bits relative to their largest number.
    let bound = if offset == 0.0 { 1e-3 } else { 1e-2 };
    let query = &vector(1.0, offset / 4.0)[..head_dim];
    let of_head = |all: &[Vec<f32>]| -> Vec<Vec<f32>> {
        all.iter().map(|x| x[head_dim..].to_vec()).collect()
    };
    let expected = reference(query, &of_head(&keys), &of_head(&values));
    for kernels in simd::available() {
        let mut out = vec![0.0; head_dim];
        Scratch::default().attend(
            kernels,
            &cache,
            (1, 1),
            (query, head_dim),
            positions,
            &mut out,
        );
        for (found, expected) in out.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error < bound,
                "{head_dim} {positions} {spread} {offset}: {found} and {expected}"
            );
        }
    }
}

#[test]
fn integer_attention_is_near_the_exact_one() {
    for head_dim in [16, 64, 80, 128, 256] {
        for positions in [1, 2, 63, 64, 65, 300] {
            for (spread, offset) in [(0.0, 0.0), (1.0, 0.0), (8.0, 0.0), (1.0, 100.0)] {
                compare(head_dim, positions, spread, offset);
            }
        }
    }
    compare(64, 3000, 0.5, 0.0);
}

#[test]
fn attention_survives_numbers_that_no_model_has() {
    let config = config(16, 1, 1);
    for value in [
        0.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NAN,
    ] {
        let mut cache = KvCache::new(&config);
        cache.grow(&config, 3).expect("there is memory");
        for position in 0..3 {
            cache.store(0, position, &[value; 16], &[value; 16]);
        }
        for kernels in simd::available() {
            let mut out = [0.0; 16];
            Scratch::default().attend(kernels, &cache, (0, 0), (&[value; 16], 16), 3, &mut out);
            assert!(out.iter().all(|x| !x.is_nan()), "{value}");
        }
    }
}

#[test]
fn heads_together_are_what_they_are_alone() {
    let (head_dim, positions) = (32, 100);
    let mut random = Random(8);
    let config = config(head_dim, 4, 1);
    let mut cache = KvCache::new(&config);
    cache.grow(&config, positions).expect("there is memory");
    let mut vector = |length| -> Vec<f32> { (0..length).map(|_| random.float()).collect() };
    for position in 0..positions {
        cache.store(0, position, &vector(head_dim), &vector(head_dim));
    }
    let queries = vector(HEADS * head_dim);
    for kernels in simd::available() {
        let attend = |scratch: &mut Scratch, queries: &[f32]| {
            let mut out = vec![0.0; queries.len()];
            let queries = (queries, head_dim);
            scratch.attend(kernels, &cache, (0, 0), queries, positions, &mut out);
            out
        };
        let mut scratch = Scratch::default();
        let alone: Vec<f32> = queries
            .chunks(head_dim)
            .flat_map(|query| attend(&mut Scratch::default(), query))
            .collect();
        for heads in 1..=HEADS {
            let together = attend(&mut scratch, &queries[..heads * head_dim]);
            assert_eq!(together, alone[..heads * head_dim], "{heads} heads");
        }
    }
}

#[test]
fn working_memory_grows_with_the_context_and_ends_with_it() {
    let config = config(64, 14, 2);
    assert!(working_bytes(&config, 100) < working_bytes(&config, 1000));
    assert_eq!(
        working_bytes(&config, 4096),
        working_bytes(&config, 1 << 30)
    );
    // Keys and values alone: 2 layers, 2 heads, 64 numbers of 2 bytes, keys and values.
    assert!(sequence_bytes(&config, 4096) > 4096 * 2 * 2 * 64 * 2 * 2);
    assert_eq!(
        working_bytes(&config, 4096),
        batch_bytes(&config, MAX_SEQUENCES, 4096) + sequence_bytes(&config, 4096)
    );
}
