//! Writing bytes, dates and strange text for people.

use core::fmt::{self, Write};
use core::time::Duration;

/// Lower-case hex.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Seconds since 1970 as a date, UTC.
pub(crate) struct Date(pub(crate) u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match der::DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(date) => write!(f, "{date}"),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

/// Text out of evidence, without what could control a terminal.
pub(crate) struct Safe<'a>(pub(crate) &'a str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            let printable = c == ' ' || c.is_ascii_graphic();
            f.write_char(if printable { c } else { '\u{fffd}' })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_strange_text() {
        assert_eq!(Date(1_765_404_861).to_string(), "2025-12-10T22:14:21Z");
        assert_eq!(
            Date(u64::MAX).to_string(),
            "18446744073709551615 s after 1970"
        );
        assert_eq!(Safe("a\u{1b}[2J b").to_string(), "a\u{fffd}[2J b");
        assert_eq!(Hex(&[0, 0xab]).to_string(), "00ab");
    }
}
