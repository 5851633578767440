//! Tables for people, JSON for programs.

use serde_json::{Value as Json, json};

use super::figures::{Entry, Figure, Value, engines, value_of};
use crate::statistics::median;

/// Name of our engine.
pub(super) const OURS: &str = "Cloister";
/// Width of a row's name.
const NAME_WIDTH: usize = 26;
/// Width of a column.
const COLUMN_WIDTH: usize = 17;

/// All contestants with one model and one number of threads.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) model: String,
    pub(super) threads: u32,
    pub(super) runs: u32,
    pub(super) entries: Vec<Entry>,
    /// Bytes per second, of each run.
    pub(super) bandwidth: Vec<f64>,
    /// Bytes that our engine reads of the weights for one token.
    pub(super) weight_bytes_per_token: u64,
}

impl Group {
    /// Tokens per second of one sequence at which the memory can give no more, by the median and the best of its speed.
    fn ceiling(&self) -> Option<Value> {
        let of = |bytes_per_s: f64| bytes_per_s / self.weight_bytes_per_token as f64;
        let best = self.bandwidth.iter().copied().reduce(f64::max)?;
        Some(Value {
            median: of(median(self.bandwidth.iter().copied())?),
            best: of(best),
        })
    }

    /// A table: median (best).
    pub(super) fn table(&self) -> String {
        let plural = if self.threads == 1 { "" } else { "s" };
        let mut text = format!(
            "{}, {} thread{plural}, median (best) of {} runs, tokens/s:\n",
            self.model, self.threads, self.runs
        );
        let titles = Figure::ALL.map(Figure::title);
        let titles = titles.iter().map(String::as_str).chain(["peak MiB"]);
        text += &row("", titles.map(str::to_owned));
        for engine in engines(&self.entries) {
            let values = Figure::ALL
                .map(|figure| value_of(&self.entries, engine, figure).map(|(value, _)| value));
            let cells = values.map(|value| value.map_or("-".to_owned(), pair));
            let peak = self.peak_bytes(engine).map(mebibytes);
            text += &row(engine, cells.into_iter().chain([peak.unwrap_or_default()]));
        }
        for engine in engines(&self.entries).into_iter().skip(1) {
            let cells = Figure::ALL.map(|figure| {
                self.ratio(engine, figure).map_or("-".to_owned(), |ratio| {
                    format!("{:.2} ({:.2})", ratio.median, ratio.best)
                })
            });
            text += &row(&format!("times {engine}"), cells);
        }
        text + &self.ceiling_text() + &self.modes_text()
    }

    /// How many times as good ours is: median by median, best by best.
    fn ratio(&self, engine: &str, figure: Figure) -> Option<Value> {
        let (ours, _) = value_of(&self.entries, OURS, figure)?;
        let (theirs, _) = value_of(&self.entries, engine, figure)?;
        Some(Value {
            median: figure.ratio(ours.median, theirs.median),
            best: figure.ratio(ours.best, theirs.best),
        })
    }

    /// The least that a mode of the engine needs with one sequence.
    fn peak_bytes(&self, engine: &str) -> Option<u64> {
        let of_engine = self.entries.iter().filter(|entry| entry.engine == engine);
        of_engine
            .filter_map(|entry| entry.memory.map(|memory| memory.peak_bytes))
            .min()
    }

    fn ceiling_text(&self) -> String {
        let Some(ceiling) = self.ceiling() else {
            return String::new();
        };
        let shares = engines(&self.entries).into_iter().filter_map(|engine| {
            let (decode, _) = value_of(&self.entries, engine, Figure::Decode)?;
            let share = 100.0 * decode.median / ceiling.median;
            Some(format!("{engine} {share:.0} %"))
        });
        let shares: Vec<String> = shares.collect();
        format!(
            "  memory gives {:.1} GB/s and a token reads {:.0} MB of weights: at most {:.1} tokens/s in decode, of which {}\n",
            ceiling.median * self.weight_bytes_per_token as f64 / 1e9,
            self.weight_bytes_per_token as f64 / 1e6,
            ceiling.median,
            shares.join(", ")
        )
    }

    /// Which mode each of a peer's figures comes from.
    fn modes_text(&self) -> String {
        let mut text = String::new();
        for engine in engines(&self.entries) {
            let best = Figure::ALL.into_iter().filter_map(|figure| {
                let mode = value_of(&self.entries, engine, figure)?.1.mode.as_ref()?;
                Some(format!("{} {mode}", figure.title()))
            });
            let best: Vec<String> = best.collect();
            if !best.is_empty() {
                text += &format!("  {engine}'s better modes: {}\n", best.join("; "));
            }
        }
        text
    }

    /// Everything, every run's values with it.
    pub(super) fn to_json(&self) -> Json {
        let entries = self.entries.iter().map(|entry| {
            json!({
                "engine": entry.engine, "mode": entry.mode, "features": entry.features,
                "figures": entry.figures.to_json(), "trial": entry.trial.to_json(), "tokens": entry.tokens,
                "memory_one_sequence": entry.memory, "memory_in_the_end": entry.memory_in_the_end,
            })
        });
        let entries: Vec<Json> = entries.collect();
        let peers = engines(&self.entries).into_iter().skip(1).map(|engine| {
            let ratios = Figure::ALL
                .into_iter()
                .map(|figure| (figure.key(), json!(self.ratio(engine, figure))));
            (engine.to_owned(), Json::Object(ratios.collect()))
        });
        json!({
            "model": self.model, "threads": self.threads, "runs": self.runs, "entries": entries,
            "ratio_to": Json::Object(peers.collect()),
            "bandwidth_bytes_per_s": self.bandwidth, "weight_bytes_per_token": self.weight_bytes_per_token,
            "ceiling_tokens_per_s": self.ceiling(),
        })
    }
}

fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let mut line = format!("  {name:NAME_WIDTH$}");
    for cell in cells {
        line += &format!(" {cell:>COLUMN_WIDTH$}");
    }
    line.trim_end().to_owned() + "\n"
}

fn pair(value: Value) -> String {
    let digits = if value.median >= 100.0 { 0 } else { 1 };
    format!("{:.digits$} ({:.digits$})", value.median, value.best)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::entry;
    use super::*;

    fn group() -> Group {
        Group {
            model: "tiny".to_owned(),
            threads: 2,
            runs: 3,
            entries: vec![
                entry(OURS, None, &[2.0, 3.0, 1.0]),
                entry("llama.cpp", Some("plain"), &[1.0, 1.0, 1.0]),
                entry("llama.cpp", Some("repack"), &[4.0, 4.0, 10.0]),
            ],
            bandwidth: vec![4e9, 5e9, 3e9],
            weight_bytes_per_token: 100_000_000,
        }
    }

    #[test]
    fn the_table_has_medians_ratios_and_the_ceiling() {
        let table = group().table();
        let line = |start: &str| {
            let line = table
                .lines()
                .find(|line| line.trim_start().starts_with(start));
            line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let expected = "Cloister 200 (300) 20.0 (30.0) 2600 (1733) 20.0 (30.0) - - 200";
        assert_eq!(line("Cloister").as_deref(), Some(expected), "{table}");
        let expected = "times llama.cpp 0.50 (0.30) 0.50 (0.30) 0.50 (0.30) 0.50 (0.30) - -";
        assert_eq!(
            line("times llama.cpp").as_deref(),
            Some(expected),
            "{table}"
        );
        assert!(
            table.contains("4.0 GB/s") && table.contains("at most 40.0 tokens/s"),
            "{table}"
        );
        assert!(table.contains("Cloister 50 %, llama.cpp 100 %"), "{table}");
        assert!(table.contains("prefill 512 repack"), "{table}");
    }

    #[test]
    fn the_json_has_every_run() {
        let json = group().to_json();
        let runs = &json["entries"][0]["figures"]["prefill_512_tokens_per_s"]["runs"];
        assert_eq!(runs.as_array().map(Vec::len), Some(3));
        assert_eq!(
            json["ratio_to"]["llama.cpp"]["batch_4_tokens_per_s"],
            Json::Null
        );
        assert_eq!(json["ceiling_tokens_per_s"]["best"], json!(50.0));
    }
}
