//! The figures of one contestant: every run's, and what is made of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::protocol::{Batch, Memory, Request, Single};
use crate::statistics::median;

/// Tokens that are read in one go.
pub(super) const PROMPT_TOKENS: usize = 512;
/// Tokens that are written after them.
pub(super) const WRITTEN_TOKENS: usize = 64;
/// Numbers of sequences that write side by side.
pub(super) const BATCHES: [usize; 3] = [1, 4, 16];
/// Tokens of the prompt of each of them.
pub(super) const BATCH_PROMPT_TOKENS: usize = 16;
/// Tokens that each of them writes.
pub(super) const BATCH_WRITTEN_TOKENS: usize = 32;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// Reading a prompt, tokens per second.
    Prefill,
    /// Writing after that, tokens per second.
    Decode,
    /// From a prompt to the first token, milliseconds.
    FirstToken,
    /// Writing of so many sequences side by side, tokens per second of all together.
    Batch(usize),
}

impl Figure {
    /// All, in the order of the tables.
    pub(super) const ALL: [Self; 6] = [
        Self::Prefill,
        Self::Decode,
        Self::FirstToken,
        Self::Batch(BATCHES[0]),
        Self::Batch(BATCHES[1]),
        Self::Batch(BATCHES[2]),
    ];

    /// Name in the result's JSON.
    pub(super) fn key(self) -> String {
        match self {
            Self::Prefill => format!("prefill_{PROMPT_TOKENS}_tokens_per_s"),
            Self::Decode => format!("decode_{WRITTEN_TOKENS}_tokens_per_s"),
            Self::FirstToken => "first_token_ms".to_owned(),
            Self::Batch(count) => format!("batch_{count}_tokens_per_s"),
        }
    }

    /// Head of its column.
    pub(super) fn title(self) -> String {
        match self {
            Self::Prefill => format!("prefill {PROMPT_TOKENS}"),
            Self::Decode => format!("decode {WRITTEN_TOKENS}"),
            Self::FirstToken => "first, ms".to_owned(),
            Self::Batch(count) => format!("batch {count}"),
        }
    }

    /// How many times as good `ours` is as `theirs`.
    pub(super) fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::FirstToken => theirs / ours,
            _ => ours / theirs,
        }
    }

    /// The better of two values.
    pub(super) fn better(self, one: f64, other: f64) -> f64 {
        match self.ratio(one, other) > 1.0 {
            true => one,
            false => other,
        }
    }
}

/// What a child is asked for, one after the other; each gives one figure or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// One sequence with a long prompt.
    Single,
    /// So many sequences side by side.
    Batch(usize),
}

impl Task {
    /// All of a run.
    pub(super) const ALL: [Self; 4] = [
        Self::Single,
        Self::Batch(BATCHES[0]),
        Self::Batch(BATCHES[1]),
        Self::Batch(BATCHES[2]),
    ];

    pub(super) fn request(self) -> Request {
        match self {
            Self::Single => Request::Single {
                prompt: PROMPT_TOKENS,
                steps: WRITTEN_TOKENS,
            },
            Self::Batch(count) => Request::Batch {
                count,
                prompt: BATCH_PROMPT_TOKENS,
                steps: BATCH_WRITTEN_TOKENS,
            },
        }
    }

    /// The figures that it gives.
    pub(super) fn figures(self) -> Vec<Figure> {
        match self {
            Self::Single => vec![Figure::Prefill, Figure::Decode, Figure::FirstToken],
            Self::Batch(count) => vec![Figure::Batch(count)],
        }
    }
}

/// Every run's value of each figure.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    runs: BTreeMap<Figure, Vec<f64>>,
}

impl Figures {
    pub(super) fn add_single(&mut self, single: &Single) {
        self.add(Figure::Prefill, PROMPT_TOKENS as f64 / single.prefill_s);
        self.add(Figure::Decode, WRITTEN_TOKENS as f64 / single.decode_s);
        self.add(Figure::FirstToken, single.first_token_s * 1e3);
    }

    pub(super) fn add_batch(&mut self, count: usize, batch: &Batch) {
        if let Some(seconds) = batch.decode_s {
            let tokens = (count * BATCH_WRITTEN_TOKENS) as f64;
            self.add(Figure::Batch(count), tokens / seconds);
        }
    }

    fn add(&mut self, figure: Figure, value: f64) {
        self.runs.entry(figure).or_default().push(value);
    }

    fn values(&self, figure: Figure) -> impl Iterator<Item = f64> {
        self.runs.get(&figure).into_iter().flatten().copied()
    }

    pub(super) fn median(&self, figure: Figure) -> Option<f64> {
        median(self.values(figure))
    }

    pub(super) fn best(&self, figure: Figure) -> Option<f64> {
        self.values(figure)
            .reduce(|one, other| figure.better(one, other))
    }
}

/// One contestant's result.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Name of the engine: contestants that share it are modes of one engine.
    pub(super) engine: String,
    /// The mode, where the engine has several.
    pub(super) mode: Option<String>,
    /// What of the CPU it uses, in its own words.
    pub(super) features: String,
    /// One run before the counted ones, which warms up and tells which modes compete.
    pub(super) trial: Figures,
    /// The counted runs.
    pub(super) figures: Figures,
    /// The first tokens that it wrote.
    pub(super) tokens: Vec<u32>,
    /// Memory with one sequence.
    pub(super) memory: Option<Memory>,
    /// Memory after everything.
    pub(super) memory_in_the_end: Option<Memory>,
}

/// A value of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Value {
    pub(super) median: f64,
    pub(super) best: f64,
}

/// An engine's value: of its modes the one with the best median.
pub(super) fn value_of<'e>(
    entries: &'e [Entry],
    engine: &str,
    figure: Figure,
) -> Option<(Value, &'e Entry)> {
    let of_engine = entries.iter().filter(|entry| entry.engine == engine);
    let values = of_engine.filter_map(|entry| {
        let median = entry.figures.median(figure)?;
        let best = entry.figures.best(figure)?;
        Some((Value { median, best }, entry))
    });
    values.reduce(
        |one, other| match figure.ratio(one.0.median, other.0.median) >= 1.0 {
            true => one,
            false => other,
        },
    )
}

/// Engines in the order of their first contestants.
pub(super) fn engines(entries: &[Entry]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for entry in entries {
        if !names.contains(&entry.engine.as_str()) {
            names.push(&entry.engine);
        }
    }
    names
}

impl Figures {
    /// `{figure: {median, best, runs}}`
    pub(super) fn to_json(&self) -> serde_json::Value {
        let figures = self.runs.iter().map(|(&figure, runs)| {
            let value = serde_json::json!({
                "median": self.median(figure), "best": self.best(figure), "runs": runs,
            });
            (figure.key(), value)
        });
        serde_json::Value::Object(figures.collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry whose runs of each figure are `values` times what is usual for it.
    pub(in super::super) fn entry(engine: &str, mode: Option<&str>, values: &[f64]) -> Entry {
        let mut figures = Figures::default();
        for &value in values {
            figures.add_single(&Single {
                prefill_s: 5.12 / value,
                first_token_s: 5.2 / value,
                decode_s: 6.4 / value,
                tokens: vec![1],
            });
            figures.add_batch(
                1,
                &Batch {
                    decode_s: Some(3.2 / value),
                },
            );
            figures.add_batch(4, &Batch { decode_s: None });
        }
        let memory = Memory {
            peak_bytes: 200 << 20,
            resident_bytes: 100 << 20,
        };
        Entry {
            engine: engine.to_owned(),
            mode: mode.map(str::to_owned),
            features: String::new(),
            trial: Figures::default(),
            figures,
            tokens: vec![1],
            memory: Some(memory),
            memory_in_the_end: Some(memory),
        }
    }

    #[test]
    fn median_and_best_know_which_way_is_up() {
        let entry = entry("one", None, &[1.0, 4.0, 2.0]);
        let round = |value: Option<f64>| value.map(|value| (value * 10.0).round() / 10.0);
        assert_eq!(round(entry.figures.median(Figure::Prefill)), Some(200.0));
        assert_eq!(round(entry.figures.best(Figure::Decode)), Some(40.0));
        assert_eq!(round(entry.figures.best(Figure::FirstToken)), Some(1300.0));
        assert_eq!(round(entry.figures.median(Figure::Batch(1))), Some(20.0));
        assert_eq!(entry.figures.median(Figure::Batch(4)), None);
    }

    #[test]
    fn of_an_engines_modes_the_better_one_counts() {
        let entries = [
            entry("one", Some("a"), &[1.0, 9.0, 1.0]),
            entry("one", Some("b"), &[2.0, 2.0, 2.0]),
            entry("two", None, &[3.0]),
        ];
        assert_eq!(engines(&entries), ["one", "two"]);
        for figure in [Figure::Prefill, Figure::FirstToken] {
            let (_, mode) = value_of(&entries, "one", figure).expect("a value");
            assert_eq!(mode.mode.as_deref(), Some("b"));
        }
        assert!(value_of(&entries, "one", Figure::Batch(16)).is_none());
        assert!(value_of(&entries, "three", Figure::Prefill).is_none());
    }

    #[test]
    fn every_figure_has_its_task() {
        let figures: Vec<Figure> = Task::ALL.into_iter().flat_map(Task::figures).collect();
        assert_eq!(figures, Figure::ALL);
        assert_eq!(Figure::FirstToken.ratio(100.0, 200.0), 2.0);
    }
}
