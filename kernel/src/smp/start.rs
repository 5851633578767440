//! Starting the other processors, one after the other, when everything is mapped that they use.

use super::{LOADERS, MAX_CPUS, Pauses, TEAM};
use crate::arch::{cpu, processor};
use crate::log;
use crate::memory::{PhysAddr, cpu_areas};
use crate::platform::{CpuStart, Platform};
use crate::time::Clock;
use cloister_engine::workers::{Team, Workers};
use core::hint;
use core::sync::atomic::{AtomicU8, Ordering};
use x86_64::instructions::tlb;

/// How long a processor is waited for, in us. On a busy machine its first turn can take long.
const PATIENCE_US: u64 = 5_000_000;

/// Nothing was heard of it.
const UNKNOWN: u8 = 0;
/// It runs and may serve.
const UP: u8 = 1;
/// It was given up; should it come, it halts.
const LEFT_OUT: u8 = 2;
static STATES: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(UNKNOWN) }; MAX_CPUS];

/// Starts all processors below `count` but the first. One that does not come is left out with a line: the service works
/// without it, only slower, and a host can always slow it down.
///
/// Called once, by the first processor; the page tables are in force. Until [`page_tables_are_final`] is called, nothing
/// changes in them but that memory which no processor uses at that moment becomes read-only.
pub fn start(platform: &dyn Platform, clock: Clock, page_tables: PhysAddr, count: u32) {
    processor::set_environment(page_tables);
    let comes = |number: &u32| start_one(platform, clock, page_tables, *number);
    let others = (1..count).filter(comes).count();
    if others > 0 {
        LOADERS.call_once(|| Team::new(others, Pauses { clock }));
    }
    let plural = if others == 0 { "" } else { "s" };
    log!("{} cpu{plural}", others + 1);
}

/// From here on the page tables do not change: whoever works next has looked at them anew.
pub fn page_tables_are_final(clock: Clock) {
    if let Some(loaders) = LOADERS.get() {
        loaders.close();
        TEAM.call_once(|| Team::new(loaders.count() - 1, Pauses { clock }));
    }
}

/// Whether it came.
fn start_one(platform: &dyn Platform, clock: Clock, page_tables: PhysAddr, number: u32) -> bool {
    let Some(area) = cpu_areas::of(number) else {
        return false;
    };
    processor::expect(number, area);
    let started = platform.start_cpu(&CpuStart {
        number,
        entry: processor::entry(),
        stack_end: area.work_stack().end(),
        page_tables,
        pages: area.platform_pages(),
        real_mode_code: processor::real_mode_code(),
        clock,
    });
    if let Err(error) = started {
        log!("cpu {number} is left out: {error:?}");
        return false;
    }
    let state = &STATES[number as usize];
    let until_us = clock.now_us() + PATIENCE_US;
    while state.load(Ordering::Acquire) == UNKNOWN && clock.now_us() < until_us {
        super::failure::check();
        hint::spin_loop();
    }
    let came = change(state, LEFT_OUT).is_err();
    if !came {
        log!(
            "cpu {number} is left out: it did not come within {} s",
            PATIENCE_US / 1_000_000
        );
    }
    came
}

/// A processor that is as the first one: works for one team after the other, for the second one for ever.
pub fn serve(number: u32) -> ! {
    if change(&STATES[number as usize], UP).is_ok() {
        // There will be both teams: the first processor counts this one.
        for team in [&LOADERS, &TEAM] {
            let team = loop {
                match team.get() {
                    Some(team) => break team,
                    None => hint::spin_loop(),
                }
            };
            if let Some(member) = team.join() {
                member.serve();
            }
            tlb::flush_all();
        }
    }
    cpu::halt()
}

/// Decides what becomes of a processor; the other side's decision stands if it came first.
fn change(state: &AtomicU8, to: u8) -> Result<u8, u8> {
    state.compare_exchange(UNKNOWN, to, Ordering::AcqRel, Ordering::Acquire)
}
