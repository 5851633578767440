//! The way to a virtio device over PCI (virtio 1.2, section 4.1): registers through the platform, never by pointer.

use core::cell::Cell;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr as DeviceAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::device::pci::{Bars, Capability, Function};
use crate::memory::{PhysAddr, PhysRange};
use crate::platform::Platform;

/// Vendor-specific capability (PCI Local Bus 3.0, appendix H).
const CAPABILITY_VENDOR: u8 = 0x09;
/// Structure types of virtio 1.2, section 4.1.4.
const COMMON_CONFIG: u8 = 1;
const NOTIFY_CONFIG: u8 = 2;
const DEVICE_CONFIG: u8 = 4;

/// Feature bits of virtio 1.2, sections 5.1.3 and 6. Only these are ever negotiated; without event indices and
/// indirect descriptors there is less for the device to lie about.
const FEATURE_NET_MAC: u64 = 1 << 5;
const FEATURE_NET_STATUS: u64 = 1 << 16;
const FEATURE_VERSION_1: u64 = 1 << 32;
const FEATURE_ACCESS_PLATFORM: u64 = 1 << 33;
const FEATURES: u64 = FEATURE_NET_MAC | FEATURE_NET_STATUS | FEATURE_VERSION_1;

/// Offsets in the common configuration (virtio 1.2, section 4.1.4.3).
const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const DEVICE_STATUS: u64 = 0x14;
const CONFIG_GENERATION: u64 = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;
const COMMON_CONFIG_BYTES: u64 = 0x38;

/// Queues that a driver here may use.
const MAX_QUEUES: usize = 2;
/// Reads of a register that the device has to bring to a value, before it is given up.
const MAX_POLLS: usize = 1_000_000;
/// Reads of the configuration before it is taken as never consistent.
const MAX_CONFIG_READS: usize = 16;

/// Why the device cannot be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// A structure is missing, lies outside its register, or is misaligned; the number is its type.
    Structure(u8),
    /// The device does not come out of reset.
    Reset,
}

/// A virtio device over PCI.
pub struct PciTransport {
    platform: &'static dyn Platform,
    common: PhysRange,
    notify: PhysRange,
    notify_multiplier: u32,
    device_config: PhysRange,
    /// Where each queue is notified; checked when the queue's size is asked for.
    queue_notify: [Option<PhysAddr>; MAX_QUEUES],
    offered: Cell<u64>,
    /// The device refused the features or misbehaved while it was set up.
    failed: Cell<bool>,
}

/// One structure as its capability describes it.
struct Structure {
    region: PhysRange,
    capability: Capability,
}

impl PciTransport {
    /// Finds the device's structures and resets it.
    ///
    /// # Errors
    /// [`TransportError`].
    pub fn new(
        platform: &'static dyn Platform,
        function: Function,
        bars: &Bars,
    ) -> Result<Self, TransportError> {
        let common = find_structure(function, bars, COMMON_CONFIG)?.region;
        if common.len() < COMMON_CONFIG_BYTES {
            return Err(TransportError::Structure(COMMON_CONFIG));
        }
        let notify = find_structure(function, bars, NOTIFY_CONFIG)?;
        let multiplier = notify.capability.read_u32(16);
        let device_config = find_structure(function, bars, DEVICE_CONFIG)?.region;
        let transport = Self {
            platform,
            common,
            notify: notify.region,
            notify_multiplier: multiplier.ok_or(TransportError::Structure(NOTIFY_CONFIG))?,
            device_config,
            queue_notify: [None; MAX_QUEUES],
            offered: Cell::new(0),
            failed: Cell::new(false),
        };
        transport
            .reset()
            .then_some(transport)
            .ok_or(TransportError::Reset)
    }

    /// Resets the device; false if it never says that it is done.
    fn reset(&self) -> bool {
        let status = self.common_at(DEVICE_STATUS);
        self.platform.mmio_write_u8(status, 0);
        (0..MAX_POLLS).any(|_| self.platform.mmio_read_u8(status) == 0)
    }

    fn common_at(&self, offset: u64) -> PhysAddr {
        at(self.common, offset)
    }

    fn read_common_u16(&self, offset: u64) -> u16 {
        self.platform.mmio_read_u16(self.common_at(offset))
    }

    fn write_common_u16(&self, offset: u64, value: u16) {
        self.platform.mmio_write_u16(self.common_at(offset), value);
    }

    fn write_common_u32(&self, offset: u64, value: u32) {
        self.platform.mmio_write_u32(self.common_at(offset), value);
    }

    /// A 64-bit field in two halves, as section 4.1.3.1 allows.
    fn write_common_u64(&self, offset: u64, value: u64) {
        self.write_common_u32(offset, value as u32);
        self.write_common_u32(offset + 4, (value >> 32) as u32);
    }

    /// Where the selected queue is notified (section 4.1.4.4), or `None` if that is outside the structure.
    fn notify_address(&self) -> Option<PhysAddr> {
        let index = u64::from(self.read_common_u16(QUEUE_NOTIFY_OFF));
        let offset = index * u64::from(self.notify_multiplier);
        let start = self.notify.start().checked_add(offset)?;
        let field = PhysRange::from_len(start, 2)?;
        (self.notify.contains(field) && start.is_aligned(2)).then_some(start)
    }
}

impl Transport for PciTransport {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn read_device_features(&mut self) -> u64 {
        let halves = [0, 1].map(|half| {
            self.write_common_u32(DEVICE_FEATURE_SELECT, half);
            self.platform.mmio_read_u32(self.common_at(DEVICE_FEATURE))
        });
        let offered = u64::from(halves[1]) << 32 | u64::from(halves[0]);
        if offered & FEATURE_VERSION_1 == 0 {
            self.failed.set(true);
        }
        self.offered.set(offered);
        offered & FEATURES
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        // The crate does not know this bit; a device that offers it wants it accepted, and bounce buffers honour it.
        let features = driver_features | (self.offered.get() & FEATURE_ACCESS_PLATFORM);
        for half in [0, 1] {
            self.write_common_u32(DRIVER_FEATURE_SELECT, half);
            self.write_common_u32(DRIVER_FEATURE, (features >> (32 * half)) as u32);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.write_common_u16(QUEUE_SELECT, queue);
        let size = self.read_common_u16(QUEUE_SIZE);
        let notify = self.notify_address();
        match self.queue_notify.get_mut(usize::from(queue)) {
            Some(slot) if notify.is_some() => *slot = notify,
            // Size 0 makes the driver give up before the queue is used.
            _ => return 0,
        }
        u32::from(size)
    }

    fn notify(&mut self, queue: u16) {
        if let Some(Some(address)) = self.queue_notify.get(usize::from(queue)) {
            self.platform.mmio_write_u16(*address, queue);
        }
    }

    fn get_status(&self) -> DeviceStatus {
        let status = self.platform.mmio_read_u8(self.common_at(DEVICE_STATUS));
        DeviceStatus::from_bits_truncate(u32::from(status))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        if status.is_empty() {
            self.failed.set(!self.reset());
            return;
        }
        self.platform
            .mmio_write_u8(self.common_at(DEVICE_STATUS), status.bits() as u8);
        // The device may refuse the features by clearing the bit again (section 3.1.1).
        if status.contains(DeviceStatus::FEATURES_OK)
            && !self.get_status().contains(DeviceStatus::FEATURES_OK)
        {
            self.failed.set(true);
        }
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: DeviceAddr,
        driver_area: DeviceAddr,
        device_area: DeviceAddr,
    ) {
        self.write_common_u16(QUEUE_SELECT, queue);
        self.write_common_u16(QUEUE_SIZE, size as u16);
        self.write_common_u64(QUEUE_DESC, descriptors);
        self.write_common_u64(QUEUE_DRIVER, driver_area);
        self.write_common_u64(QUEUE_DEVICE, device_area);
        self.write_common_u16(QUEUE_ENABLE, 1);
    }

    /// A single queue cannot be taken back without a feature that is not negotiated: the device is reset, so that it
    /// forgets where the queues were before their memory is used again.
    fn queue_unset(&mut self, _queue: u16) {
        self.reset();
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.write_common_u16(QUEUE_SELECT, queue);
        self.read_common_u16(QUEUE_ENABLE) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        u32::from(
            self.platform
                .mmio_read_u8(self.common_at(CONFIG_GENERATION)),
        )
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        if self.failed.get() {
            return Err(Error::Unsupported);
        }
        let field = PhysAddr::new(
            self.device_config
                .start()
                .as_u64()
                .saturating_add(offset as u64),
        );
        let field = PhysRange::from_len(field, size_of::<T>() as u64)
            .filter(|field| self.device_config.contains(*field))
            .ok_or(Error::ConfigSpaceTooSmall)?;
        let mut value = T::new_zeroed();
        for (index, byte) in value.as_mut_bytes().iter_mut().enumerate() {
            *byte = self.platform.mmio_read_u8(at(field, index as u64));
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _offset: usize,
        _value: T,
    ) -> Result<(), Error> {
        Err(Error::Unsupported)
    }

    fn read_consistent<T>(&self, read: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        for _ in 0..MAX_CONFIG_READS {
            let before = self.read_config_generation();
            let value = read()?;
            if self.read_config_generation() == before {
                return Ok(value);
            }
        }
        Err(Error::IoError)
    }
}

/// The first structure of a type that is usable; a device may offer more than one (section 4.1.4).
fn find_structure(function: Function, bars: &Bars, kind: u8) -> Result<Structure, TransportError> {
    function
        .capabilities()
        .filter(|capability| capability.id == CAPABILITY_VENDOR)
        .find_map(|capability| read_structure(capability, bars, kind))
        .ok_or(TransportError::Structure(kind))
}

fn read_structure(capability: Capability, bars: &Bars, kind: u8) -> Option<Structure> {
    let [_, _, capability_bytes, found] = capability.read_u32(0)?.to_le_bytes();
    let needed = if kind == NOTIFY_CONFIG { 20 } else { 16 };
    if found != kind || capability_bytes < needed {
        return None;
    }
    let bar = capability.read_u32(4)?.to_le_bytes()[0];
    let region = bars.region(bar, capability.read_u32(8)?, capability.read_u32(12)?)?;
    region
        .start()
        .is_aligned(4)
        .then_some(Structure { region, capability })
}

/// The address `offset` bytes into a region; the region's length was checked before.
fn at(region: PhysRange, offset: u64) -> PhysAddr {
    PhysAddr::new(region.start().as_u64() + offset)
}
