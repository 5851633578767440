//! The local APIC, with its registers in memory as after reset: only to start other processors.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, sections 9.4.4.1 and 11.6.1.

use crate::memory::{LOCAL_APIC, PhysAddr};
use crate::platform::Platform;
use crate::time::Clock;

const SPURIOUS_VECTOR: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;

/// The APIC is on; vector 255, which never comes while interrupts are off.
const ENABLED: u32 = 0x1ff;
/// INIT, asserted.
const INIT: u32 = 0x4500;
/// STARTUP, asserted; the low byte is the number of the page in which the processor begins.
const STARTUP: u32 = 0x4600;
/// After INIT.
const INIT_WAIT_US: u64 = 10_000;
/// After STARTUP, before the second one, which a running processor ignores.
const STARTUP_WAIT_US: u64 = 200;

/// Starts the processor with this APIC id (below 256) in 16-bit mode at the beginning of `page`, below 1 MiB.
pub fn start_cpu(platform: &dyn Platform, apic_id: u32, page: PhysAddr, clock: Clock) {
    let write = |register: u64, value: u32| {
        let address = PhysAddr::new(LOCAL_APIC.start().as_u64() + register);
        platform.mmio_write_u32(address, value);
    };
    let send = |command: u32, wait_us: u64| {
        write(COMMAND_HIGH, apic_id << 24);
        write(COMMAND_LOW, command);
        clock.wait_us(wait_us);
    };
    let vector = (page.as_u64() >> 12) as u32;
    write(SPURIOUS_VECTOR, ENABLED);
    send(INIT, INIT_WAIT_US);
    send(STARTUP | vector, STARTUP_WAIT_US);
    send(STARTUP | vector, STARTUP_WAIT_US);
}
