//! Devices, all polled: serial port, firmware configuration, network.

pub mod apic;
#[cfg(test)]
#[expect(unsafe_code, reason = "a device reaches the guest's memory by address")]
pub(crate) mod fake_card;
pub mod fw_cfg;
pub mod pci;
pub mod rtc;
pub mod serial;
#[expect(
    unsafe_code,
    reason = "the queues' crate asks for pointers to shared memory"
)]
pub mod virtio;
