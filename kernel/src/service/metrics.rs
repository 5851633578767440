//! Counters that anyone may read: a fixed list (ARCHITECTURE.md has it), none of them derived from what a request says.

use alloc::string::String;
use core::fmt::Write;

use crate::http::Status;

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Answers with a status below 400.
    pub requests_answered: u64,
    /// Answers with a status from 400 to 499, seen outside the encapsulation.
    pub requests_refused: u64,
    /// Answers with a status from 500 on, seen outside the encapsulation.
    pub requests_failed: u64,
    /// Connections that were taken.
    pub connections: u64,
    /// Connections beyond the limit, answered with 503.
    pub connections_refused: u64,
    /// Jobs that were queued.
    pub jobs_queued: u64,
    /// Jobs that gave an answer.
    pub jobs_finished: u64,
    /// Jobs whose client left.
    pub jobs_cancelled: u64,
    /// Jobs that found the queue full.
    pub jobs_refused: u64,
    /// Requests that had no token that is taken.
    pub tokens_refused: u64,
    /// Longest time in microseconds that the network was not served.
    pub poll_gap_us_max: u64,
}

/// What is so at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Milliseconds since the guest started.
    pub uptime_ms: u64,
    /// Connections now.
    pub connections: usize,
    /// Jobs at work.
    pub jobs_running: usize,
    /// Jobs that wait.
    pub jobs_waiting: usize,
    /// Bytes of the heap that were in use when no job was there last.
    pub heap_used_bytes: usize,
}

impl Metrics {
    /// Counts an answer.
    pub fn count_answer(&mut self, status: Status) {
        match status.code() {
            ..400 => self.requests_answered += 1,
            400..500 => self.requests_refused += 1,
            500.. => self.requests_failed += 1,
        }
    }

    /// The text exposition format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn to_text(&self, gauges: &Gauges) -> String {
        let mut text = String::with_capacity(2048);
        let counters = [
            ("requests_answered", self.requests_answered),
            ("requests_refused", self.requests_refused),
            ("requests_failed", self.requests_failed),
            ("connections", self.connections),
            ("connections_refused", self.connections_refused),
            ("jobs_queued", self.jobs_queued),
            ("jobs_finished", self.jobs_finished),
            ("jobs_cancelled", self.jobs_cancelled),
            ("jobs_refused", self.jobs_refused),
            ("tokens_refused", self.tokens_refused),
        ];
        for (name, value) in counters {
            line(
                &mut text,
                format_args!("cloister_{name}_total"),
                "counter",
                value,
            );
        }
        let now = [
            ("uptime_seconds", gauges.uptime_ms / 1000),
            ("connections", gauges.connections as u64),
            ("jobs", (gauges.jobs_running + gauges.jobs_waiting) as u64),
            ("jobs_running", gauges.jobs_running as u64),
            ("jobs_waiting", gauges.jobs_waiting as u64),
            ("heap_used_bytes", gauges.heap_used_bytes as u64),
            ("poll_gap_ms_max", self.poll_gap_us_max.div_ceil(1000)),
        ];
        for (name, value) in now {
            line(&mut text, format_args!("cloister_{name}"), "gauge", value);
        }
        text
    }
}

fn line(text: &mut String, name: core::fmt::Arguments<'_>, kind: &str, value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# TYPE {name} {kind}\n{name} {value}\n");
}

#[cfg(test)]
mod tests;
