//! The machine's other processors. They help to check the model and then share the engine's work, and do nothing else: they
//! touch no device, allocate nothing and never talk to the host, so an SEV-SNP guest needs one GHCB.
//!
//! # Page tables
//! They change once after the processors were started, when the model becomes read-only. So there are two teams, one after
//! the other: a processor that leaves the first one forgets its translations before it joins the second one.
//!
//! # How they wait
//! Interrupts are off, and in an SEV-SNP guest nothing wakes a processor from HLT but the host's goodwill. So a
//! processor without work looks for it: often while a job is likely to go on, then seldom, with long pauses, which leave
//! the core's other thread, or the emulator's, alone.
//!
//! # When one fails
//! An exception or a panic on another processor, and one that takes too long for a part that it has begun, end the guest:
//! the first processor, which looks when it gives out work and waits for parts, says why. A processor that begins nothing,
//! because the host lets it stand, is not waited for.

mod failure;
#[cfg(feature = "guest")]
mod start;

pub use failure::fail;
#[cfg(feature = "guest")]
pub use start::{page_tables_are_final, serve, start};

use crate::arch::cpu;
use crate::device::fw_cfg::FwCfg;
use crate::memory::cpu_areas;
use crate::stop::{self, Reason};
use crate::time::Clock;
use cloister_engine::workers::{Alone, MAX_WORKERS, Team, Wait, Workers};
use core::hint;
use spin::Once;

/// Most processors that are used.
pub const MAX_CPUS: usize = MAX_WORKERS;
/// How long a processor looks for work without a pause, in ms: longer than the network is served between two steps.
const EAGER_MS: u64 = 20;
/// Pauses between two looks after that: 10 to 50 us on most processors.
const IDLE_PAUSES: u32 = 1000;
/// Looks between two readings of the clock.
const LOOKS: u32 = 64;
/// How long a part of the work may take, in ms. The longest takes a part of a second, even under emulation.
const PART_MAX_MS: u64 = 30_000;

/// Who helps to check the model, until the page tables change for the last time.
static LOADERS: Once<Team<Pauses>> = Once::new();
/// Who shares the engine's work after that.
static TEAM: Once<Team<Pauses>> = Once::new();

/// Who shares the work: the processors that were started, or only the first one.
pub fn workers() -> &'static dyn Workers {
    let team = TEAM.get().or(LOADERS.get());
    team.map_or(&Alone, |team| team)
}

/// The processors that are used, at least 1: as many as the host names, and not more than [`MAX_CPUS`].
pub fn count(device: FwCfg<'_>) -> u32 {
    u32::from(device.cpus()).clamp(1, MAX_CPUS as u32)
}

/// Waits by looking.
struct Pauses {
    clock: Clock,
}

impl Wait for Pauses {
    fn for_task(&self, _: usize, is_there: &dyn Fn() -> bool) {
        if self.looks_eagerly(is_there) {
            return;
        }
        if let Some(area) = cpu_areas::of(cpu::number()) {
            cpu::wipe_traces(area.work_stack());
        }
        while !is_there() {
            (0..IDLE_PAUSES).for_each(|_| hint::spin_loop());
        }
    }

    /// Nobody sleeps. One that has failed meanwhile would never come and never be missed.
    fn wake(&self) {
        failure::check();
    }

    fn for_members(&self, are_out: &dyn Fn() -> bool) {
        let tick_limit = PART_MAX_MS * self.clock.khz();
        let (mut last, mut waited) = (cpu::ticks(), 0);
        while !look(are_out) {
            failure::check();
            let now = cpu::ticks();
            // The machine may have been stopped for a while: no look takes longer than a millisecond.
            waited += now.saturating_sub(last).min(self.clock.khz());
            last = now;
            if waited > tick_limit {
                stop::stop(
                    Reason::Processor,
                    format_args!(
                        "a processor has not done its part of the work in {PART_MAX_MS} ms"
                    ),
                );
            }
        }
    }
}

impl Pauses {
    fn looks_eagerly(&self, is_there: &dyn Fn() -> bool) -> bool {
        let (start, limit) = (cpu::ticks(), EAGER_MS * self.clock.khz());
        while cpu::ticks().saturating_sub(start) < limit {
            if look(is_there) {
                return true;
            }
        }
        false
    }
}

fn look(is_over: &dyn Fn() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        hint::spin_loop();
        is_over()
    })
}

#[cfg(test)]
mod tests;
