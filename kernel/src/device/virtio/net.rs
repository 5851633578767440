//! The network card's driver: frames in, frames out, every buffer accounted for.

use alloc::boxed::Box;
use alloc::vec::Vec;
use virtio_drivers::Error;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::Transport;

use super::hal::PoolHal;

/// Descriptors of each of the two queues; the queue of a device must have at least so many.
const QUEUE_SIZE: usize = 64;
/// `virtio_net_hdr` with `num_buffers` (virtio 1.2, section 5.1.6).
const HEADER_BYTES: usize = 12;
/// Longest Ethernet frame, without a checksum: 14 bytes of header and 1,500 of payload.
pub const FRAME_MAX_BYTES: usize = 1514;
/// Bytes of a buffer: the crate wants at least 1,526 for one that receives.
const BUFFER_BYTES: usize = HEADER_BYTES + FRAME_MAX_BYTES;

/// How the device broke the rules. After that it must not be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceFault {
    /// It refused the features, its configuration is unusable, or its queues are.
    Setup,
    /// Its hardware address is not one of a single card.
    HardwareAddress,
    /// It gave back a buffer that it does not have.
    UnknownBuffer,
    /// It claims to have written less than a header or more than the buffer holds.
    Length,
    /// A queue says something that its own state excludes.
    Queue,
}

type Buffer = Box<[u8; BUFFER_BYTES]>;
type Slots<T> = [Option<T>; QUEUE_SIZE];

/// A started network card.
pub struct NetDevice<T: Transport> {
    raw: Box<VirtIONetRaw<PoolHal, T, QUEUE_SIZE>>,
    /// What the device has to fill, by token.
    receiving: Box<Slots<Buffer>>,
    /// What the device has to send, by token, with its length.
    sending: Box<Slots<(Buffer, usize)>>,
    /// Buffers for sending that are not in use.
    idle: Vec<Buffer>,
}

impl<T: Transport> NetDevice<T> {
    /// Starts the device and gives it its receive buffers.
    ///
    /// # Errors
    /// [`DeviceFault`].
    pub fn start(transport: T) -> Result<Self, DeviceFault> {
        let raw = VirtIONetRaw::new(transport).map_err(|_| DeviceFault::Setup)?;
        let mut device = Self {
            raw: Box::new(raw),
            receiving: Box::new([const { None }; QUEUE_SIZE]),
            sending: Box::new([const { None }; QUEUE_SIZE]),
            idle: (0..QUEUE_SIZE).map(|_| new_buffer()).collect(),
        };
        device.raw.disable_interrupts();
        let is_group = device.hardware_address()[0] & 1 != 0;
        if is_group || device.hardware_address() == [0; 6] {
            return Err(DeviceFault::HardwareAddress);
        }
        for _ in 0..QUEUE_SIZE {
            device.offer(new_buffer())?;
        }
        Ok(device)
    }

    /// The card's Ethernet address, as the host gave it: one of a single card, not of a group.
    #[must_use]
    pub fn hardware_address(&self) -> [u8; 6] {
        self.raw.mac_address()
    }

    /// Copies the next received frame into `frame` and returns its length, or `None` if there is none.
    ///
    /// # Errors
    /// [`DeviceFault`].
    pub fn receive(
        &mut self,
        frame: &mut [u8; FRAME_MAX_BYTES],
    ) -> Result<Option<usize>, DeviceFault> {
        let Some(token) = self.raw.poll_receive() else {
            return Ok(None);
        };
        let mut buffer = take(&mut self.receiving, token)?;
        // SAFETY: the buffer is the one that was offered under this token. (Were it not: the device never sees the
        // buffer itself, only pages of the pool.)
        let written = unsafe { self.raw.receive_complete(token, buffer.as_mut_slice()) };
        let length = match written {
            Ok((HEADER_BYTES, length)) if length <= FRAME_MAX_BYTES => length,
            Ok(_) | Err(Error::IoError) => return Err(DeviceFault::Length),
            Err(_) => return Err(DeviceFault::Queue),
        };
        frame[..length].copy_from_slice(&buffer[HEADER_BYTES..HEADER_BYTES + length]);
        self.offer(buffer)?;
        Ok(Some(length))
    }

    /// Whether [`NetDevice::send`] has a buffer now; takes back those that the device has finished with.
    ///
    /// # Errors
    /// [`DeviceFault`].
    pub fn can_send(&mut self) -> Result<bool, DeviceFault> {
        // At most one round: a device that goes on giving back buffers would be caught by `take`.
        for _ in 0..QUEUE_SIZE {
            let Some(token) = self.raw.poll_transmit() else {
                break;
            };
            let (buffer, length) = take(&mut self.sending, token)?;
            // SAFETY: the buffer is the one that was handed over under this token; see also `receive`.
            let sent = unsafe { self.raw.transmit_complete(token, &buffer[..length]) };
            sent.map_err(|_| DeviceFault::Queue)?;
            self.idle.push(buffer);
        }
        Ok(!self.idle.is_empty())
    }

    /// Hands a frame of up to 1,514 bytes to the device; false if there is no buffer for it now.
    ///
    /// # Errors
    /// [`DeviceFault`].
    ///
    /// # Panics
    /// If the frame is longer.
    pub fn send(&mut self, frame: &[u8]) -> Result<bool, DeviceFault> {
        if !self.can_send()? {
            return Ok(false);
        }
        let Some(mut buffer) = self.idle.pop() else {
            return Ok(false);
        };
        let total = HEADER_BYTES + frame.len();
        buffer[..HEADER_BYTES].fill(0);
        buffer[HEADER_BYTES..total].copy_from_slice(frame);
        // SAFETY: the buffer stays untouched in `sending` until the device gives the token back.
        let token = unsafe { self.raw.transmit_begin(&buffer[..total]) };
        let token = token.map_err(|_| DeviceFault::Queue)?;
        put(&mut self.sending, token, (buffer, total))?;
        Ok(true)
    }

    fn offer(&mut self, mut buffer: Buffer) -> Result<(), DeviceFault> {
        // SAFETY: the buffer stays untouched in `receiving` until the device gives the token back.
        let token = unsafe { self.raw.receive_begin(buffer.as_mut_slice()) };
        put(
            &mut self.receiving,
            token.map_err(|_| DeviceFault::Queue)?,
            buffer,
        )
    }
}

fn new_buffer() -> Buffer {
    Box::new([0; BUFFER_BYTES])
}

/// What is kept under a token that the device named.
fn take<T>(slots: &mut Slots<T>, token: u16) -> Result<T, DeviceFault> {
    slots
        .get_mut(usize::from(token))
        .and_then(Option::take)
        .ok_or(DeviceFault::UnknownBuffer)
}

/// Keeps something under its token, which the crate chose among the free ones.
fn put<T>(slots: &mut Slots<T>, token: u16, value: T) -> Result<(), DeviceFault> {
    let slot = slots
        .get_mut(usize::from(token))
        .ok_or(DeviceFault::Queue)?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DeviceFault::Queue),
    }
}
