//! The network card as smoltcp sees one.

use alloc::boxed::Box;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use virtio_drivers::transport::Transport;

use crate::device::virtio::{DeviceFault, FRAME_MAX_BYTES, NetDevice};

/// A network card, and the first rule that it broke.
pub(super) struct Card<T: Transport> {
    device: NetDevice<T>,
    frame: Box<[u8; FRAME_MAX_BYTES]>,
    fault: Option<DeviceFault>,
}

impl<T: Transport> Card<T> {
    pub(super) fn new(device: NetDevice<T>) -> Self {
        Self {
            device,
            frame: Box::new([0; FRAME_MAX_BYTES]),
            fault: None,
        }
    }

    pub(super) fn hardware_address(&self) -> [u8; 6] {
        self.device.hardware_address()
    }

    /// The rule that the device broke, if it did: it then receives and sends nothing more.
    pub(super) fn fault(&self) -> Option<DeviceFault> {
        self.fault
    }

    fn noted<R: Default>(&mut self, result: Result<R, DeviceFault>) -> R {
        result.unwrap_or_else(|fault| {
            self.fault = Some(fault);
            R::default()
        })
    }

    fn can_send(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        let can_send = self.device.can_send();
        self.noted(can_send)
    }
}

impl<T: Transport> phy::Device for Card<T> {
    type RxToken<'a>
        = RxToken<'a>
    where
        T: 'a;
    type TxToken<'a>
        = TxToken<'a, T>
    where
        T: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_>, TxToken<'_, T>)> {
        // An answer may follow, so there must be room for it.
        if !self.can_send() {
            return None;
        }
        let received = self.device.receive(&mut self.frame);
        let length = self.noted(received)?;
        let Self {
            device,
            frame,
            fault,
        } = self;
        Some((RxToken(&frame[..length]), TxToken { device, fault }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_, T>> {
        let Self { device, fault, .. } = self.can_send().then_some(self)?;
        Some(TxToken { device, fault })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX_BYTES;
        capabilities
    }
}

/// A received frame.
pub(super) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for one frame to send.
pub(super) struct TxToken<'a, T: Transport> {
    device: &'a mut NetDevice<T>,
    fault: &'a mut Option<DeviceFault>,
}

impl<T: Transport> phy::TxToken for TxToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = [0; FRAME_MAX_BYTES];
        let result = write(&mut frame[..length]);
        let sent = self.device.send(&frame[..length]);
        if let Err(fault) = sent {
            *self.fault = Some(fault);
        }
        result
    }
}
