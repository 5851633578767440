//! The date, from the battery-backed clock (MC146818 and compatibles): the host's word, and used as no more than that.

use crate::platform::Platform;

const INDEX_PORT: u16 = 0x70;
const DATA_PORT: u16 = 0x71;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const CENTURY: u8 = 0x32;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;

/// Attempts to read a date that does not change meanwhile.
const MAX_ATTEMPTS: usize = 100;
const SECONDS_PER_DAY: u64 = 86_400;

/// Seconds since 1970-01-01 UTC, or `None` if the clock gives no plausible date.
pub fn unix_time_s(platform: &dyn Platform) -> Option<u64> {
    let mut last = None;
    for _ in 0..MAX_ATTEMPTS {
        if read(platform, STATUS_A) & UPDATE_IN_PROGRESS != 0 {
            continue;
        }
        let date = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY].map(|r| read(platform, r));
        if last.replace(date) == Some(date) {
            return to_unix(date, read(platform, STATUS_B));
        }
    }
    None
}

fn read(platform: &dyn Platform, register: u8) -> u8 {
    platform.out_u8(INDEX_PORT, register);
    platform.in_u8(DATA_PORT)
}

/// The fields in the order of [`unix_time_s`], in the encoding that status B names. Only clocks of 24 hours are read.
fn to_unix(fields: [u8; 7], status_b: u8) -> Option<u64> {
    if status_b & HOURS_24 == 0 {
        return None;
    }
    let number = |field: u8| {
        u64::from(if status_b & BINARY != 0 {
            field
        } else {
            (field >> 4) * 10 + (field & 0xf)
        })
    };
    let [second, minute, hour, day, month, year, century] = fields.map(number);
    let year = century * 100 + year;
    let is_plausible = second < 60
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && (1970..10_000).contains(&year);
    is_plausible.then(|| {
        days_since_1970(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
    })
}

/// Days of the Gregorian calendar, counted in years that begin in March, so that the leap day is the last one.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    /// Days from 0000-03-01 to 1970-01-01.
    const DAYS_TO_1970: u64 = 719_468;
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_of_years = year * 365 + year / 4 - year / 100 + year / 400;
    let days_of_months = (153 * month + 2) / 5;
    days_of_years + days_of_months + day - 1 - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCD: u8 = HOURS_24;

    #[test]
    fn dates_are_converted() {
        let cases = [
            ([0, 0, 0, 1, 1, 0x70, 0x19], 0),
            ([0x59, 0x59, 0x23, 0x31, 0x12, 0x99, 0x19], 946_684_799),
            ([0, 0, 0, 0x29, 0x02, 0x00, 0x20], 951_782_400),
            ([0x40, 0x46, 0x01, 0x09, 0x09, 0x01, 0x20], 1_000_000_000),
            ([0x20, 0x33, 0x03, 0x18, 0x05, 0x33, 0x20], 2_000_000_000),
        ];
        for (fields, seconds) in cases {
            assert_eq!(to_unix(fields, BCD), Some(seconds), "{fields:x?}");
        }
        assert_eq!(
            to_unix([40, 46, 1, 9, 9, 1, 20], HOURS_24 | BINARY),
            Some(1_000_000_000)
        );
    }

    #[test]
    fn implausible_dates_are_refused() {
        let good = [0, 0, 0, 1, 1, 0x70, 0x19];
        for (at, bad) in [
            (0, 0x60),
            (1, 0x60),
            (2, 0x24),
            (3, 0),
            (3, 0x32),
            (4, 0),
            (4, 0x13),
            (6, 0x18),
        ] {
            let mut fields = good;
            fields[at] = bad;
            assert_eq!(to_unix(fields, BCD), None, "{fields:x?}");
        }
        assert_eq!(to_unix(good, 0), None, "twelve hours");
        assert_eq!(to_unix([0xff; 7], 0xff), None, "no clock there");
    }
}
