//! What a result depends on: the machine, the day, the commit.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::peers::llama::flags_of;
use crate::process;

/// Flags of the CPU that engines make use of.
const FLAGS: [&str; 9] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "hypervisor",
];

/// Where and when.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// As the CPU names itself.
    pub(super) cpu: String,
    /// Family, model and stepping: the name is not always telling.
    pub(super) signature: String,
    /// CPUs that the system has.
    pub(super) cpus: usize,
    /// Flags that matter.
    pub(super) flags: Vec<String>,
    /// RAM.
    pub(super) memory_bytes: u64,
    /// Whether programs get huge pages: `always`, `madvise` or `never`.
    pub(super) huge_pages: String,
    /// Day, in UTC.
    pub(super) date: String,
    /// Commit of the checkout, with `-dirty` where files differ from it.
    pub(super) commit: String,
}

impl Machine {
    pub(super) fn detect(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| field(&cpuinfo, name).unwrap_or("unknown").to_owned();
        let matters = |flag: &&str| FLAGS.contains(flag);
        let mut git = Command::new("git");
        git.current_dir(root)
            .args(["describe", "--always", "--dirty", "--exclude=*"]);
        Self {
            cpu: field("model name"),
            signature: ["cpu family", "model", "stepping"].map(field).join("-"),
            cpus: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            flags: flags_of(&cpuinfo)
                .filter(matters)
                .map(str::to_owned)
                .collect(),
            memory_bytes: field_kib(&read("/proc/meminfo"), "MemTotal"),
            huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")).to_owned(),
            date: today(),
            commit: process::capture(&mut git, "git describe")
                .map_or("unknown".to_owned(), |commit| commit.trim().to_owned()),
        }
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        format!(
            "{} ({}), {} CPUs, {}, {:.0} GiB, huge pages: {}; {}, commit {}",
            self.cpu,
            self.signature,
            self.cpus,
            self.flags.join(" "),
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.huge_pages,
            self.date,
            self.commit
        )
    }
}

/// The value of `name: value`, the first one.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim())
}

fn field_kib(text: &str, name: &str) -> u64 {
    let kib = field(text, name).and_then(|value| value.strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> &str {
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or("unknown", |(word, _)| word)
}

fn today() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The day, so many days after 1970-01-01.
fn date(days: u64) -> String {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let dates = [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_784, "2026-11-27"),
        ];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
        assert_eq!(date(20_818), "2026-12-31");
        assert_eq!(date(20_819), "2027-01-01");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "cpu family\t: 6\nmodel\t\t: 207\nmodel name\t: A CPU\nMemTotal:   2048 kB\n";
        assert_eq!(field(text, "model"), Some("207"));
        assert_eq!(field(text, "model name"), Some("A CPU"));
        assert_eq!(field_kib(text, "MemTotal"), 2 << 20);
        assert_eq!(field_kib(text, "MemFree"), 0);
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen(""), "unknown");
    }
}
