//! The decimal numbers of checkpoints, proofs and requests: ASCII digits without leading zeroes.

/// The largest number that is taken: 2^63 - 1, which bounds tree sizes, indices and timestamps (tlog-cosignature, and
/// the implementations that hold them in a signed integer).
pub const MAX_NUMBER: u64 = i64::MAX as u64;

/// A number from 0 to [`MAX_NUMBER`] in its one canonical form; `None` for any other text.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = canonical.then(|| text.parse().ok()).flatten()?;
    (number <= MAX_NUMBER).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_canonical_form_only() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("20852163"), Some(20_852_163));
        assert_eq!(parse("9223372036854775807"), Some(MAX_NUMBER));
        for other in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1_0",
            "0x1",
            "9223372036854775808",
            "18446744073709551616",
            "\u{661}",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
