//! PCI configuration by ports 0xCF8 and 0xCFC (PCI Local Bus 3.0, section 3.2.2.3.2), on bus 0.
//!
//! There is no firmware before us, so base address registers hold nothing: they are measured and placed here, in the
//! window that the memory map keeps free for devices. Every value that is read is the host's word and is bounded.

mod bars;
mod capabilities;

pub use bars::{BAR_COUNT, Bars, Window};
pub use capabilities::{Capabilities, Capability};

use crate::platform::Platform;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const ADDRESS_ENABLE: u32 = 1 << 31;

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

const ID: u8 = 0x00;
const COMMAND: u8 = 0x04;
const HEADER: u8 = 0x0c;
const HEADER_MULTIFUNCTION: u8 = 1 << 7;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
const COMMAND_NO_INTERRUPTS: u16 = 1 << 10;

/// Why a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PciError {
    /// No device has the identity that was looked for.
    NotFound,
    /// The header is not the one of an ordinary device.
    Header,
    /// A base address register does not behave like one, or asks for more than 16 MiB.
    Bar,
    /// The window has no room for what the device asks for.
    WindowFull,
}

/// The bus.
#[derive(Clone, Copy)]
pub struct Bus {
    platform: &'static dyn Platform,
}

/// One function of one device on the bus.
#[derive(Clone, Copy)]
pub struct Function {
    bus: Bus,
    device: u8,
    function: u8,
}

impl Bus {
    /// The bus as reached through `platform`.
    #[must_use]
    pub fn new(platform: &'static dyn Platform) -> Self {
        Self { platform }
    }

    /// The first function with this vendor and device identity.
    ///
    /// # Errors
    /// [`PciError::NotFound`].
    pub fn find(self, vendor: u16, device: u16) -> Result<Function, PciError> {
        let wanted = u32::from(device) << 16 | u32::from(vendor);
        (0..DEVICES)
            .flat_map(|device| self.functions(device))
            .find(|function| function.read_u32(ID) == wanted)
            .ok_or(PciError::NotFound)
    }

    fn functions(self, device: u8) -> impl Iterator<Item = Function> {
        let first = Function {
            bus: self,
            device,
            function: 0,
        };
        let count = if first.read_u8(HEADER + 2) & HEADER_MULTIFUNCTION == 0 {
            1
        } else {
            FUNCTIONS
        };
        (0..count).map(move |function| Function { function, ..first })
    }
}

impl Function {
    /// Four bytes of configuration space; `offset` is rounded down to a multiple of four.
    #[must_use]
    pub fn read_u32(self, offset: u8) -> u32 {
        self.select(offset);
        self.bus.platform.in_u32(DATA_PORT)
    }

    /// Writes four bytes of configuration space.
    pub fn write_u32(self, offset: u8, value: u32) {
        self.select(offset);
        self.bus.platform.out_u32(DATA_PORT, value);
    }

    /// One byte of configuration space.
    #[must_use]
    pub fn read_u8(self, offset: u8) -> u8 {
        self.read_u32(offset).to_le_bytes()[usize::from(offset % 4)]
    }

    /// The capabilities of the device.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        Capabilities::new(self)
    }

    /// Measures and places every memory register of the device, then lets it decode memory and read and write ours.
    ///
    /// # Errors
    /// [`PciError::Header`], [`PciError::Bar`] or [`PciError::WindowFull`].
    pub fn enable(self, window: &mut Window) -> Result<Bars, PciError> {
        if self.read_u8(HEADER + 2) & !HEADER_MULTIFUNCTION != 0 {
            return Err(PciError::Header);
        }
        self.write_command(COMMAND_NO_INTERRUPTS);
        let bars = Bars::place(self, window)?;
        self.write_command(COMMAND_NO_INTERRUPTS | COMMAND_MEMORY | COMMAND_BUS_MASTER);
        Ok(bars)
    }

    /// The upper half of the register is the status; writing zeros there changes nothing.
    fn write_command(self, command: u16) {
        self.write_u32(COMMAND, u32::from(command));
    }

    fn select(self, offset: u8) {
        let address = ADDRESS_ENABLE
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(offset & 0xfc);
        self.bus.platform.out_u32(ADDRESS_PORT, address);
    }
}

#[cfg(test)]
mod tests;
