//! What a relay counts: a fixed list, nothing in it that depends on what a request holds or who sent it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::upstream::PoolNews;

/// Statuses of answers that a relay gives by itself.
const OWN: [u16; 10] = [400, 404, 405, 408, 413, 415, 429, 502, 503, 504];

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    connections: AtomicU64,
    connections_total: AtomicU64,
    turned_away_total: AtomicU64,
    requests: AtomicU64,
    requests_total: AtomicU64,
    /// By hundreds: 2xx, 4xx, 5xx.
    passed_total: [AtomicU64; 3],
    own_total: [AtomicU64; OWN.len()],
    gateway_connections_total: AtomicU64,
    gateway_reused_total: AtomicU64,
}

/// Counts a request as open until it is dropped.
pub(super) struct OpenRequest(std::sync::Arc<Metrics>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub(super) fn connection_opened(&self) {
        add(&self.connections);
        add(&self.connections_total);
    }

    pub(super) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn turned_away(&self) {
        add(&self.turned_away_total);
    }

    pub(super) fn request(self: &std::sync::Arc<Self>) -> OpenRequest {
        add(&self.requests);
        add(&self.requests_total);
        OpenRequest(std::sync::Arc::clone(self))
    }

    /// A gateway's answer is passed on.
    pub(super) fn passed(&self, status: u16) {
        let class = match status {
            200..=299 => 0,
            400..=499 => 1,
            _ => 2,
        };
        add(&self.passed_total[class]);
    }

    /// The relay answers by itself.
    pub(super) fn own(&self, status: u16) {
        if let Some(index) = OWN.iter().position(|known| *known == status) {
            add(&self.own_total[index]);
        }
    }

    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, help: &str, samples: &[(String, &AtomicU64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {}", value.load(Ordering::Relaxed));
            }
        };
        let one = |value| [(String::new(), value)];
        for (name, kind, help, value) in [
            (
                "connections",
                "gauge",
                "Connections of clients that are open.",
                &self.connections,
            ),
            (
                "connections_total",
                "counter",
                "Connections of clients.",
                &self.connections_total,
            ),
            (
                "connections_turned_away_total",
                "counter",
                "Connections closed at once, as their client had too many.",
                &self.turned_away_total,
            ),
            ("requests", "gauge", "Requests under way.", &self.requests),
            (
                "requests_total",
                "counter",
                "Requests.",
                &self.requests_total,
            ),
            (
                "gateway_connections_total",
                "counter",
                "Connections made to the gateway.",
                &self.gateway_connections_total,
            ),
            (
                "gateway_reused_total",
                "counter",
                "Requests over a connection to the gateway that was there.",
                &self.gateway_reused_total,
            ),
        ] {
            put(&format!("cloister_relay_{name}"), kind, help, &one(value));
        }
        let classes = ["2xx", "4xx", "5xx"].map(|class| format!("{{status=\"{class}\"}}"));
        let passed: Vec<_> = classes.into_iter().zip(&self.passed_total).collect();
        put(
            "cloister_relay_answers_total",
            "counter",
            "Answers of the gateway that were passed on.",
            &passed,
        );
        let statuses = OWN.map(|status| format!("{{status=\"{status}\"}}"));
        let own: Vec<_> = statuses.into_iter().zip(&self.own_total).collect();
        put(
            "cloister_relay_refusals_total",
            "counter",
            "Answers of the relay itself: it refused, or got none from the gateway.",
            &own,
        );
        text
    }
}

impl PoolNews for Metrics {
    fn connected(&self) {
        add(&self.gateway_connections_total);
    }

    fn reused(&self) {
        add(&self.gateway_reused_total);
    }
}
