//! The report as one page that needs nothing else: no script, no font, no picture from anywhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{NEVER_CHECKED, Report};
use super::{Audited, DigestRow};

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
code,.mono{font-family:ui-monospace,monospace;font-size:.85em;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
.verdict{padding:1rem;border-radius:.5rem;font-size:1.2rem;font-weight:600}\
.PASS{color:#0a5c2c}.FAIL{color:#a40000}.NOT{color:#7a5200}\
.verdict.PASS{background:#e2f4e8}.verdict.FAIL{background:#fde4e4}\
.test{background:#fff4d6;padding:.6rem 1rem;border-radius:.5rem}\
th,.name{white-space:nowrap}\
svg{max-width:100%;height:auto}pre{background:#f6f6f6;padding:1rem;overflow-x:auto}\
@media print{body{margin:0}}";

/// The page.
pub fn page(report: &Report, audited: &Audited) -> String {
    let verdict = if report.is_passed() { "PASS" } else { "FAIL" };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Cloister audit: " (report.verdict()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Cloister audit" }
                p class=(format!("verdict {verdict}")) { (report.verdict()) }
                @if audited.test {
                    p.test { "TEST WITNESSES: log, witnesses and release key are a demonstration's, made on this machine. \
                              They prove that the checks work, and nothing about any release." }
                }
                (summary(audited))
                h2 { "Checks" }
                (checks(report))
                (digests(&audited.digests))
                (differences(&audited.differences))
                (tree(audited))
                (launches(audited))
                h2 { "Never checked" }
                ul { @for item in NEVER_CHECKED { li { (item) } } }
                @if let Some(checkpoint) = &audited.checkpoint {
                    h2 { "Checkpoint" }
                    pre { (checkpoint) }
                }
            }
        }
    };
    page.into_string()
}

fn summary(audited: &Audited) -> Markup {
    html! {
        table {
            @for (name, value) in &audited.summary {
                tr { th { (name) } td.mono { (value) } }
            }
        }
    }
}

fn checks(report: &Report) -> Markup {
    html! {
        table {
            tr { th { "Result" } th { "Check" } th { "What was seen" } }
            @for check in report.checks() {
                @let status = check.outcome.status();
                tr {
                    td class=(status) { (status) }
                    td { (check.name) }
                    td.mono { (check.outcome.detail()) }
                }
            }
        }
    }
}

fn digests(rows: &[DigestRow]) -> Markup {
    html! {
        @if !rows.is_empty() {
            h2 { "Files (SHA-256)" }
            table {
                tr { th { "File" } th { "In the log" } th { "Built here" } th {} }
                @for row in rows {
                    @let same = row.built.as_deref().map(|built| built == row.logged);
                    @let word = match same { Some(true) => "PASS", Some(false) => "FAIL", None => "NOT CHECKED" };
                    tr {
                        td.mono.name { (row.file) }
                        td.mono { (row.logged) }
                        td.mono { (row.built.as_deref().unwrap_or("not built")) }
                        td class=(word) { (word) }
                    }
                }
            }
        }
    }
}

fn differences(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 { "Differences" }
            ul { @for line in lines { li.mono { (line) } } }
        }
    }
}

/// Width of the drawing and of a box in it, and height from a step to the next.
const WIDTH: usize = 760;
const BOX: usize = 240;
const STEP: usize = 56;

/// The way from the entry up to the root: what is computed in the middle, the proof's hashes on the side they are on.
fn tree(audited: &Audited) -> Markup {
    let Some(path) = &audited.path else {
        return html! {};
    };
    let height = STEP * (path.steps.len() + 1) + 10;
    let y_of = |level: usize| height - STEP * (level + 1) + 5;
    let middle = (WIDTH - BOX) / 2;
    let top = path.steps.len();
    html! {
        h2 { "Path in the tree" }
        p { "Entry " (path.index) " of " (path.size) ": each box in the middle is the hash of the two below it; those at the \
             sides come from the proof. The box at the top is the root that log and witnesses signed." }
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label="path from the entry to the root"
            font-family="ui-monospace, monospace" font-size="12" {
            @for (level, step) in path.steps.iter().enumerate() {
                @let x = if step.sibling_is_left { 0 } else { WIDTH - BOX };
                (line(middle + BOX / 2, y_of(level), middle + BOX / 2, y_of(level + 1) + 30))
                (line(x + BOX / 2, y_of(level), middle + BOX / 2, y_of(level + 1) + 30))
                (node(x, y_of(level), &step.sibling.to_string(), "#f0f0f0", "proof"))
            }
            (node(middle, y_of(0), &path.leaf.to_string(), "#dcebff", "entry"))
            @for (level, step) in path.steps.iter().enumerate() {
                @let (fill, word) = if level + 1 == top { ("#e2f4e8", "root") } else { ("#fff", "computed") };
                (node(middle, y_of(level + 1), &step.parent.to_string(), fill, word))
            }
        }
    }
}

fn line(x1: usize, y1: usize, x2: usize, y2: usize) -> Markup {
    html! { line x1=(x1) y1=(y1) x2=(x2) y2=(y2) stroke="#999" {} }
}

fn node(x: usize, y: usize, hash: &str, fill: &str, word: &str) -> Markup {
    let short: String = hash.chars().take(20).collect();
    html! {
        g {
            title { (hash) }
            rect x=(x) y=(y) width=(BOX) height="30" rx="4" fill=(fill) stroke="#555" {}
            text x=(x + 8) y=(y + 19) { (word) " " (short) "…" }
        }
    }
}

fn launches(audited: &Audited) -> Markup {
    html! {
        @if !audited.launches.is_empty() {
            h2 { "Launch measurements (SEV-SNP)" }
            table {
                tr { th { "Launcher" } th { "CPU" } th { "vCPUs" } th { "Measurement" } }
                @for launch in &audited.launches {
                    tr {
                        td { (launch.vmm) }
                        td { (launch.cpu) }
                        td { (launch.vcpus) }
                        td.mono { (crate::digest::hex(&launch.measurement)) }
                    }
                }
            }
        }
    }
}
