//! The guest's side of the reverse map table: PVALIDATE and RMPADJUST (AMD64 APM volume 3, and volume 2,
//! section 15.36).
//!
//! The host assigns pages to the guest; a page is the guest's only after PVALIDATE has changed it. A page that is
//! validated already must not be validated again: an RMP entry that did not change means that the host moved the
//! mapping, or has shown a frame twice.

use crate::address::{FrameRange, Gfn, PageSize, small_pages};
use core::fmt;

/// PVALIDATE and RMPADJUST. On hardware this is [`HardwareRmp`](crate::arch::HardwareRmp), in tests a model.
pub trait Rmp {
    /// Validates a page, or rescinds its validation.
    ///
    /// # Errors
    /// The instruction failed, or changed nothing.
    fn pvalidate(&mut self, page: Gfn, size: PageSize, validate: bool) -> Result<(), RmpError>;

    /// Sets what another VMPL may do with a page.
    ///
    /// # Errors
    /// The instruction failed.
    fn rmpadjust(&mut self, page: Gfn, size: PageSize, target: RmpAdjust) -> Result<(), RmpError>;
}

impl<R: Rmp + ?Sized> Rmp for &mut R {
    fn pvalidate(&mut self, page: Gfn, size: PageSize, validate: bool) -> Result<(), RmpError> {
        (**self).pvalidate(page, size, validate)
    }

    fn rmpadjust(&mut self, page: Gfn, size: PageSize, target: RmpAdjust) -> Result<(), RmpError> {
        (**self).rmpadjust(page, size, target)
    }
}

/// Why PVALIDATE or RMPADJUST failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RmpError {
    /// FAIL_INPUT: an operand is wrong.
    Input,
    /// FAIL_PERMISSION: the guest's VMPL may not do that.
    Permission,
    /// FAIL_SIZEMISMATCH: the RMP has 4 KiB entries for this 2 MiB page.
    SizeMismatch,
    /// PVALIDATE left the RMP entry as it was: the page was in that state already. The guest must end.
    Unchanged,
    /// A status that the manual does not have.
    Unknown(u32),
}

impl fmt::Display for RmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("an operand is wrong"),
            Self::Permission => f.write_str("the VMPL has no permission"),
            Self::SizeMismatch => f.write_str("the RMP has another page size"),
            Self::Unchanged => f.write_str("the page was in that state already"),
            Self::Unknown(status) => write!(f, "status {status:#x} is not known"),
        }
    }
}

impl core::error::Error for RmpError {}

/// A page that could not be validated or rescinded; those before it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvalidateError {
    /// The page.
    pub page: Gfn,
    /// What was wrong.
    pub error: RmpError,
}

impl fmt::Display for PvalidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PVALIDATE of page {}: {}", self.page, self.error)
    }
}

impl core::error::Error for PvalidateError {}

/// A virtual machine privilege level; 0 is the most privileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Vmpl {
    /// VMPL 0.
    Vmpl0 = 0,
    /// VMPL 1.
    Vmpl1 = 1,
    /// VMPL 2.
    Vmpl2 = 2,
    /// VMPL 3.
    Vmpl3 = 3,
}

/// What a VMPL may do with a page: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reading.
    pub const READ: Self = Self(1);
    /// Writing.
    pub const WRITE: Self = Self(2);
    /// Executing at CPL 3.
    pub const EXECUTE_USER: Self = Self(4);
    /// Executing at CPL 0 to 2.
    pub const EXECUTE_SUPERVISOR: Self = Self(8);
    /// Use as a supervisor shadow stack.
    pub const SHADOW_STACK: Self = Self(0x10);

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The operand of RMPADJUST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RmpAdjust {
    /// The VMPL that is spoken of: a higher number than the guest's own.
    pub vmpl: Vmpl,
    /// What it may do.
    pub permissions: Permissions,
    /// Whether the page is a VMSA.
    pub vmsa: bool,
}

impl RmpAdjust {
    /// RDX: VMPL in bits 7:0, permissions in 15:8, VMSA in 16.
    pub const fn operand(self) -> u64 {
        self.vmpl as u64 | (self.permissions.0 as u64) << 8 | (self.vmsa as u64) << 16
    }
}

/// Validates all pages of a range, 2 MiB at a time where the RMP allows.
///
/// # Errors
/// The first page that failed. [`RmpError::Unchanged`] is an attack.
pub fn validate(rmp: &mut impl Rmp, range: FrameRange) -> Result<(), PvalidateError> {
    pvalidate_range(rmp, range, true)
}

/// Rescinds the validation of all pages of a range, 2 MiB at a time where the RMP allows. Their content is lost.
///
/// # Errors
/// The first page that failed.
pub fn rescind(rmp: &mut impl Rmp, range: FrameRange) -> Result<(), PvalidateError> {
    pvalidate_range(rmp, range, false)
}

fn pvalidate_range(
    rmp: &mut impl Rmp,
    range: FrameRange,
    validate: bool,
) -> Result<(), PvalidateError> {
    for (page, size) in range.pages() {
        match rmp.pvalidate(page, size, validate) {
            Ok(()) => {}
            Err(RmpError::SizeMismatch) if size == PageSize::Size2M => {
                for small in small_pages(page, size) {
                    rmp.pvalidate(small, PageSize::Size4K, validate)
                        .map_err(|error| PvalidateError { page: small, error })?;
                }
            }
            Err(error) => return Err(PvalidateError { page, error }),
        }
    }
    Ok(())
}

/// Makes a page of the guest's own a VMSA. From VMPL 0 the least privileged target that takes the bit is VMPL 1.
///
/// # Errors
/// RMPADJUST failed, as it does below VMPL 0.
pub fn set_vmsa(rmp: &mut impl Rmp, page: Gfn) -> Result<(), RmpError> {
    rmp.rmpadjust(page, PageSize::Size4K, vmsa_target(true))
}

/// Makes a VMSA an ordinary page again.
///
/// # Errors
/// RMPADJUST failed.
pub fn clear_vmsa(rmp: &mut impl Rmp, page: Gfn) -> Result<(), RmpError> {
    rmp.rmpadjust(page, PageSize::Size4K, vmsa_target(false))
}

/// Whether the guest runs at VMPL 0: only there may it change what VMPL 1 can do. `page` is a 4 KiB page of the guest's
/// own on which VMPL 1 has no permission, and keeps none.
///
/// # Errors
/// RMPADJUST failed for another reason than permission.
pub fn runs_at_vmpl0(rmp: &mut impl Rmp, page: Gfn) -> Result<bool, RmpError> {
    match rmp.rmpadjust(page, PageSize::Size4K, vmsa_target(false)) {
        Ok(()) => Ok(true),
        Err(RmpError::Permission) => Ok(false),
        Err(error) => Err(error),
    }
}

const fn vmsa_target(vmsa: bool) -> RmpAdjust {
    RmpAdjust {
        vmpl: Vmpl::Vmpl1,
        permissions: Permissions::NONE,
        vmsa,
    }
}

/// ECX of PVALIDATE, RCX of RMPADJUST.
pub(crate) const fn size_operand(size: PageSize) -> u32 {
    match size {
        PageSize::Size4K => 0,
        PageSize::Size2M => 1,
    }
}

/// The result of PVALIDATE from EAX and the carry flag.
pub(crate) const fn pvalidate_result(status: u32, unchanged: bool) -> Result<(), RmpError> {
    match status {
        0 if unchanged => Err(RmpError::Unchanged),
        1 => Err(RmpError::Input),
        6 => Err(RmpError::SizeMismatch),
        0 => Ok(()),
        other => Err(RmpError::Unknown(other)),
    }
}

/// The result of RMPADJUST from EAX.
pub(crate) const fn rmpadjust_result(status: u32) -> Result<(), RmpError> {
    match status {
        0 => Ok(()),
        1 => Err(RmpError::Input),
        2 => Err(RmpError::Permission),
        6 => Err(RmpError::SizeMismatch),
        other => Err(RmpError::Unknown(other)),
    }
}

#[cfg(test)]
mod tests;
