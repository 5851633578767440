//! A child of the benchmark: one engine with one model, or the meter of the memory's speed. Whatever it is asked it
//! does at once; between two questions it waits for its standard input, and none of its threads runs.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use cloister_engine::Model;
use cloister_engine::workers::Threads;
use serde::Serialize;

use super::bandwidth::Reader;
use super::ours::{self, Ours};
use super::protocol::{Bandwidth, Failure, Memory, Ready, Request};
use super::subject::{self, Failed, Subject};

/// What a child measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkerKind {
    /// Cloister's engine, on a model pack.
    Cloister,
    /// candle, on a GGUF file.
    Candle,
    /// The memory.
    Bandwidth,
}

/// Arguments of the hidden command that is such a child.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// What is measured.
    #[arg(value_enum)]
    pub kind: WorkerKind,
    /// Model pack or GGUF file.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub threads: u32,
}

/// Serves until standard input ends.
pub fn main(arguments: &WorkerArgs) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = reply(&Failure { error });
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &WorkerArgs) -> Result<(), Failed> {
    let threads = arguments.threads as usize;
    let file = arguments.file.as_deref().ok_or("--file is missing");
    match arguments.kind {
        WorkerKind::Cloister => serve_ours(file?, threads),
        WorkerKind::Candle => serve_candle(file?),
        WorkerKind::Bandwidth => serve_bandwidth(threads),
    }
}

fn serve_ours(pack: &Path, threads: usize) -> Result<(), Failed> {
    let started = Instant::now();
    let bytes = ours::load(pack).map_err(|error| format!("{}: {error}", pack.display()))?;
    let malformed = |error| format!("{}: {error}", pack.display());
    let threads = Threads::new(threads);
    let model = Model::open(&bytes)
        .map_err(malformed)?
        .with_workers(&threads);
    let mut engine = Ours::new(&model);
    let ready = Ready {
        ready: true,
        load_s: started.elapsed().as_secs_f64(),
        vocabulary: engine.vocabulary(),
        features: format!("kernels {}", ours::kernels()),
        weight_bytes_per_token: Some(ours::weight_bytes_per_token(&bytes).map_err(malformed)?),
    };
    answer_all(&ready, |request| answer(&mut engine, request))
}

#[cfg(feature = "peers")]
fn serve_candle(gguf: &Path) -> Result<(), Failed> {
    use super::candle::Beside;
    let started = Instant::now();
    let mut engine = Beside::open(gguf)?;
    let ready = Ready {
        ready: true,
        load_s: started.elapsed().as_secs_f64(),
        vocabulary: engine.vocabulary(),
        features: format!("threads {}", cloister_candle::threads()),
        weight_bytes_per_token: None,
    };
    answer_all(&ready, |request| answer(&mut engine, request))
}

#[cfg(not(feature = "peers"))]
fn serve_candle(_: &Path) -> Result<(), Failed> {
    Err("this program was built without candle; build it with --features peers".to_owned())
}

fn serve_bandwidth(threads: usize) -> Result<(), Failed> {
    let reader = Reader::new(threads).map_err(|error| format!("1 GiB of memory: {error}"))?;
    let ready = Ready {
        ready: true,
        load_s: 0.0,
        vocabulary: 0,
        features: String::new(),
        weight_bytes_per_token: None,
    };
    answer_all(&ready, |request| match request {
        Request::Bandwidth => reply(&Bandwidth {
            bytes_per_s: reader.measure(),
        }),
        other => Err(format!("no engine here for `{other}`")),
    })
}

/// Answers line after line.
fn answer_all(
    ready: &Ready,
    mut answer: impl FnMut(Request) -> Result<(), Failed>,
) -> Result<(), Failed> {
    reply(ready)?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        answer(line.parse()?)?;
    }
    Ok(())
}

fn answer(engine: &mut dyn Subject, request: Request) -> Result<(), Failed> {
    match request {
        Request::Single { prompt, steps } => reply(&subject::single(engine, prompt, steps)?),
        Request::Batch {
            count,
            prompt,
            steps,
        } => reply(&subject::batch(engine, count, prompt, steps)?),
        Request::Memory => reply(&memory()?),
        Request::Bandwidth => Err("an engine does not measure the memory".to_owned()),
    }
}

/// One line of JSON on standard output.
fn reply(message: &impl Serialize) -> Result<(), Failed> {
    let line = serde_json::to_string(message).map_err(|error| error.to_string())?;
    let mut output = io::stdout().lock();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    written.map_err(|error| format!("standard output: {error}"))
}

/// Memory of this program.
pub(crate) fn memory() -> Result<Memory, Failed> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    memory_in(&status).ok_or_else(|| format!("{path} has no VmHWM and VmRSS"))
}

fn memory_in(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        peak_bytes: bytes("VmHWM:")?,
        resident_bytes: bytes("VmRSS:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status() {
        let status = "Name:\txtask\nVmPeak:\t  9999 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let expected = Memory {
            peak_bytes: 2 << 20,
            resident_bytes: 1 << 20,
        };
        assert_eq!(memory_in(status), Some(expected));
        assert_eq!(memory_in("VmHWM:\t2048 kB\n"), None);
        assert!(memory().is_ok_and(|memory| memory.peak_bytes >= memory.resident_bytes));
    }
}
