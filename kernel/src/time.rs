//! Time since start, from the timestamp counter, calibrated against the PIT.
//!
//! Both are the host's word in the end: the clock is good for timeouts and for figures in the log,
//! and nothing that is secret or trusted depends on it.

use crate::arch::cpu;
use crate::platform::Platform;

/// PIT input frequency in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Calibration runs: how many, and how many PIT ticks each waits for. A processor that is taken away in
/// the middle of one spoils it, and on a busy host that happens often. Runs of 2 ms are enough where a
/// look at the timer takes no time; runs of 50 ms follow for guests whose every look leaves the guest.
/// All of them together last about a second.
const RUNS: [(usize, u16); 2] = [(40, 2_386), (20, 59_659)];
/// A run whose length is known to one part in so many ends the search.
const EXACT: u64 = 128;
/// The best run must be known to one part in so many.
const EXACT_ENOUGH: u64 = 8;
/// Timestamp ticks before a run is given up: 1 s on the fastest clock that is accepted.
const RUN_TICKS_MAX: u64 = KHZ_MAX * 1000;
/// Slowest and fastest timestamp counter that is believed, in kHz.
const KHZ_MIN: u64 = 100_000;
const KHZ_MAX: u64 = 10_000_000;

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const PORT_B: u16 = 0x61;
const PORT_B_GATE: u8 = 1;
const PORT_B_SPEAKER: u8 = 2;
const PORT_B_OUTPUT: u8 = 1 << 5;
/// Channel 2, low then high byte, mode 0 (output rises when the count ends).
const COUNT_DOWN_ONCE: u8 = 0b1011_0000;

/// A monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_ticks: u64,
    khz: u64,
}

/// Why the clock could not be calibrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockError {
    /// The timer never ended.
    TimerStuck,
    /// The counter's frequency, in kHz, is not one of a processor.
    Implausible(u64),
    /// No run could be timed well enough: the shortest and the longest that the best one can have
    /// taken, in ticks.
    Unsteady(u64, u64),
}

impl Clock {
    /// Measures the timestamp counter; time counts from `start_ticks`.
    pub fn calibrate(platform: &dyn Platform, start_ticks: u64) -> Result<Self, ClockError> {
        let mut best = Run {
            pit_ticks: 1,
            at_least: 0,
            at_most: u64::MAX,
        };
        let lengths = RUNS
            .iter()
            .flat_map(|&(runs, pit_ticks)| core::iter::repeat_n(pit_ticks, runs));
        for pit_ticks in lengths {
            let run = measure(platform, pit_ticks)?;
            if run.is_better_than(best) {
                best = run;
            }
            if best.doubt() <= best.at_most / EXACT {
                break;
            }
        }
        let khz = best.frequency_khz()?;
        Ok(Self { start_ticks, khz })
    }

    /// A clock of a known frequency, in kHz.
    pub const fn with_frequency(start_ticks: u64, khz: u64) -> Self {
        Self { start_ticks, khz }
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.us_at(cpu::ticks())
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Lets so many microseconds pass.
    pub fn wait_us(&self, microseconds: u64) {
        let until_us = self.now_us().saturating_add(microseconds);
        while self.now_us() < until_us {
            core::hint::spin_loop();
        }
    }

    /// Frequency of the timestamp counter in kHz.
    pub fn khz(&self) -> u64 {
        self.khz
    }

    fn us_at(&self, ticks: u64) -> u64 {
        let elapsed = u128::from(ticks.saturating_sub(self.start_ticks));
        u64::try_from(elapsed * 1000 / u128::from(self.khz)).unwrap_or(u64::MAX)
    }
}

/// Timestamp ticks that pass in so many PIT ticks: the truth lies between the two.
#[derive(Clone, Copy, Debug)]
struct Run {
    pit_ticks: u16,
    at_least: u64,
    at_most: u64,
}

impl Run {
    fn doubt(self) -> u64 {
        self.at_most.saturating_sub(self.at_least)
    }

    /// Whether the doubt is a smaller part of the length.
    fn is_better_than(self, other: Self) -> bool {
        let weighed = |run: Self, of: Self| u128::from(run.doubt()) * u128::from(of.pit_ticks);
        weighed(self, other) < weighed(other, self)
    }

    /// Frequency, if the run is exact enough and the figure is plausible.
    fn frequency_khz(self) -> Result<u64, ClockError> {
        if self.doubt() > self.at_most / EXACT_ENOUGH {
            return Err(ClockError::Unsteady(self.at_least, self.at_most));
        }
        let ticks = self.at_least + self.doubt() / 2;
        let khz = ticks.saturating_mul(PIT_HZ) / u64::from(self.pit_ticks) / 1000;
        if (KHZ_MIN..=KHZ_MAX).contains(&khz) {
            Ok(khz)
        } else {
            Err(ClockError::Implausible(khz))
        }
    }
}

/// One run. Any amount of time can pass between two instructions, so the counter is read on both
/// sides of whatever starts the timer and of each look at it.
fn measure(platform: &dyn Platform, pit_ticks: u16) -> Result<Run, ClockError> {
    let port_b = platform.in_u8(PORT_B) & !(PORT_B_SPEAKER | PORT_B_GATE);
    platform.out_u8(PORT_B, port_b);
    platform.out_u8(PIT_COMMAND, COUNT_DOWN_ONCE);
    let [low, high] = pit_ticks.to_le_bytes();
    platform.out_u8(PIT_CHANNEL_2, low);
    // QEMU counts from the second byte on, hardware from the gate on.
    let before_start = cpu::ticks();
    platform.out_u8(PIT_CHANNEL_2, high);
    platform.out_u8(PORT_B, port_b | PORT_B_GATE);
    let after_start = cpu::ticks();
    let mut running_at = after_start;
    loop {
        let before_look = cpu::ticks();
        let ended = platform.in_u8(PORT_B) & PORT_B_OUTPUT != 0;
        if ended {
            return Ok(Run {
                pit_ticks,
                at_least: running_at.saturating_sub(after_start),
                at_most: cpu::ticks().saturating_sub(before_start),
            });
        }
        running_at = before_look;
        if before_look.saturating_sub(after_start) > RUN_TICKS_MAX {
            return Err(ClockError::TimerStuck);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIT_TICKS: u16 = 2_386;

    fn run(khz: u64) -> Run {
        let ticks = khz * 1000 * u64::from(PIT_TICKS) / PIT_HZ;
        Run {
            pit_ticks: PIT_TICKS,
            at_least: ticks,
            at_most: ticks + 2,
        }
    }

    #[test]
    fn frequencies_of_processors_are_accepted() {
        assert!(
            run(2_500_000)
                .frequency_khz()
                .is_ok_and(|khz| khz.abs_diff(2_500_000) < 2)
        );
        for khz in [50_000, 20_000_000] {
            assert!(
                matches!(run(khz).frequency_khz(), Err(ClockError::Implausible(_))),
                "{khz}"
            );
        }
        let widest = Run {
            pit_ticks: PIT_TICKS,
            at_least: u64::MAX - 1,
            at_most: u64::MAX,
        };
        assert!(matches!(
            widest.frequency_khz(),
            Err(ClockError::Implausible(_))
        ));
    }

    #[test]
    fn a_run_that_was_interrupted_is_not_believed() {
        let Run { at_least, .. } = run(2_500_000);
        let interrupted = Run {
            pit_ticks: PIT_TICKS,
            at_least,
            at_most: at_least * 2,
        };
        let outcome = interrupted.frequency_khz();
        assert_eq!(outcome, Err(ClockError::Unsteady(at_least, at_least * 2)));
        assert!(
            Run {
                pit_ticks: PIT_TICKS,
                at_least: 9,
                at_most: 3
            }
            .frequency_khz()
            .is_err()
        );
    }

    #[test]
    fn a_longer_run_may_be_in_more_doubt() {
        let short = run(2_500_000);
        let long = Run {
            pit_ticks: 10 * PIT_TICKS,
            at_least: 10 * short.at_least,
            at_most: 10 * short.at_least + 10,
        };
        assert!(long.doubt() > short.doubt() && long.is_better_than(short));
        assert!(
            long.frequency_khz()
                .is_ok_and(|khz| khz.abs_diff(2_500_000) < 2)
        );
        let vague = Run {
            at_most: long.at_least + 21,
            ..long
        };
        assert!(short.is_better_than(vague));
    }

    #[test]
    fn time_is_monotonic_and_never_overflows() {
        let clock = Clock::with_frequency(1_000, 2_000_000);
        assert_eq!(clock.us_at(0), 0);
        assert_eq!(clock.us_at(1_000 + 2_000), 1);
        assert!(clock.us_at(u64::MAX) > clock.us_at(u64::MAX / 2));
        assert!(clock.now_us() <= clock.now_us());
    }
}
