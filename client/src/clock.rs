//! This machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970; nothing for a clock that is before.
pub(crate) fn known_s() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}

/// Seconds since 1970; a clock that is before is taken for 1970.
pub(crate) fn now_s() -> u64 {
    known_s().unwrap_or(0)
}
