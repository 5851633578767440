//! Pages between private and shared, in the order that keeps the host from keeping a page that the guest believes to
//! be its own (GHCB specification, "SNP page state change"; APM volume 2, section 15.36).

use crate::address::{FrameRange, Gfn, PageSize};
use crate::ghcb::msr::{self, MsrProtocolError};
use crate::ghcb::{Ghcb, PageState, PscError};
use crate::hypervisor::{Hypervisor, SharedMemory};
use crate::rmp::{self, PvalidateError, Rmp};
use core::fmt;

/// Why pages did not change their state. The guest must not use any of them, and best ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageStateError {
    /// The hypervisor's part failed.
    Psc(PscError),
    /// The hypervisor's part failed, by the MSR protocol.
    Msr(MsrProtocolError),
    /// The RMP is not as it must be.
    Pvalidate(PvalidateError),
}

impl fmt::Display for PageStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psc(error) => error.fmt(f),
            Self::Msr(error) => error.fmt(f),
            Self::Pvalidate(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PageStateError {}

/// Asks for pages as private, and then validates them. They must not be validated yet; their content is not defined.
///
/// # Errors
/// The hypervisor refused, or PVALIDATE failed.
pub fn make_private<H: Hypervisor, M: SharedMemory>(
    ghcb: &mut Ghcb<H, M>,
    rmp: &mut impl Rmp,
    range: FrameRange,
) -> Result<(), PageStateError> {
    ghcb.page_state_change(range, PageState::Private)
        .map_err(PageStateError::Psc)?;
    rmp::validate(rmp, range).map_err(PageStateError::Pvalidate)
}

/// Rescinds validated pages, and then gives them to the host as well. What is in them is lost; what the guest writes
/// from now on is in the clear, through a mapping without C-bit.
///
/// # Errors
/// PVALIDATE failed, or the hypervisor refused.
pub fn make_shared<H: Hypervisor, M: SharedMemory>(
    ghcb: &mut Ghcb<H, M>,
    rmp: &mut impl Rmp,
    range: FrameRange,
) -> Result<(), PageStateError> {
    rmp::rescind(rmp, range).map_err(PageStateError::Pvalidate)?;
    ghcb.page_state_change(range, PageState::Shared)
        .map_err(PageStateError::Psc)
}

/// As [`make_private`] for one 4 KiB page, by the MSR protocol: for the time before there is a GHCB.
///
/// # Errors
/// The hypervisor refused, or PVALIDATE failed.
pub fn make_page_private(
    hypervisor: &mut impl Hypervisor,
    rmp: &mut impl Rmp,
    page: Gfn,
) -> Result<(), PageStateError> {
    msr::page_state_change(hypervisor, page, PageState::Private).map_err(PageStateError::Msr)?;
    pvalidate_page(rmp, page, true)
}

/// As [`make_shared`] for one 4 KiB page, by the MSR protocol: the first GHCB becomes one by it.
///
/// # Errors
/// PVALIDATE failed, or the hypervisor refused.
pub fn make_page_shared(
    hypervisor: &mut impl Hypervisor,
    rmp: &mut impl Rmp,
    page: Gfn,
) -> Result<(), PageStateError> {
    pvalidate_page(rmp, page, false)?;
    msr::page_state_change(hypervisor, page, PageState::Shared).map_err(PageStateError::Msr)
}

fn pvalidate_page(rmp: &mut impl Rmp, page: Gfn, validate: bool) -> Result<(), PageStateError> {
    rmp.pvalidate(page, PageSize::Size4K, validate)
        .map_err(|error| PageStateError::Pvalidate(PvalidateError { page, error }))
}

#[cfg(test)]
mod tests;
