//! The engine against candle on the same GGUF file: the model computes what its weights say.
//!
//! Candle computes with 32-bit floats here (`CANDLE_DEQUANTIZE_ALL=1`, which `cargo xtask test` sets), so what differs
//! is what the engine's 8-bit activations cost. Without that variable candle quantizes activations as well, and two
//! such computations differ more: a change of one millionth in one norm already moves log-probabilities by 0.05 to
//! 0.07 on average. Where two tokens are nearly as probable, any of this may change the first one. So there are two
//! texts: a mail thread with its quotes, where from the first quote on the next token is mostly clear; and prose, where
//! more of them are not.
//!
//! `CLOISTER_ORACLE_MODEL` names the file. Run with `--nocapture` for the figures.

use cloister_candle::Candle;
use cloister_engine::tokenizer::Special;
use cloister_engine::{Model, Session, Step};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Positions of each text that are compared.
const POSITIONS: usize = 500;
/// How many of candle's most probable tokens count for the differences.
const TOP: usize = 10;

/// A text and what is asked of the comparison on it.
struct Case {
    name: &'static str,
    text: &'static str,
    /// Positions before the first one that counts. At the first ones of any text a few activations are so large that
    /// 8 bits leave nothing of the others, in candle as in the engine.
    context: usize,
    /// Least share of positions whose most probable token is the same: candle with floats, with bytes.
    agreement: [f64; 2],
    /// Largest lead, in log-probability, that candle may give its choice where the engine chooses another.
    lead: f64,
    /// Largest difference of log-probability among candle's ten most probable tokens, and mean.
    difference: [f64; 2],
}

const CASES: [Case; 2] = [
    Case {
        name: "thread",
        text: include_str!("oracle/thread.txt"),
        context: 240,
        agreement: [0.99, 0.97],
        lead: 0.75,
        difference: [1.5, 0.1],
    },
    Case {
        name: "prose",
        text: include_str!("oracle/prose.txt"),
        context: 8,
        agreement: [0.95, 0.94],
        lead: 0.75,
        difference: [1.5, 0.1],
    },
];

#[test]
fn same_tokens_as_candle() {
    let Some(path) = std::env::var_os("CLOISTER_ORACLE_MODEL").map(PathBuf::from) else {
        println!("skipped: CLOISTER_ORACLE_MODEL does not name a GGUF file");
        return;
    };
    let pack = pack_of(&path);
    let model = Model::open(&pack).expect("a fresh pack opens");
    let floats = std::env::var_os("CANDLE_DEQUANTIZE_ALL").is_some_and(|value| value == "1");
    let candle = if floats { "floats" } else { "bytes" };
    let figures = CASES.each_ref().map(|case| {
        let figures = compare(&model, &path, case);
        println!(
            "{}, {}, candle with {candle}: {figures}",
            model.name(),
            case.name
        );
        figures
    });
    for (case, figures) in CASES.iter().zip(figures) {
        let agreement = figures.agreeing as f64 / POSITIONS as f64;
        assert!(
            agreement >= case.agreement[usize::from(!floats)],
            "only {} of {POSITIONS} positions agree",
            figures.agreeing
        );
        assert!(
            figures.lead <= case.lead,
            "a choice differs where candle leads by {}",
            figures.lead
        );
        assert!(
            figures.largest_top <= case.difference[0],
            "a difference of {}",
            figures.largest_top
        );
        assert!(
            figures.mean_top() <= case.difference[1],
            "a mean difference of {}",
            figures.mean_top()
        );
    }
}

fn pack_of(path: &Path) -> Vec<u8> {
    let pack_path =
        std::env::temp_dir().join(format!("cloister-oracle-{}.pack", std::process::id()));
    cloister_image::model_pack::build(path, &pack_path, &mut |_, _| {})
        .expect("the model can be packed");
    let pack = fs::read(&pack_path).expect("the pack was just written");
    fs::remove_file(&pack_path).expect("the pack can be removed");
    pack
}

/// Feeds the same tokens to both, one by one.
fn compare(model: &Model<'_>, path: &Path, case: &Case) -> Figures {
    let last = case.context + POSITIONS;
    let tokens = model.tokenizer().encode(case.text, Special::Plain);
    assert!(
        tokens.len() > POSITIONS,
        "the text has only {} tokens",
        tokens.len()
    );
    let mut candle = Candle::open(path).expect("candle loads the model");
    let mut session = Session::new(model, last);
    let mut figures = Figures::default();
    for (position, pair) in tokens.windows(2).enumerate().take(last) {
        session
            .push(model, &pair[..1])
            .expect("the session has room");
        let ours = loop {
            if let Step::Logits(logits) = session.step(model) {
                break log_softmax(logits);
            }
        };
        let theirs = candle.logits(&pair[..1], position);
        let theirs = log_softmax(&theirs.expect("candle computes logits"));
        if position >= case.context {
            figures.add(&ours, &theirs, pair[1] as usize);
        }
    }
    figures
}

/// Differences in natural logarithms of probabilities.
#[derive(Debug, Default)]
struct Figures {
    positions: usize,
    agreeing: usize,
    /// Where the choices differ: by how much candle prefers its own to the engine's, at most, and at which position.
    lead: f64,
    lead_at: usize,
    /// Over candle's ten most probable tokens of every position.
    largest_top: f64,
    sum_top: f64,
    /// Over the token that really follows.
    largest_next: f64,
    /// Sums of `-log p(next)`: candle's and the engine's.
    losses: [f64; 2],
}

impl Figures {
    fn add(&mut self, ours: &[f64], theirs: &[f64], next: usize) {
        let mut order: Vec<usize> = (0..theirs.len()).collect();
        order.select_nth_unstable_by(TOP, |a, b| theirs[*b].total_cmp(&theirs[*a]));
        let best = |logs: &[f64]| (0..logs.len()).max_by(|a, b| logs[*a].total_cmp(&logs[*b]));
        let [ours_best, theirs_best] =
            [ours, theirs].map(|logs| best(logs).expect("a vocabulary is not empty"));
        self.positions += 1;
        if ours_best == theirs_best {
            self.agreeing += 1;
        } else {
            let lead = theirs[theirs_best] - theirs[ours_best];
            if lead > self.lead {
                (self.lead, self.lead_at) = (lead, self.positions);
            }
        }
        let difference = |token: usize| (ours[token] - theirs[token]).abs();
        for &token in &order[..TOP] {
            self.largest_top = self.largest_top.max(difference(token));
            self.sum_top += difference(token);
        }
        self.largest_next = self.largest_next.max(difference(next));
        self.losses[0] -= theirs[next];
        self.losses[1] -= ours[next];
    }

    fn mean_top(&self) -> f64 {
        self.sum_top / (self.positions * TOP) as f64
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [theirs, ours] = self.losses.map(|loss| loss / self.positions as f64);
        write!(
            f,
            "top-1 agrees at {} of {}, largest lead where not {:.3} (at {}); log-probabilities: largest difference {:.3} \
             (next token {:.3}), mean {:.4}; loss candle {theirs:.4}, engine {ours:.4}",
            self.agreeing,
            self.positions,
            self.lead,
            self.lead_at,
            self.largest_top,
            self.largest_next,
            self.mean_top()
        )
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
    logits
        .iter()
        .map(|x| f64::from(*x) - largest - total.ln())
        .collect()
}
