//! Base address registers (PCI Local Bus 3.0, section 6.2.5.1).

use super::{Function, PciError};
use crate::memory::{PAGE_BYTES, PhysAddr, PhysRange};

/// Base address registers of an ordinary device.
pub const BAR_COUNT: usize = 6;

const FIRST_BAR: u8 = 0x10;
const BAR_IO: u32 = 1;
const BAR_TYPE: u32 = 0b110;
const BAR_TYPE_32: u32 = 0b000;
const BAR_TYPE_64: u32 = 0b100;
const BAR_FLAGS: u32 = 0xf;
/// Largest region that a device gets.
const BAR_MAX_BYTES: u32 = 16 << 20;

/// Addresses for devices, given out from the lowest up.
#[derive(Debug)]
pub struct Window {
    next: PhysAddr,
    end: PhysAddr,
}

impl Window {
    /// A window over `range`, which must lie below 4 GiB and hold neither RAM nor other devices.
    #[must_use]
    pub fn new(range: PhysRange) -> Self {
        Self {
            next: range.start(),
            end: range.end(),
        }
    }

    /// A region of `bytes` (a power of two), aligned to its size and to whole pages.
    fn take(&mut self, bytes: u64) -> Result<PhysRange, PciError> {
        let region = self
            .next
            .align_up(bytes.max(PAGE_BYTES))
            .and_then(|start| PhysRange::from_len(start, bytes))
            .filter(|region| region.end() <= self.end)
            .ok_or(PciError::WindowFull)?;
        self.next = region.end();
        Ok(region)
    }
}

/// Where the device's registers were placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bars([Option<PhysRange>; BAR_COUNT]);

impl Bars {
    /// Places every memory register; the device must not decode memory meanwhile.
    pub(super) fn place(function: Function, window: &mut Window) -> Result<Self, PciError> {
        let mut bars = [None; BAR_COUNT];
        let mut index = 0;
        while index < BAR_COUNT {
            let offset = FIRST_BAR + 4 * index as u8;
            let (bytes, is_wide) = measure(function, offset)?;
            if is_wide && index + 1 == BAR_COUNT {
                return Err(PciError::Bar);
            }
            if bytes > 0 {
                let region = window.take(u64::from(bytes))?;
                // The window is below 4 GiB, so the upper half of a wide register is zero.
                function.write_u32(offset, region.start().as_u64() as u32);
                if is_wide {
                    function.write_u32(offset + 4, 0);
                }
                bars[index] = Some(region);
            }
            index += if is_wide { 2 } else { 1 };
        }
        Ok(Self(bars))
    }

    /// The `length` bytes at `offset` in register `bar`, or `None` if they are not all inside.
    #[must_use]
    pub fn region(&self, bar: u8, offset: u32, length: u32) -> Option<PhysRange> {
        let bar = (*self.0.get(usize::from(bar))?)?;
        let start = bar.start().checked_add(u64::from(offset))?;
        let region = PhysRange::from_len(start, u64::from(length))?;
        bar.contains(region).then_some(region)
    }
}

/// Bytes that a register decodes (0: none, or I/O ports, which nobody here uses) and whether it is 64 bits wide.
fn measure(function: Function, offset: u8) -> Result<(u32, bool), PciError> {
    function.write_u32(offset, u32::MAX);
    let mask = function.read_u32(offset);
    if mask & BAR_IO != 0 {
        return Ok((0, false));
    }
    let is_wide = match mask & BAR_TYPE {
        BAR_TYPE_32 => false,
        BAR_TYPE_64 => true,
        _ => return Err(PciError::Bar),
    };
    let bytes = (!(mask & !BAR_FLAGS)).wrapping_add(1);
    if mask & !BAR_FLAGS == 0 {
        // Nothing is decoded; a wide register of 4 GiB or more would look like this too, and is left alone.
        return Ok((0, is_wide));
    }
    if !bytes.is_power_of_two() || bytes > BAR_MAX_BYTES {
        return Err(PciError::Bar);
    }
    Ok((bytes, is_wide))
}
