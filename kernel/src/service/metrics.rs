//! Counters that anyone may read: a fixed list, none of them derived from what a request says.

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
}

/// What is so at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Milliseconds since the guest started.
    pub uptime_ms: u64,
    /// Connections now.
    pub connections: usize,
    /// Jobs that wait or are at work.
    pub jobs: usize,
    /// Bytes of the heap that are in use.
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
        ];
        for (name, value) in counters {
            line(
                &mut text,
                format_args!("cloister_{name}_total"),
                "counter",
                value,
            );
        }
        line(
            &mut text,
            format_args!("cloister_uptime_seconds"),
            "gauge",
            gauges.uptime_ms / 1000,
        );
        line(
            &mut text,
            format_args!("cloister_connections"),
            "gauge",
            gauges.connections as u64,
        );
        line(
            &mut text,
            format_args!("cloister_jobs"),
            "gauge",
            gauges.jobs as u64,
        );
        let heap = gauges.heap_used_bytes as u64;
        line(
            &mut text,
            format_args!("cloister_heap_used_bytes"),
            "gauge",
            heap,
        );
        text
    }
}

fn line(text: &mut String, name: core::fmt::Arguments<'_>, kind: &str, value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# TYPE {name} {kind}\n{name} {value}\n");
}
