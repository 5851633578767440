//! What a guest did, counted: a line of L0's log.

use core::fmt;

/// Numbers since the launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Exits to the hypervisor.
    pub exits: u64,
    /// Requests in a GHCB.
    pub ghcb_calls: u64,
    /// Pages whose state was changed.
    pub page_state_changes: u64,
    /// Pages that the guest validated, of 4 KiB.
    pub validations: u64,
    /// Faults in the nested page tables.
    pub nested_faults: u64,
    /// Accesses to pages that were not validated.
    pub unvalidated: u64,
}

/// The words behind each number, in the order of the line.
const WORDS: [&str; 6] = [
    "exits",
    "GHCB calls",
    "pages changed",
    "pages validated",
    "nested faults",
    "unvalidated",
];

impl Statistics {
    /// Reads a line that [`Statistics`]'s `Display` wrote, whatever stands in front of it.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once("statistics: ")?;
        let mut parts = text.trim_end().split(", ");
        let mut numbers = [0; WORDS.len()];
        for (number, words) in numbers.iter_mut().zip(WORDS) {
            let (digits, rest) = parts.next()?.split_once(' ')?;
            *number = digits.parse().ok().filter(|_| rest == words)?;
        }
        let [
            exits,
            ghcb_calls,
            page_state_changes,
            validations,
            nested_faults,
            unvalidated,
        ] = numbers;
        Some(Self {
            exits,
            ghcb_calls,
            page_state_changes,
            validations,
            nested_faults,
            unvalidated,
        })
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            self.exits,
            self.ghcb_calls,
            self.page_state_changes,
            self.validations,
            self.nested_faults,
            self.unvalidated,
        ];
        f.write_str("statistics: ")?;
        for (index, (number, words)) in numbers.iter().zip(WORDS).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{number} {words}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let statistics = Statistics {
            exits: 1,
            ghcb_calls: 2,
            page_state_changes: 3,
            validations: 4,
            nested_faults: 5,
            unvalidated: 6,
        };
        let line = format!("l0: {statistics}\n");
        assert_eq!(
            line,
            "l0: statistics: 1 exits, 2 GHCB calls, 3 pages changed, 4 pages validated, 5 nested faults, \
             6 unvalidated\n"
        );
        assert_eq!(Statistics::parse(&line), Some(statistics));
        assert_eq!(Statistics::parse(&line.replace("GHCB", "GHCI")), None);
        assert_eq!(Statistics::parse("l0: ready"), None);
    }
}
