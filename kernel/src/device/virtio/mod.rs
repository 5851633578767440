//! The network card: virtio-net over PCI (virtio 1.2, sections 4.1 and 5.1), polled.
//!
//! The queues are those of the crate `virtio-drivers`; the way to the device, the memory that it sees and every check
//! of what it says are ours. The device is the host's: it may say anything at any time. What it can reach is the
//! shared pool; what it says is bounded before it is used; and when it contradicts itself, the driver reports
//! [`DeviceFault`] and is not to be used any more.

mod hal;
mod net;
mod transport;

pub use net::{DeviceFault, FRAME_MAX_BYTES, NetDevice};
pub use transport::{PciTransport, TransportError};

use crate::device::pci::{Bus, PciError, Window};
use crate::memory::DEVICE_WINDOW;
use crate::platform::Platform;

const VENDOR: u16 = 0x1af4;
/// virtio-net without the legacy interface: 0x1040 + device type 1.
const MODERN_NET: u16 = 0x1041;

/// Why there is no network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetCardError {
    /// It is not on the bus, or its configuration space is unusable.
    Pci(PciError),
    /// It is not a virtio device that can be driven.
    Transport(TransportError),
    /// It did not come up.
    Start(DeviceFault),
}

/// Finds the network card and starts it.
///
/// # Errors
/// [`NetCardError`] says at which step it failed.
pub fn find_net_card(
    platform: &'static dyn Platform,
) -> Result<NetDevice<PciTransport>, NetCardError> {
    let function = Bus::new(platform)
        .find(VENDOR, MODERN_NET)
        .map_err(NetCardError::Pci)?;
    let mut window = Window::new(DEVICE_WINDOW);
    let bars = function.enable(&mut window).map_err(NetCardError::Pci)?;
    let transport =
        PciTransport::new(platform, function, &bars).map_err(NetCardError::Transport)?;
    NetDevice::start(transport).map_err(NetCardError::Start)
}

#[cfg(test)]
mod tests;
