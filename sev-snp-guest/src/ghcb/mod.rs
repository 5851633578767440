//! The guest-hypervisor communication block: how an SNP guest asks its host for something
//! (GHCB specification, AMD publication 56421).
//!
//! [`msr`] is the protocol in one register, for the time before there is a page. [`Ghcb`] is the page: each method of
//! it is one non-automatic exit (NAE) event, and [`Ghcb::page_state_change`] as many as it needs.

mod ap;
mod error;
mod event;
mod layout;
pub mod msr;
mod psc;

pub use ap::{ApCreation, ApCreationError};
pub use error::{GuestException, NaeError, Refusal};
pub use event::{GuestRequestStatus, IoSize, MmioSize};
pub use layout::{Field, SHARED_BUFFER_BYTES};
pub use msr::PageState;
pub use psc::PscError;

use crate::address::Gfn;
use crate::hypervisor::{Hypervisor, SharedMemory};
use layout::{SHARED_BUFFER, VALID_BITMAP_INDEX, VERSION_INDEX};
use msr::MsrProtocolError;

/// The version of the protocol that this crate speaks: the first with SNP.
pub const PROTOCOL_VERSION: u16 = 2;

/// A registered GHCB page, and the way to the hypervisor that reads it. Each processor has its own.
pub struct Ghcb<H, M> {
    hypervisor: H,
    page: M,
}

/// What came back from an event that succeeded: each field was read once, and only those that the hypervisor marked
/// as valid.
struct Answer {
    info_2: Option<u64>,
    registers: [Option<u64>; 4],
}

impl Answer {
    const REGISTERS: [Field; 4] = [Field::Rax, Field::Rbx, Field::Rcx, Field::Rdx];

    /// SW_EXITINFO2, for an event that returns something in it.
    fn info_2(&self) -> Result<u64, NaeError> {
        self.info_2.ok_or(NaeError::Missing(Field::SwExitInfo2))
    }

    /// A register that the event must return.
    fn register(&self, field: Field) -> Result<u64, NaeError> {
        let position = Self::REGISTERS.iter().position(|&known| known == field);
        position
            .and_then(|position| self.registers[position])
            .ok_or(NaeError::Missing(field))
    }
}

impl<H: Hypervisor, M: SharedMemory> Ghcb<H, M> {
    /// Registers a page as this processor's GHCB. The page is shared already; only its first 4 KiB are used.
    ///
    /// # Errors
    /// What the hypervisor answered was not the registration of this page.
    pub fn register(mut hypervisor: H, page: M) -> Result<Self, MsrProtocolError> {
        msr::register_ghcb(&mut hypervisor, page.gfn())?;
        Ok(Self { hypervisor, page })
    }

    /// The hypervisor, for a request of the MSR protocol.
    pub fn hypervisor(&mut self) -> &mut H {
        &mut self.hypervisor
    }

    /// The frame of the page.
    pub fn gfn(&self) -> Gfn {
        self.page.gfn()
    }

    /// The page and the hypervisor again.
    pub fn into_parts(self) -> (H, M) {
        (self.hypervisor, self.page)
    }

    /// One event: writes the parameters, exits, and takes the answer.
    fn exit(
        &mut self,
        code: u64,
        info_1: u64,
        info_2: u64,
        inputs: &[(Field, u64)],
    ) -> Result<Answer, NaeError> {
        let event = [
            (Field::SwExitCode, code),
            (Field::SwExitInfo1, info_1),
            (Field::SwExitInfo2, info_2),
        ];
        self.write_request(event.iter().chain(inputs));
        let address = self.page.gfn().address();
        self.hypervisor.exit(address);
        self.read_answer()
    }

    /// Writes fields and marks them, and only them, as valid. What was in the others is gone.
    fn write_request<'a>(&mut self, inputs: impl Iterator<Item = &'a (Field, u64)>) {
        for field in Field::ALL {
            self.page.store(field.index(), 0);
        }
        let mut valid = 0;
        for &(field, value) in inputs {
            self.page.store(field.index(), value);
            valid |= field.bit();
        }
        self.page.store(VALID_BITMAP_INDEX, valid as u64);
        self.page
            .store(VALID_BITMAP_INDEX + 1, (valid >> 64) as u64);
        // Usage 0: the page has the format of the specification.
        self.page
            .store(VERSION_INDEX, u64::from(PROTOCOL_VERSION) << 16);
    }

    fn read_answer(&self) -> Result<Answer, NaeError> {
        let valid = u128::from(self.page.load(VALID_BITMAP_INDEX))
            | u128::from(self.page.load(VALID_BITMAP_INDEX + 1)) << 64;
        let field =
            |field: Field| (valid & field.bit() != 0).then(|| self.page.load(field.index()));
        let info_1 = field(Field::SwExitInfo1).ok_or(NaeError::Missing(Field::SwExitInfo1))?;
        let answer = Answer {
            info_2: field(Field::SwExitInfo2),
            registers: Answer::REGISTERS.map(field),
        };
        match info_1 as u32 {
            0 => Ok(answer),
            result => Err(error::failure(result, answer.info_2()?)),
        }
    }

    /// SW_SCRATCH for data in the page's own shared buffer, where version 2 of the protocol wants it.
    fn scratch(&self) -> (Field, u64) {
        let address = self.page.gfn().address() + SHARED_BUFFER as u64;
        (Field::SwScratch, address)
    }
}

#[cfg(test)]
mod tests;
