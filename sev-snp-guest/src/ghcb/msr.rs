//! The MSR protocol: a request and its answer in the GHCB MSR, for the time before there is a GHCB page
//! (GHCB specification, section 2.3.1).
//!
//! The low 12 bits of the register are a code, and an answer's code is fixed by the request's.

use crate::address::Gfn;
use crate::cpuid::CpuidResult;
use crate::features::HypervisorFeatures;
use crate::ghcb::PROTOCOL_VERSION;
use crate::hypervisor::Hypervisor;
use crate::termination::Termination;
use core::fmt;

const SEV_INFO: (u64, u64) = (0x002, 0x001);
const CPUID: (u64, u64) = (0x004, 0x005);
const AP_RESET_HOLD: (u64, u64) = (0x006, 0x007);
const PREFERRED_GHCB: (u64, u64) = (0x010, 0x011);
const REGISTER_GHCB: (u64, u64) = (0x012, 0x013);
const PAGE_STATE_CHANGE: (u64, u64) = (0x014, 0x015);
const FEATURES: (u64, u64) = (0x080, 0x081);

const CODE: u64 = 0xfff;
/// The frame number that means "no preference".
const NO_PREFERENCE: u64 = 0xf_ffff_ffff_ffff;

/// Who can read a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageState {
    /// The guest: assigned to it in the RMP.
    Private = 1,
    /// The host too.
    Shared = 2,
}

/// Versions and C-bit, as the hypervisor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevInfo {
    /// The highest version of the GHCB protocol.
    pub max_version: u16,
    /// The lowest version of the GHCB protocol.
    pub min_version: u16,
    /// The position of the C-bit in a page table entry; compare it with CPUID ([`CBit`](crate::status::CBit)).
    pub c_bit: u8,
}

/// Why an answer of the MSR protocol was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MsrProtocolError {
    /// The answer's code is not the one that goes with the request, or bits are set that the answer does not have.
    Response {
        /// What was asked.
        request: u64,
        /// What came back.
        response: u64,
    },
    /// The hypervisor does not speak version 2 of the protocol.
    VersionUnsupported {
        /// The lowest version that it speaks.
        min: u16,
        /// The highest version that it speaks.
        max: u16,
    },
    /// The hypervisor registered another GHCB than it was asked to, or none.
    Registration {
        /// The frame that was to be registered.
        asked: Gfn,
        /// The frame number that was registered.
        answered: u64,
    },
    /// The hypervisor refused to change a page's state.
    PageState {
        /// The page.
        page: Gfn,
        /// Its error code.
        error: u32,
    },
}

impl fmt::Display for MsrProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response { request, response } => {
                write!(f, "{response:#x} is no answer to MSR request {request:#x}")
            }
            Self::VersionUnsupported { min, max } => write!(
                f,
                "the hypervisor speaks GHCB versions {min} to {max}, not {PROTOCOL_VERSION}"
            ),
            Self::Registration { asked, answered } => write!(
                f,
                "asked to register the GHCB at {asked}, the hypervisor registered frame {answered:#x}"
            ),
            Self::PageState { page, error } => {
                write!(f, "error {error:#x} when page {page} changed its state")
            }
        }
    }
}

impl core::error::Error for MsrProtocolError {}

/// Asks for versions and C-bit, and demands version 2.
///
/// # Errors
/// A malformed answer, or no version 2.
pub fn negotiate(hypervisor: &mut impl Hypervisor) -> Result<SevInfo, MsrProtocolError> {
    let response = ask(hypervisor, SEV_INFO, 0)?;
    let info = SevInfo {
        max_version: (response >> 48) as u16,
        min_version: (response >> 32) as u16,
        c_bit: (response >> 24) as u8,
    };
    if (info.min_version..=info.max_version).contains(&PROTOCOL_VERSION) {
        Ok(info)
    } else {
        Err(MsrProtocolError::VersionUnsupported {
            min: info.min_version,
            max: info.max_version,
        })
    }
}

/// CPUID of a leaf, subleaf 0, by the hypervisor's word: nobody checked it.
///
/// # Errors
/// A malformed answer.
pub fn cpuid(hypervisor: &mut impl Hypervisor, leaf: u32) -> Result<CpuidResult, MsrProtocolError> {
    let mut register = |number: u64| {
        let fields = u64::from(leaf) << 32 | number << 30;
        let response = ask(hypervisor, CPUID, fields)?;
        Ok((response >> 32) as u32)
    };
    Ok(CpuidResult {
        eax: register(0)?,
        ebx: register(1)?,
        ecx: register(2)?,
        edx: register(3)?,
    })
}

/// Waits to be woken by a start-up IPI. Whether that is what ended the wait.
///
/// # Errors
/// A malformed answer.
pub fn ap_reset_hold(hypervisor: &mut impl Hypervisor) -> Result<bool, MsrProtocolError> {
    Ok(ask(hypervisor, AP_RESET_HOLD, 0)? >> 12 != 0)
}

/// The frame that the hypervisor would like the GHCB at. Only a wish: the guest chooses.
///
/// # Errors
/// A malformed answer, or a frame that no address has.
pub fn preferred_ghcb(hypervisor: &mut impl Hypervisor) -> Result<Option<Gfn>, MsrProtocolError> {
    let response = ask(hypervisor, PREFERRED_GHCB, 0)?;
    match response >> 12 {
        NO_PREFERENCE => Ok(None),
        number => Gfn::new(number)
            .map(Some)
            .ok_or_else(|| unexpected(PREFERRED_GHCB.0, response)),
    }
}

/// Registers the GHCB page of this processor; needed once before its first use.
///
/// # Errors
/// A malformed answer, or another frame than `page` in it.
pub fn register_ghcb(hypervisor: &mut impl Hypervisor, page: Gfn) -> Result<(), MsrProtocolError> {
    let answered = ask(hypervisor, REGISTER_GHCB, page.address())? >> 12;
    if answered == page.number() {
        Ok(())
    } else {
        Err(MsrProtocolError::Registration {
            asked: page,
            answered,
        })
    }
}

/// Changes the state of one 4 KiB page. What the answer says of a page that became private is worth nothing until
/// PVALIDATE has changed it.
///
/// # Errors
/// A malformed answer, or the hypervisor's refusal.
pub fn page_state_change(
    hypervisor: &mut impl Hypervisor,
    page: Gfn,
    state: PageState,
) -> Result<(), MsrProtocolError> {
    let fields = (state as u64) << 52 | page.address();
    let response = ask(hypervisor, PAGE_STATE_CHANGE, fields)?;
    if response & 0xffff_f000 != 0 {
        return Err(unexpected(PAGE_STATE_CHANGE.0 | fields, response));
    }
    match (response >> 32) as u32 {
        0 => Ok(()),
        error => Err(MsrProtocolError::PageState { page, error }),
    }
}

/// The hypervisor's features.
///
/// # Errors
/// A malformed answer.
pub fn features(hypervisor: &mut impl Hypervisor) -> Result<HypervisorFeatures, MsrProtocolError> {
    let response = ask(hypervisor, FEATURES, 0)?;
    Ok(HypervisorFeatures::from_bits(response >> 12))
}

/// Ends the guest. A hypervisor that goes on is asked again, for ever.
pub fn terminate(hypervisor: &mut impl Hypervisor, reason: impl Into<Termination>) -> ! {
    let request = reason.into().msr();
    loop {
        hypervisor.exit(request);
    }
}

/// One request; what comes back has the code that goes with it.
fn ask(
    hypervisor: &mut impl Hypervisor,
    (request, answer): (u64, u64),
    fields: u64,
) -> Result<u64, MsrProtocolError> {
    let response = hypervisor.exit(request | fields);
    if response & CODE == answer {
        Ok(response)
    } else {
        Err(unexpected(request | fields, response))
    }
}

fn unexpected(request: u64, response: u64) -> MsrProtocolError {
    MsrProtocolError::Response { request, response }
}

#[cfg(test)]
#[path = "msr_tests.rs"]
mod tests;
