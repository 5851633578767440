//! The only place that touches hardware: three instructions, two MSRs, and memory shared with the host.
#![expect(
    unsafe_code,
    reason = "instructions and shared memory have no safe form"
)]

mod instruction;
mod memory;

pub use instruction::{HardwareHypervisor, HardwareRmp, read_sev_status};
pub use memory::SharedPages;
