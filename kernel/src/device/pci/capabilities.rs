//! The list of capabilities (PCI Local Bus 3.0, section 6.7): a chain that the host could tie into a loop.

use super::{COMMAND, Function};

const POINTER: u8 = 0x34;
const STATUS_HAS_LIST: u32 = 1 << (16 + 4);
const FIRST_OFFSET: u8 = 0x40;
/// As many as fit behind the header: more means a loop.
const MAX_CAPABILITIES: usize = (0x100 - FIRST_OFFSET as usize) / 4;

/// One entry of the list.
#[derive(Clone, Copy)]
pub struct Capability {
    function: Function,
    /// Which kind it is.
    pub id: u8,
    offset: u8,
}

impl Capability {
    /// Four bytes of the entry, `at` bytes from its start (a multiple of four); `None` beyond configuration space.
    #[must_use]
    pub fn read_u32(&self, at: u8) -> Option<u32> {
        self.offset
            .checked_add(at)
            .map(|offset| self.function.read_u32(offset))
    }
}

/// Walks the list; ends after at most 48 entries, whatever the device says.
pub struct Capabilities {
    function: Function,
    next: u8,
    left: usize,
}

impl Capabilities {
    pub(super) fn new(function: Function) -> Self {
        let has_list = function.read_u32(COMMAND) & STATUS_HAS_LIST != 0;
        let next = if has_list {
            function.read_u8(POINTER)
        } else {
            0
        };
        Self {
            function,
            next,
            left: MAX_CAPABILITIES,
        }
    }
}

impl Iterator for Capabilities {
    type Item = Capability;

    fn next(&mut self) -> Option<Capability> {
        let offset = self.next & 0xfc;
        if offset < FIRST_OFFSET || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let [id, next, ..] = self.function.read_u32(offset).to_le_bytes();
        self.next = next;
        Some(Capability {
            function: self.function,
            id,
            offset,
        })
    }
}
