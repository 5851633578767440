//! Why the guest ends, as the host is told (GHCB specification, section 2.3.1, termination request).
//!
//! Each error of this crate is a reason too, so that [`terminate`](crate::ghcb::msr::terminate) takes it as it is.

use crate::cpuid::CpuidError;
use crate::features::MissingFeatures;
use crate::ghcb::msr::MsrProtocolError;
use crate::ghcb::{ApCreationError, NaeError, PscError};
use crate::message::MessageError;
use crate::page_state::PageStateError;
use crate::rmp::{PvalidateError, RmpError};
use crate::secrets::SecretsError;
use crate::status::{CBitError, StatusError};
use crate::vc::VcError;

/// The reason set of the codes of this crate. The specification has set 0, Linux has set 1.
pub const REASON_SET: u8 = 0xc;

/// The code of the termination request in the low 12 bits of the GHCB MSR.
const REQUEST: u64 = 0x100;

/// Codes of reason set 0, which the specification defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum General {
    /// Anything.
    Unspecified = 0,
    /// No common version of the GHCB protocol.
    ProtocolUnsupported = 1,
    /// The hypervisor or the processor lacks an SNP feature that the guest needs.
    FeatureUnsupported = 2,
}

/// Codes of this crate's reason set. Below 0x80 they are free for the program: [`Reason::Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A code of the program's own; only the low seven bits are told.
    Program(u8),
    /// 0x80: an answer of the MSR protocol is not one to the request.
    MsrProtocol,
    /// 0x81: the hypervisor did not register the GHCB that it was asked to.
    Registration,
    /// 0x82: an answer in the GHCB page is missing, malformed or an error.
    Ghcb,
    /// 0x83: a page state change failed.
    PageStateChange,
    /// 0x84: PVALIDATE failed.
    Pvalidate,
    /// 0x85: PVALIDATE changed nothing: the page was in that state already, so one frame has two pages or the host
    /// shows an old one again.
    DoubleValidation,
    /// 0x86: RMPADJUST failed.
    RmpAdjust,
    /// 0x87: the guest does not run at VMPL 0.
    NotVmpl0,
    /// 0x88: the CPUID page is malformed, or lacks what the guest needs.
    CpuidPage,
    /// 0x89: the secrets page is malformed.
    SecretsPage,
    /// 0x8A: two sources differ about the position of the C-bit.
    CBit,
    /// 0x8B: a #VC exception that no instruction of the guest caused.
    VmmCommunication,
    /// 0x8C: an access to a page that was not validated.
    PageNotValidated,
    /// 0x8D: the channel to the security processor failed.
    GuestMessage,
}

impl Reason {
    /// The code within the set.
    pub const fn code(self) -> u8 {
        match self {
            Self::Program(code) => code & 0x7f,
            Self::MsrProtocol => 0x80,
            Self::Registration => 0x81,
            Self::Ghcb => 0x82,
            Self::PageStateChange => 0x83,
            Self::Pvalidate => 0x84,
            Self::DoubleValidation => 0x85,
            Self::RmpAdjust => 0x86,
            Self::NotVmpl0 => 0x87,
            Self::CpuidPage => 0x88,
            Self::SecretsPage => 0x89,
            Self::CBit => 0x8a,
            Self::VmmCommunication => 0x8b,
            Self::PageNotValidated => 0x8c,
            Self::GuestMessage => 0x8d,
        }
    }
}

/// A reason set and a code in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    set: u8,
    code: u8,
}

impl Termination {
    /// The value of the GHCB MSR: reason set in bits 15:12, code in bits 23:16.
    pub const fn msr(self) -> u64 {
        REQUEST | (self.set as u64) << 12 | (self.code as u64) << 16
    }
}

impl From<General> for Termination {
    fn from(reason: General) -> Self {
        Self {
            set: 0,
            code: reason as u8,
        }
    }
}

impl From<Reason> for Termination {
    fn from(reason: Reason) -> Self {
        Self {
            set: REASON_SET,
            code: reason.code(),
        }
    }
}

impl From<MsrProtocolError> for Termination {
    fn from(error: MsrProtocolError) -> Self {
        match error {
            MsrProtocolError::VersionUnsupported { .. } => General::ProtocolUnsupported.into(),
            MsrProtocolError::Registration { .. } => Reason::Registration.into(),
            MsrProtocolError::PageState { .. } => Reason::PageStateChange.into(),
            MsrProtocolError::Response { .. } => Reason::MsrProtocol.into(),
        }
    }
}

impl From<RmpError> for Termination {
    fn from(error: RmpError) -> Self {
        match error {
            RmpError::Unchanged => Reason::DoubleValidation.into(),
            _ => Reason::RmpAdjust.into(),
        }
    }
}

impl From<PvalidateError> for Termination {
    fn from(error: PvalidateError) -> Self {
        match error.error {
            RmpError::Unchanged => Reason::DoubleValidation.into(),
            _ => Reason::Pvalidate.into(),
        }
    }
}

impl From<PageStateError> for Termination {
    fn from(error: PageStateError) -> Self {
        match error {
            PageStateError::Psc(error) => error.into(),
            PageStateError::Msr(error) => error.into(),
            PageStateError::Pvalidate(error) => error.into(),
        }
    }
}

impl From<VcError> for Termination {
    fn from(error: VcError) -> Self {
        match error {
            VcError::PageNotValidated => Reason::PageNotValidated.into(),
            VcError::Injected { .. } => Reason::VmmCommunication.into(),
        }
    }
}

/// Errors all of whose variants end the guest with the same reason.
macro_rules! one_reason {
    ($($error:ty => $reason:expr),* $(,)?) => {$(
        impl From<$error> for Termination {
            fn from(_: $error) -> Self {
                $reason.into()
            }
        }
    )*};
}

one_reason! {
    NaeError => Reason::Ghcb,
    ApCreationError => Reason::Ghcb,
    PscError => Reason::PageStateChange,
    CpuidError => Reason::CpuidPage,
    SecretsError => Reason::SecretsPage,
    CBitError => Reason::CBit,
    MessageError => Reason::GuestMessage,
    StatusError => General::FeatureUnsupported,
    MissingFeatures => General::FeatureUnsupported,
}

const _: () = assert!(REASON_SET >= 2 && REASON_SET < 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_reasons() {
        let error = MsrProtocolError::VersionUnsupported { min: 3, max: 4 };
        assert_eq!(Termination::from(error).msr(), 0x1_0100);
        let missing = MissingFeatures(crate::features::HypervisorFeatures::SNP);
        assert_eq!(Termination::from(missing).msr(), 0x2_0100);
        assert_eq!(Termination::from(MessageError::Busy).msr(), 0x8d_c100);
        assert_eq!(Termination::from(RmpError::Unchanged).msr(), 0x85_c100);
        assert_eq!(
            Termination::from(VcError::PageNotValidated).msr(),
            0x8c_c100
        );
    }

    #[test]
    fn set_and_code_have_their_bits() {
        assert_eq!(Termination::from(General::Unspecified).msr(), 0x100);
        assert_eq!(
            Termination::from(General::FeatureUnsupported).msr(),
            0x2_0100
        );
        assert_eq!(Termination::from(Reason::DoubleValidation).msr(), 0x85_c100);
        assert_eq!(Termination::from(Reason::Program(0xff)).msr(), 0x7f_c100);
    }
}
