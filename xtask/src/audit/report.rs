//! What came of an audit: a line a check, and what is never checked.

use std::fmt;

use serde_json::{Value, json};

/// What came of a check; the text says what was seen, what was wrong, or why it was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Pass(String),
    /// It does not.
    Fail(String),
    /// It was not checked.
    NotChecked(String),
}

impl Outcome {
    /// `PASS`, `FAIL` or `NOT CHECKED`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Pass(_) => "PASS",
            Self::Fail(_) => "FAIL",
            Self::NotChecked(_) => "NOT CHECKED",
        }
    }

    /// What was seen.
    pub fn detail(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Fail(text) | Self::NotChecked(text) => text,
        }
    }
}

/// A check and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, detail) = (self.outcome.status(), self.outcome.detail());
        write!(f, "{status:<11}  {:<20}  {detail}", self.name)
    }
}

/// What no audit can tell.
pub const NEVER_CHECKED: [&str; 4] = [
    "what the source does: the same bytes are built from it, not that it is free of errors",
    "the compiler: whoever builds with the same one trusts it",
    "machines: whether one runs this image is for `cloister verify` to say, by its evidence",
    "the witnesses: that those of the policy are independent of each other and of the log",
];

/// Every check of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn add(&mut self, name: &str, outcome: Outcome) {
        let name = name.to_owned();
        self.checks.push(Check { name, outcome });
    }

    pub(super) fn pass(&mut self, name: &str, seen: impl Into<String>) {
        self.add(name, Outcome::Pass(seen.into()));
    }

    pub(super) fn fail(&mut self, name: &str, why: impl Into<String>) {
        self.add(name, Outcome::Fail(why.into()));
    }

    pub(super) fn not_checked(&mut self, name: &str, why: impl Into<String>) {
        self.add(name, Outcome::NotChecked(why.into()));
    }

    /// Passes if `good`, and fails with the other text if not.
    pub(super) fn expect(&mut self, name: &str, good: bool, seen: String, wrong: String) {
        match good {
            true => self.pass(name, seen),
            false => self.fail(name, wrong),
        }
    }

    /// The checks in the order in which they were made.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether something was checked and nothing failed.
    pub fn is_passed(&self) -> bool {
        self.count("PASS") > 0 && self.count("FAIL") == 0
    }

    /// How many checks have this status.
    pub fn count(&self, status: &str) -> usize {
        let has = |check: &&Check| check.outcome.status() == status;
        self.checks.iter().filter(has).count()
    }

    /// The verdict in one line.
    pub fn verdict(&self) -> &'static str {
        match (self.is_passed(), self.count("NOT CHECKED")) {
            (true, 0) => "PASS",
            (true, _) => "PASS, as far as it was checked",
            (false, _) => "FAIL",
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let check = |check: &Check| {
            json!({
                "check": check.name,
                "result": check.outcome.status(),
                "detail": check.outcome.detail(),
            })
        };
        json!({
            "passed": self.is_passed(),
            "verdict": self.verdict(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "never_checked": NEVER_CHECKED,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        writeln!(f, "Never checked:")?;
        for item in NEVER_CHECKED {
            writeln!(f, "  - {item}")?;
        }
        writeln!(
            f,
            "{} ({} passed, {} failed, {} not checked)",
            self.verdict(),
            self.count("PASS"),
            self.count("FAIL"),
            self.count("NOT CHECKED")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_audit() {
        let mut report = Report::default();
        assert!(!report.is_passed(), "nothing was checked");
        report.pass("a", "seen");
        assert_eq!(report.verdict(), "PASS");
        report.not_checked("b", "nothing at hand");
        assert!(report.is_passed() && report.verdict() != "PASS");
        report.expect("c", false, String::new(), "wrong".to_owned());
        assert!(!report.is_passed());
        let text = report.to_string();
        assert!(
            text.contains("FAIL         c                     wrong\n"),
            "{text}"
        );
        assert!(text.ends_with("FAIL (1 passed, 1 failed, 1 not checked)\n"));
    }
}
