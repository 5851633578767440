//! Progress on standard error: bars on a terminal, one line a phase without one.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One phase of work, from its start to [`Phase::done`].
pub struct Phase {
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
    next_report: Instant,
}

/// Without a terminal a long phase says how far it is this often.
const REPORT_EVERY: Duration = Duration::from_secs(15);

impl Phase {
    /// A phase whose length is not known.
    pub fn start(name: impl Into<String>) -> Self {
        let phase = Self::new(name.into(), None);
        if let Some(bar) = &phase.bar {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        phase
    }

    /// A phase of `total_bytes` bytes; see [`Phase::advance_to`].
    pub fn of_bytes(name: impl Into<String>, total_bytes: u64) -> Self {
        Self::new(name.into(), Some(total_bytes))
    }

    fn new(name: String, total_bytes: Option<u64>) -> Self {
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| bar(&name, total_bytes));
        if bar.is_none() {
            eprintln!("{name} ...");
        }
        let started = Instant::now();
        Self {
            name,
            bar,
            started,
            next_report: started + REPORT_EVERY,
        }
    }

    /// How many bytes are done.
    pub fn advance_to(&mut self, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None if Instant::now() >= self.next_report => {
                eprintln!("{}: {} MB so far", self.name, bytes / 1_000_000);
                self.next_report = Instant::now() + REPORT_EVERY;
            }
            None => {}
        }
    }

    /// What is going on inside the phase, for people who watch.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the phase and returns how long it took.
    pub fn done(self, result: &str) -> Duration {
        let took = self.started.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let result = if result.is_empty() {
            String::new()
        } else {
            format!(": {result}")
        };
        eprintln!("{}{result} ({:.1} s)", self.name, took.as_secs_f64());
        took
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (
            ProgressBar::new(total),
            "{prefix} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {prefix} {elapsed} {msg}",
        ),
    };
    let style =
        ProgressStyle::with_template(template).expect("the templates above are well formed");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(name.to_owned());
    bar
}
