//! What the hypervisor says of an event in SW_EXITINFO1 and SW_EXITINFO2 (GHCB specification,
//! "Invoking VMGEXIT").

use super::Field;
use core::fmt;

const VECTOR_UD: u8 = 6;
const VECTOR_GP: u8 = 13;
/// The type of an event injection that is an exception.
const TYPE_EXCEPTION: u64 = 3;

/// An exception that the hypervisor wants the guest to take in place of the instruction that caused the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestException {
    /// #UD.
    InvalidOpcode,
    /// #GP with an error code.
    GeneralProtection(u32),
}

/// Why the hypervisor refused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 1: the GHCB page is not registered.
    NotRegistered,
    /// 2: the usage is not known.
    InvalidUsage,
    /// 3: SW_SCRATCH does not point to where the data may be.
    InvalidScratch,
    /// 4: a field that the event needs is not valid.
    MissingInput,
    /// 5: a parameter is wrong.
    InvalidInput,
    /// 6: the event is not known.
    InvalidEvent,
    /// Any other code.
    Unknown(u64),
}

/// Why an event had no usable result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NaeError {
    /// The hypervisor did not mark a field as valid that it must return.
    Missing(Field),
    /// The hypervisor wants an exception to be taken. For a call that the guest makes itself it is just a failure.
    Exception(GuestException),
    /// The hypervisor wants an exception to be taken that this event cannot cause: SW_EXITINFO2 as it was.
    InvalidException(u64),
    /// The hypervisor refused.
    Refused(Refusal),
    /// SW_EXITINFO1 is none of the known results.
    UnknownResult(u32),
}

impl fmt::Display for NaeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "the hypervisor did not return {field:?}"),
            Self::Exception(exception) => write!(f, "the hypervisor raised {exception:?}"),
            Self::InvalidException(info) => {
                write!(
                    f,
                    "the hypervisor raised an exception out of place: {info:#x}"
                )
            }
            Self::Refused(refusal) => write!(f, "the hypervisor refused: {refusal:?}"),
            Self::UnknownResult(info) => write!(f, "result {info:#x} of an event is not known"),
        }
    }
}

impl core::error::Error for NaeError {}

/// What a result other than 0, which is success, means.
pub(super) fn failure(result: u32, info_2: u64) -> NaeError {
    match result {
        1 => exception(info_2),
        2 => NaeError::Refused(refusal(info_2)),
        other => NaeError::UnknownResult(other),
    }
}

/// Vector in bits 7:0, type in 10:8, error code valid in 11, reserved to 30, valid in 31, error code in 63:32.
fn exception(info: u64) -> NaeError {
    let has_error_code = info & 1 << 11 != 0;
    let well_formed =
        info >> 8 & 7 == TYPE_EXCEPTION && info & 1 << 31 != 0 && info & 0x7fff_f000 == 0;
    match info as u8 {
        VECTOR_UD if well_formed && !has_error_code => {
            NaeError::Exception(GuestException::InvalidOpcode)
        }
        VECTOR_GP if well_formed => {
            // KVM gives none where the error code is 0.
            let error_code = if has_error_code {
                (info >> 32) as u32
            } else {
                0
            };
            NaeError::Exception(GuestException::GeneralProtection(error_code))
        }
        _ => NaeError::InvalidException(info),
    }
}

fn refusal(info: u64) -> Refusal {
    match info {
        1 => Refusal::NotRegistered,
        2 => Refusal::InvalidUsage,
        3 => Refusal::InvalidScratch,
        4 => Refusal::MissingInput,
        5 => Refusal::InvalidInput,
        6 => Refusal::InvalidEvent,
        other => Refusal::Unknown(other),
    }
}
