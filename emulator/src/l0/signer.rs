//! The channel to the program on the host that signs reports: a serial port of its own.
//!
//! L0 sends `SIGN` and the report's signed part, and gets the signature's field. Without a host
//! program the signature stays zero.

use crate::cpu;
use crate::log::log;
use cloister_emulator::digest::DIGEST_BYTES;
use cloister_emulator::report::{REPORT_BYTES, SIGNED_BYTES};
use cloister_emulator::signing;

/// The serial port's registers.
pub(crate) const PORTS: core::ops::Range<u16> = 0x2e8..0x2f0;
const DATA: u16 = PORTS.start;
const LINE_STATUS: u16 = PORTS.start + 5;
const RECEIVED: u8 = 1;
const CAN_SEND: u8 = 1 << 5;
/// What a port without a device reads.
const NO_DEVICE: u8 = 0xff;
/// How long one byte may take: about ten seconds.
const PATIENCE_TICKS: u64 = 30_000_000_000;

/// A name for this guest.
pub(crate) fn report_id(measurement: &[u8; DIGEST_BYTES]) -> [u8; 32] {
    core::array::from_fn(|index| measurement[index] ^ 0x5a)
}

/// Has the report signed.
pub(crate) fn sign(report: &mut [u8; REPORT_BYTES]) {
    if cpu::in8(LINE_STATUS) == NO_DEVICE {
        log!("no signer: the report is not signed");
        return;
    }
    let (signed, signature) = report.split_at_mut(SIGNED_BYTES);
    let sent = signing::REQUEST.iter().chain(&*signed).all(|byte| {
        let ready = wait_for(CAN_SEND);
        if ready {
            cpu::out8(DATA, *byte);
        }
        ready
    });
    let received = sent
        && signature.iter_mut().all(|byte| {
            let ready = wait_for(RECEIVED);
            if ready {
                *byte = cpu::in8(DATA);
            }
            ready
        });
    if !received {
        signature.fill(0);
        log!("the signer did not answer: the report is not signed");
    }
}

fn wait_for(bit: u8) -> bool {
    let started = cpu::ticks();
    while cpu::in8(LINE_STATUS) & bit == 0 {
        if cpu::ticks() - started > PATIENCE_TICKS {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}
