//! `cargo xtask bench engine`: the guest's engine as a host process, and other engines beside it.
//!
//! Every engine is a child process that has loaded the model once and answers one question after the other, so that
//! the runs of all of them take turns and meet the same disturbances, and so that each one's memory can be told.

mod bandwidth;
#[cfg(feature = "peers")]
mod candle;
mod child;
mod figures;
mod machine;
mod ours;
mod protocol;
mod report;
mod subject;
pub mod worker;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{BenchArgs, Outcome, Peer};
use crate::commands::CommandError;
use crate::models::{self, GgufFile, ModelChoice};
use crate::packs::{self, PackFile};
use crate::peers::llama::{Build, Llama};
use crate::process;
use crate::progress::Phase;
use crate::workspace::{Workspace, cargo};
use child::Worker;
use figures::{
    BATCH_PROMPT_TOKENS, BATCH_WRITTEN_TOKENS, Entry, Figures, PROMPT_TOKENS, Task, WRITTEN_TOKENS,
};
use machine::Machine;
use protocol::{Bandwidth, Batch, Request, Single};
use report::{Group, OURS};

/// The hidden command that is a child.
pub const WORKER_COMMAND: &str = "bench-engine-worker";
/// A mode that is this much worse than the best one in the trial is not run again.
const MODE_MARGIN: f64 = 0.9;

/// Measures every model with every number of threads. `keep` gets the result so far whenever there is more of it.
pub fn run(
    workspace: &Workspace,
    arguments: &BenchArgs,
    keep: impl Fn(&Value) -> Result<(), CommandError>,
) -> Result<Outcome, CommandError> {
    let models = arguments.models();
    if models.contains(&ModelChoice::None) {
        let message = "`bench engine` needs a model".to_owned();
        return Err(CommandError::Usage(message));
    }
    let peers = Peers::prepare(workspace, &arguments.peer)?;
    let machine = Machine::detect(workspace.root());
    let mut text = format!(
        "{}\n{}Cloister's weights are in memory with huge pages where the system gives them on request.\n",
        machine.describe(),
        peers.describe(),
    );
    let mut groups = Vec::new();
    let mut json = Value::Null;
    for choice in &models {
        let files = Files::prepare(workspace, choice, !arguments.peer.is_empty())?;
        for &threads in &arguments.threads {
            let group = measure(&files, &peers, threads, arguments.runs)?;
            if models.len() * arguments.threads.len() > 1 {
                // All of them together come at the end, which may be an hour away.
                eprint!("{}", group.table());
            }
            text += &format!("\n{}", group.table());
            groups.push(group.to_json());
            json = json!({
                "machine": machine, "peers": peers.describe().trim_end(),
                "prompt_tokens": PROMPT_TOKENS, "written_tokens": WRITTEN_TOKENS,
                "batch_prompt_tokens": BATCH_PROMPT_TOKENS, "batch_written_tokens": BATCH_WRITTEN_TOKENS,
                "groups": groups,
            });
            keep(&json)?;
        }
    }
    Ok(Outcome {
        text,
        json,
        success: true,
    })
}

/// A model in the forms that the engines read.
struct Files {
    model: String,
    pack: PackFile,
    gguf: Option<GgufFile>,
}

impl Files {
    fn prepare(
        workspace: &Workspace,
        choice: &ModelChoice,
        for_peers: bool,
    ) -> Result<Self, CommandError> {
        let gguf = models::obtain(choice, &workspace.models())?;
        if for_peers && gguf.is_none() {
            let message = "--peer needs a model that comes as a GGUF file".to_owned();
            return Err(CommandError::Usage(message));
        }
        let pack = match &gguf {
            Some(gguf) => packs::of_gguf(workspace, choice, gguf, None),
            None => packs::of_fixture(workspace),
        };
        Ok(Self {
            model: choice.name(),
            pack: pack.map_err(|error| CommandError::Image(error.into()))?,
            gguf,
        })
    }
}

/// The other engines' programs.
struct Peers {
    llama: Option<Llama>,
    candle: Option<PathBuf>,
}

impl Peers {
    fn prepare(workspace: &Workspace, peers: &[Peer]) -> Result<Self, CommandError> {
        let llama = peers.contains(&Peer::LlamaCpp);
        let candle = peers.contains(&Peer::Candle);
        Ok(Self {
            llama: llama
                .then(|| Llama::find_or_build(&workspace.peers()))
                .transpose()?,
            candle: candle.then(|| build_candle(workspace)).transpose()?,
        })
    }

    /// A line for each.
    fn describe(&self) -> String {
        let llama = self.llama.iter().map(|llama| {
            format!(
                "llama.cpp: {}. Of its modes (weights repacked or not, flash attention or not) the best one counts, figure by figure.\n",
                llama.description
            )
        });
        let candle = self
            .candle
            .iter()
            .map(|_| "candle: built with target-cpu=native.\n".to_owned());
        llama.chain(candle).collect()
    }
}

/// This program with candle inside. Candle has its fast loops only where the compiler may use what this CPU has; our
/// own engine is not measured in that build.
fn build_candle(workspace: &Workspace) -> Result<PathBuf, CommandError> {
    let folder = workspace.cloister().join("bench-build");
    let phase = Phase::start("Build candle");
    let mut command = cargo();
    command
        .current_dir(workspace.root())
        .args(["build", "--release", "--locked", "--package", "xtask"])
        .arg("--features=peers")
        .env("RUSTFLAGS", "-C target-cpu=native")
        .arg("--target-dir")
        .arg(&folder);
    process::capture(&mut command, "building candle")?;
    phase.done("");
    Ok(folder.join("release/xtask"))
}

/// A child and what it has measured.
struct Contestant {
    worker: Worker,
    entry: Entry,
}

impl Contestant {
    fn start(engine: &str, mode: Option<String>, command: Command) -> Result<Self, CommandError> {
        let name = match &mode {
            Some(mode) => format!("{engine} ({mode})"),
            None => engine.to_owned(),
        };
        let worker = Worker::start(&name, command)?;
        let entry = Entry {
            engine: engine.to_owned(),
            mode,
            features: worker.ready().features.clone(),
            trial: Figures::default(),
            figures: Figures::default(),
            tokens: Vec::new(),
            memory: None,
            memory_in_the_end: None,
        };
        Ok(Self { worker, entry })
    }

    fn do_task(&mut self, task: Task, trial: bool) -> Result<(), CommandError> {
        let figures = match trial {
            true => &mut self.entry.trial,
            false => &mut self.entry.figures,
        };
        match task {
            Task::Single => {
                let single: Single = self.worker.ask(task.request())?;
                figures.add_single(&single);
                self.entry.tokens = single.tokens;
            }
            Task::Batch(count) => {
                let batch: Batch = self.worker.ask(task.request())?;
                figures.add_batch(count, &batch);
            }
        }
        if self.entry.memory.is_none() {
            // The first task is the one with a single sequence.
            self.entry.memory = Some(self.worker.ask(Request::Memory)?);
        }
        Ok(())
    }
}

/// One model with one number of threads: a trial of everything, then the counted runs.
fn measure(files: &Files, peers: &Peers, threads: u32, runs: u32) -> Result<Group, CommandError> {
    let plural = if threads == 1 { "" } else { "s" };
    let phase = Phase::start(format!(
        "Measure {} on {threads} thread{plural}",
        files.model
    ));
    let mut contestants = start_all(files, peers, threads)?;
    let mut meter = Worker::start("the memory's meter", ours("bandwidth", None, threads)?)?;
    for task in Task::ALL {
        phase.note("trial");
        for contestant in &mut contestants {
            contestant.do_task(task, true)?;
        }
    }
    let mut bandwidth = Vec::new();
    for run in 1..=runs {
        phase.note(&format!("run {run} of {runs}"));
        let measured: Bandwidth = meter.ask(Request::Bandwidth)?;
        bandwidth.push(measured.bytes_per_s);
        for task in Task::ALL {
            let entries: Vec<&Entry> = contestants.iter().map(|one| &one.entry).collect();
            let competing: Vec<bool> = entries
                .iter()
                .map(|entry| competes(entry, &entries, task))
                .collect();
            for (contestant, _) in contestants
                .iter_mut()
                .zip(competing)
                .filter(|(_, yes)| *yes)
            {
                contestant.do_task(task, false)?;
            }
        }
    }
    for contestant in &mut contestants {
        contestant.entry.memory_in_the_end = Some(contestant.worker.ask(Request::Memory)?);
    }
    phase.done("");
    let weight_bytes = contestants[0].worker.ready().weight_bytes_per_token;
    Ok(Group {
        model: files.model.clone(),
        threads,
        runs,
        entries: contestants.into_iter().map(|one| one.entry).collect(),
        bandwidth,
        weight_bytes_per_token: weight_bytes.unwrap_or_default(),
    })
}

/// Whether the trial showed the mode near the best of its engine, in any figure of the task.
fn competes(entry: &Entry, all: &[&Entry], task: Task) -> bool {
    task.figures().into_iter().any(|figure| {
        let Some(own) = entry.trial.median(figure) else {
            return false;
        };
        let modes = all.iter().filter(|other| other.engine == entry.engine);
        let mut others = modes.filter_map(|other| other.trial.median(figure));
        others.all(|other| figure.ratio(own, other) >= MODE_MARGIN)
    })
}

/// Ours first.
fn start_all(files: &Files, peers: &Peers, threads: u32) -> Result<Vec<Contestant>, CommandError> {
    let command = ours("cloister", Some(&files.pack.path), threads)?;
    let mut contestants = vec![Contestant::start(OURS, None, command)?];
    let Some(gguf) = &files.gguf else {
        return Ok(contestants);
    };
    if let Some(llama) = &peers.llama {
        for (mode, command) in llama_modes(&llama.builds, &gguf.path, threads) {
            contestants.push(Contestant::start("llama.cpp", Some(mode), command)?);
        }
    }
    if let Some(program) = &peers.candle {
        let mut command = worker_command(program, "candle", Some(&gguf.path), threads);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        contestants.push(Contestant::start("candle", None, command)?);
    }
    Ok(contestants)
}

/// Names of the modes and how each is started. What the builds differ in matters to repacked weights only.
fn llama_modes(builds: &[Build], gguf: &Path, threads: u32) -> Vec<(String, Command)> {
    let mut modes = Vec::new();
    for (index, build) in builds.iter().enumerate() {
        let weights: &[&str] = if index == 0 {
            &["repack", "plain"]
        } else {
            &["repack"]
        };
        for weights in weights {
            for attention in ["flash", "noflash"] {
                let mut command = Command::new(&build.driver);
                command.arg(gguf).arg(threads.to_string());
                command.args([weights, attention]);
                modes.push((format!("{}, {weights}, {attention}", build.name), command));
            }
        }
    }
    modes
}

/// This very program as a child.
fn ours(kind: &str, file: Option<&Path>, threads: u32) -> Result<Command, CommandError> {
    let program = std::env::current_exe().map_err(|source| CommandError::Io {
        path: "this program's own path".into(),
        source,
    })?;
    Ok(worker_command(&program, kind, file, threads))
}

fn worker_command(program: &Path, kind: &str, file: Option<&Path>, threads: u32) -> Command {
    let mut command = Command::new(program);
    command.args([WORKER_COMMAND, kind, "--threads", &threads.to_string()]);
    if let Some(file) = file {
        command.arg("--file").arg(file);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::figures::tests::entry;
    use super::*;

    #[test]
    fn modes_far_behind_do_not_compete() {
        let trial = |mode: &str, value: f64| {
            let entry = entry("llama.cpp", Some(mode), &[value]);
            Entry {
                trial: entry.figures.clone(),
                ..entry
            }
        };
        let (best, near, far) = (trial("a", 1.0), trial("b", 0.95), trial("c", 0.5));
        let other = Entry {
            engine: OURS.to_owned(),
            ..trial("d", 0.1)
        };
        let all = [&best, &near, &far, &other];
        let competing = all.map(|entry| competes(entry, &all, Task::Single));
        assert_eq!(competing, [true, true, false, true]);
        // Nobody measured it in the trial.
        assert!(!competes(&best, &all, Task::Batch(4)));
    }

    #[test]
    fn builds_differ_in_repacked_weights_only() {
        let build = |name| Build {
            name,
            driver: "driver".into(),
        };
        let modes = llama_modes(&[build("AMX"), build("AMX off")], Path::new("m.gguf"), 2);
        let names: Vec<&str> = modes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 6);
        assert!(
            names.contains(&"AMX, plain, flash") && names.contains(&"AMX off, repack, noflash")
        );
        assert!(!names.contains(&"AMX off, plain, flash"));
        let words: Vec<_> = modes[0].1.get_args().collect();
        assert_eq!(words, ["m.gguf", "2", "repack", "flash"]);
    }
}
