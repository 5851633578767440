//! `cargo xtask bench engine`: the guest's engine as a host process.

use std::time::Instant;

use cloister_engine::{Model, Session, Step, simd};
use serde_json::json;

use crate::cli::{BenchArgs, Outcome};
use crate::commands::CommandError;
use crate::models::{self, ModelChoice};
use crate::packs;
use crate::progress::Phase;
use crate::workspace::Workspace;

/// Tokens that are read in one go.
const PROMPT_TOKENS: usize = 512;
/// Tokens that are written after them.
const WRITTEN_TOKENS: usize = 64;

/// Tokens per second.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Rates {
    read_tokens_per_s: f64,
    write_tokens_per_s: f64,
}

/// Measures; the best run counts, because whatever else the machine does only makes runs slower.
pub fn run(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    if arguments.model == ModelChoice::None {
        return Err(CommandError::Usage(
            "`bench engine` needs a model".to_owned(),
        ));
    }
    let pack = match models::obtain(&arguments.model, &workspace.models())? {
        Some(gguf) => packs::of_gguf(workspace, &arguments.model, &gguf, None),
        None => packs::of_fixture(workspace),
    };
    let pack = pack.map_err(|error| CommandError::Image(error.into()))?;
    let bytes = std::fs::read(&pack.path).map_err(|source| CommandError::Io {
        path: pack.path.clone(),
        source,
    })?;
    let model = Model::open(&bytes)
        .map_err(|error| CommandError::Failed(format!("model pack: {error}")))?;
    let kernels = simd::select().name;
    let phase = Phase::start(format!(
        "Run {} on one CPU, kernels {kernels}, {} times",
        arguments.model.name(),
        arguments.runs
    ));
    let runs = (0..arguments.runs)
        .map(|_| measure(&model))
        .collect::<Result<Vec<_>, _>>()?;
    phase.done("");
    let best = |read: fn(&Rates) -> f64| runs.iter().map(read).fold(0.0, f64::max);
    let (read, write) = (
        best(|run| run.read_tokens_per_s),
        best(|run| run.write_tokens_per_s),
    );
    let text = format!(
        "Engine on the host, {} on one CPU, kernels {kernels}, best of {} runs:\n  \
         reads  {read:.1} tokens/s ({PROMPT_TOKENS} tokens)\n  writes {write:.1} tokens/s ({WRITTEN_TOKENS} tokens)\n",
        arguments.model.name(),
        arguments.runs,
    );
    let json = json!({
        "model": arguments.model.name(),
        "kernels": kernels,
        "threads": 1,
        "prompt_tokens": PROMPT_TOKENS,
        "written_tokens": WRITTEN_TOKENS,
        "read_tokens_per_s": read,
        "write_tokens_per_s": write,
        "runs": runs,
    });
    Ok(Outcome {
        text,
        json,
        success: true,
    })
}

fn measure(model: &Model<'_>) -> Result<Rates, CommandError> {
    let failed = |error| CommandError::Failed(format!("engine: {error}"));
    let mut session = Session::new(model, PROMPT_TOKENS + WRITTEN_TOKENS);
    // Any tokens do: the work does not depend on which they are.
    let vocabulary = model.config().vocabulary as u32;
    let prompt: Vec<u32> = (0..PROMPT_TOKENS as u32)
        .map(|index| index * 31 % vocabulary)
        .collect();
    let started = Instant::now();
    session.push(model, &prompt).map_err(failed)?;
    let mut next = run_to_logits(&mut session, model);
    let read = started.elapsed().as_secs_f64();
    let started = Instant::now();
    for _ in 0..WRITTEN_TOKENS {
        session.push(model, &[next]).map_err(failed)?;
        next = run_to_logits(&mut session, model);
    }
    let written = started.elapsed().as_secs_f64();
    Ok(Rates {
        read_tokens_per_s: PROMPT_TOKENS as f64 / read,
        write_tokens_per_s: WRITTEN_TOKENS as f64 / written,
    })
}

/// Works off what is queued and returns the most probable next token.
fn run_to_logits(session: &mut Session, model: &Model<'_>) -> u32 {
    loop {
        match session.step(model) {
            Step::Working { .. } => {}
            Step::Logits(logits) => {
                let best = logits
                    .iter()
                    .enumerate()
                    .max_by(|one, other| one.1.total_cmp(other.1));
                return best.map_or(0, |(token, _)| token as u32);
            }
            Step::Idle => return 0,
        }
    }
}
