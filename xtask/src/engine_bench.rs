//! `cargo xtask bench engine`: the guest's engine as a host process, and another engine beside it.

use std::path::Path;
use std::time::Instant;

use cloister_engine::workers::Threads;
use cloister_engine::{Model, Session, Step, simd};
use serde_json::json;

use crate::cli::{BenchArgs, Outcome, Peer};
use crate::commands::CommandError;
use crate::models::{self, ModelChoice};
use crate::packs;
use crate::progress::Phase;
use crate::statistics::median;
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

impl Rates {
    /// Runs `work` on the prompt and then on one token after the other; it returns the most probable next token.
    fn measure<E>(
        vocabulary: usize,
        mut work: impl FnMut(&[u32], usize) -> Result<u32, E>,
    ) -> Result<Self, E> {
        // Any tokens do: the work does not depend on which they are.
        let prompt: Vec<u32> = (0..PROMPT_TOKENS)
            .map(|index| (index * 31 % vocabulary) as u32)
            .collect();
        let started = Instant::now();
        let mut next = work(&prompt, 0)?;
        let read = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for position in PROMPT_TOKENS..PROMPT_TOKENS + WRITTEN_TOKENS {
            next = work(&[next], position)?;
        }
        let written = started.elapsed().as_secs_f64();
        Ok(Self {
            read_tokens_per_s: PROMPT_TOKENS as f64 / read,
            write_tokens_per_s: WRITTEN_TOKENS as f64 / written,
        })
    }

    fn medians(runs: &[Self]) -> Self {
        let median =
            |read: fn(&Self) -> f64| median(runs.iter().map(read)).expect("there is a run");
        Self {
            read_tokens_per_s: median(|run| run.read_tokens_per_s),
            write_tokens_per_s: median(|run| run.write_tokens_per_s),
        }
    }
}

/// Measures; runs of the engine and of the peer take turns, so that both meet the same disturbances.
pub fn run(workspace: &Workspace, arguments: &BenchArgs) -> Result<Outcome, CommandError> {
    if arguments.model == ModelChoice::None {
        return Err(CommandError::Usage(
            "`bench engine` needs a model".to_owned(),
        ));
    }
    let gguf = models::obtain(&arguments.model, &workspace.models())?;
    let pack = match &gguf {
        Some(gguf) => packs::of_gguf(workspace, &arguments.model, gguf, None),
        None => packs::of_fixture(workspace),
    };
    let pack = pack.map_err(|error| CommandError::Image(error.into()))?;
    let bytes = std::fs::read(&pack.path).map_err(|source| CommandError::Io {
        path: pack.path.clone(),
        source,
    })?;
    let threads = Threads::new(arguments.threads as usize);
    let model = Model::open(&bytes)
        .map_err(|error| CommandError::Failed(format!("model pack: {error}")))?
        .with_workers(&threads);
    let vocabulary = model.config().vocabulary;
    let mut peer = match (arguments.peer, &gguf) {
        (None, _) => None,
        (Some(peer), Some(gguf)) => Some(opponent(peer, &gguf.path)?),
        (Some(_), None) => {
            return Err(CommandError::Usage(
                "--peer needs a model that comes as a GGUF file".to_owned(),
            ));
        }
    };
    let kernels = simd::select().name;
    let name = arguments.model.name();
    let plural = if arguments.threads == 1 { "" } else { "s" };
    let threads = format!("{} thread{plural}", arguments.threads);
    let phase = Phase::start(format!(
        "Run {name} on {threads}, kernels {kernels}, {} times",
        arguments.runs
    ));
    let (mut runs, mut peer_runs) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let mut session = Session::new(&model, PROMPT_TOKENS + WRITTEN_TOKENS);
        runs.push(Rates::measure(vocabulary, |tokens, _| {
            let failed = |error| CommandError::Failed(format!("engine: {error}"));
            session.push(&model, tokens).map_err(failed)?;
            Ok::<_, CommandError>(run_to_logits(&mut session, &model))
        })?);
        if let Some(peer) = &mut peer {
            peer_runs.push(Rates::measure(vocabulary, |tokens, position| {
                (peer.feed)(tokens, position)
            })?);
        }
    }
    phase.done("");
    let ours = Rates::medians(&runs);
    let mut text = format!(
        "Engine on the host, {name} on {threads}, kernels {kernels}, median of {} runs, tokens/s:\n\
         {:22} {:>12} {:>12}\n{}",
        arguments.runs,
        "",
        format!("reads {PROMPT_TOKENS}"),
        format!("writes {WRITTEN_TOKENS}"),
        row("Cloister", ours, 1),
    );
    let mut json = json!({
        "model": name,
        "kernels": kernels,
        "threads": arguments.threads,
        "prompt_tokens": PROMPT_TOKENS,
        "written_tokens": WRITTEN_TOKENS,
        "median": ours,
        "runs": runs,
    });
    if let Some(peer) = &peer {
        let theirs = Rates::medians(&peer_runs);
        let ratio = Rates {
            read_tokens_per_s: ours.read_tokens_per_s / theirs.read_tokens_per_s,
            write_tokens_per_s: ours.write_tokens_per_s / theirs.write_tokens_per_s,
        };
        text += &row(&peer.name, theirs, 1);
        text += &row("ratio", ratio, 2);
        json["peer"] = json!({
            "name": peer.name, "median": theirs, "runs": peer_runs,
            "ratio": { "read": ratio.read_tokens_per_s, "write": ratio.write_tokens_per_s },
        });
    }
    Ok(Outcome {
        text,
        json,
        success: true,
    })
}

fn row(name: &str, rates: Rates, digits: usize) -> String {
    let (read, write) = (rates.read_tokens_per_s, rates.write_tokens_per_s);
    format!("  {name:20} {read:>12.digits$} {write:>12.digits$}\n")
}

/// Works off what is queued and returns the most probable next token.
fn run_to_logits(session: &mut Session, model: &Model<'_>) -> u32 {
    loop {
        match session.step(model) {
            Step::Working { .. } => {}
            Step::Logits(logits) => return most_probable(logits),
            Step::Idle => return 0,
        }
    }
}

fn most_probable(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .max_by(|one, other| one.1.total_cmp(other.1));
    best.map_or(0, |(token, _)| token as u32)
}

/// Takes tokens and the position of the first one; gives the most probable next token.
type Feed = Box<dyn FnMut(&[u32], usize) -> Result<u32, CommandError>>;

/// The other engine.
struct Opponent {
    name: String,
    feed: Feed,
}

#[cfg(feature = "peers")]
fn opponent(peer: Peer, gguf: &Path) -> Result<Opponent, CommandError> {
    use crate::peers::{Candle, candle_threads};
    let Peer::Candle = peer;
    let failed = |error| CommandError::Failed(format!("candle: {error}"));
    let mut candle = Candle::open(gguf).map_err(failed)?;
    let threads = candle_threads();
    let plural = if threads == 1 { "" } else { "s" };
    Ok(Opponent {
        name: format!("candle, {threads} thread{plural}"),
        feed: Box::new(move |tokens, position| {
            let logits = candle.logits(tokens, position).map_err(failed)?;
            Ok(most_probable(&logits))
        }),
    })
}

#[cfg(not(feature = "peers"))]
fn opponent(_: Peer, _: &Path) -> Result<Opponent, CommandError> {
    Err(CommandError::Failed(
        "this program was built without the other engines; build it with --features peers"
            .to_owned(),
    ))
}
