//! Reading a guest's own page tables, to find what lies at a virtual address.

use crate::page::{ADDRESS_MASK, C_BIT};

const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LMA: u64 = 1 << 10;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;

/// The registers that say how addresses are translated.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Guest-physical address without the C-bit.
    pub gpa: u64,
    /// Whether the access is private.
    pub private: bool,
}

/// Why an address cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalkError {
    /// An entry is not present.
    NotPresent,
    /// A table lies where there is no private memory.
    NoTable(u64),
    /// Paging of 32-bit mode, which has no C-bit.
    LegacyPaging,
}

impl Paging {
    /// Whether paging is on.
    pub fn is_on(&self) -> bool {
        self.cr0 & CR0_PG != 0
    }

    /// Whether the CPU is in long mode, 64-bit or compatibility.
    pub fn is_long(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    /// Translates an address. `read` gives the private contents at a guest-physical address.
    pub fn translate(
        &self,
        address: u64,
        read: impl Fn(u64) -> Option<u64>,
    ) -> Result<Target, WalkError> {
        if !self.is_on() {
            return Ok(Target {
                gpa: address & 0xffff_ffff,
                private: true,
            });
        }
        if !self.is_long() || self.cr4 & CR4_PAE == 0 {
            return Err(WalkError::LegacyPaging);
        }
        let mut table = self.cr3 & ADDRESS_MASK;
        for shift in [39, 30, 21, 12] {
            let slot = table + (address >> shift) % 512 * 8;
            let entry = read(slot).ok_or(WalkError::NoTable(slot))?;
            if entry & PRESENT == 0 {
                return Err(WalkError::NotPresent);
            }
            table = entry & ADDRESS_MASK;
            if shift == 12 || shift < 39 && entry & LARGE != 0 {
                let mask = (1 << shift) - 1;
                return Ok(Target {
                    gpa: table & !mask | address & mask,
                    private: entry & C_BIT != 0,
                });
            }
        }
        Err(WalkError::NotPresent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_says_whether_an_access_is_private() {
        let paging = Paging {
            cr0: CR0_PG,
            cr3: 0x1000 | C_BIT,
            cr4: CR4_PAE,
            efer: EFER_LMA,
        };
        let entries = [
            (0x1000, 0x2000 | C_BIT | 3),
            (0x2000, 0x3000 | C_BIT | 3),
            (0x3008, 0x40_0000 | LARGE | 3),
            (0x3010, 0x4000 | C_BIT | 3),
            (0x4018, 0x9000 | C_BIT | 3),
        ];
        let read = |slot: u64| {
            let found = entries.iter().find(|(at, _)| *at == slot);
            let table = (0x1000..0x5000).contains(&slot);
            table.then(|| found.map_or(0, |(_, entry)| *entry))
        };
        let target = |gpa, private| Ok(Target { gpa, private });
        assert_eq!(paging.translate(0x20_1234, read), target(0x40_1234, false));
        assert_eq!(paging.translate(0x40_3010, read), target(0x9010, true));
        assert_eq!(paging.translate(0, read), Err(WalkError::NotPresent));
        let unpaged = Paging { cr0: 0, ..paging };
        assert_eq!(unpaged.translate(0x77, read), target(0x77, true));
    }
}
