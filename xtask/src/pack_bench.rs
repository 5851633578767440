//! `cargo xtask bench pack`: how fast a model pack is checked against its head, beside how fast it can be read at all.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cloister_engine::pack::format::{CHUNK_BYTES, Config};
use cloister_engine::pack::write::Plan;
use cloister_engine::pack::{Head, PackError};
use cloister_engine::workers::{Threads, Workers};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::{BenchArgs, Outcome};
use crate::commands::CommandError;
use crate::progress::Phase;
use crate::statistics::median;

/// Bytes that are checked: far more than any cache holds. The time does not depend on what they are.
const BODY_BYTES: usize = 512 << 20;

/// GB/s of one number of threads.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Rates {
    threads: usize,
    check_gb_per_s: f64,
    read_gb_per_s: f64,
}

/// Measures with one thread and with as many as are asked for; checks and plain reads take turns, so that both meet the
/// same disturbances.
pub fn run(arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    let phase = Phase::start("Make a pack of 512 MiB up");
    let body: Vec<u8> = (0..BODY_BYTES).map(|index| (index / 3) as u8).collect();
    let head = head_of(&body).map_err(|error| CommandError::Failed(error.to_string()))?;
    phase.done("");
    let mut counts: Vec<usize> = arguments
        .threads
        .iter()
        .map(|&count| count as usize)
        .collect();
    counts.push(1);
    counts.sort_unstable();
    counts.dedup();
    let phase = Phase::start(format!("Check it {} times", arguments.runs));
    let measured: Result<Vec<Rates>, PackError> = counts
        .iter()
        .map(|threads| measure(&head, &body, *threads, arguments.runs))
        .collect();
    let measured = measured.map_err(|error| CommandError::Failed(error.to_string()))?;
    phase.done("");
    let mut text = format!(
        "Check of a model pack of {} MiB, SHA-256 of each MiB, median of {} runs:\n",
        BODY_BYTES >> 20,
        arguments.runs
    );
    for rates in &measured {
        let plural = if rates.threads == 1 { "" } else { "s" };
        let part = rates.check_gb_per_s / rates.read_gb_per_s;
        text += &format!(
            "  {:2} thread{plural:1} checks {:5.2} GB/s, reads {:5.2} GB/s: ratio {part:.2}\n",
            rates.threads, rates.check_gb_per_s, rates.read_gb_per_s,
        );
    }
    Ok(Outcome {
        text,
        json: json!({ "bytes": BODY_BYTES, "runs": arguments.runs, "rates": measured }),
        success: true,
    })
}

/// The head of a pack whose body is this, as one section.
fn head_of(body: &[u8]) -> Result<Head, PackError> {
    let config = Config {
        dim: 64,
        hidden: 64,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 16,
        vocabulary: 16,
        context_tokens: 16,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
    };
    let plan = Plan::new(config, "bench", body.len(), &[])?;
    let digests: Vec<[u8; 32]> = body
        .chunks(CHUNK_BYTES)
        .map(|chunk| Sha256::digest(chunk).into())
        .collect();
    let head = plan.head(&digests)?;
    Head::parse(&head, &Head::root_of(&head))
}

fn measure(head: &Head, body: &[u8], threads: usize, runs: u32) -> Result<Rates, PackError> {
    let workers = Threads::new(threads);
    let (mut checks, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let started = Instant::now();
        head.check_chunks(&workers, 0, body, || ())?;
        checks.push(gb_per_s(started));
        let started = Instant::now();
        read(&workers, body);
        reads.push(gb_per_s(started));
    }
    let of = |rates: Vec<f64>| median(rates).unwrap_or_default();
    Ok(Rates {
        threads,
        check_gb_per_s: of(checks),
        read_gb_per_s: of(reads),
    })
}

fn gb_per_s(started: Instant) -> f64 {
    BODY_BYTES as f64 / started.elapsed().as_secs_f64() / 1e9
}

/// Adds all bytes up, eight at a time: hardly any work beside reading them.
fn read(workers: &dyn Workers, body: &[u8]) {
    let chunks = body.chunks(CHUNK_BYTES);
    let next = AtomicUsize::new(0);
    workers.run(&|_| {
        let mut sum = 0_u64;
        while let Some(chunk) = chunks.clone().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let words = chunk.as_chunks::<8>().0.iter();
            sum = words.fold(sum, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
        }
        black_box(sum);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_check() {
        let mut body = vec![3; 2 * CHUNK_BYTES + 4096];
        let head = head_of(&body).expect("a valid pack");
        assert!(measure(&head, &body, 2, 1).is_ok());
        body[CHUNK_BYTES] = 4;
        assert!(measure(&head, &body, 2, 1).is_err());
    }
}
