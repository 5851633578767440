//! Why a message to the security processor had no answer.

use crate::ghcb::NaeError;
use core::fmt;

/// Why a message to the security processor had no answer that can be used. Except for [`MessageError::Closed`] and
/// [`MessageError::Pages`], which come before anything is sent, the channel's key is wiped and the channel closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The channel was closed by an earlier error.
    Closed,
    /// GHCB, request and response are not different pages, or there are no or too many pages for certificates.
    Pages,
    /// The message count would go beyond [`MAX_COUNT`](super::MAX_COUNT).
    CountExhausted,
    /// The GHCB event failed.
    Nae(NaeError),
    /// The hypervisor was busy too often.
    Busy,
    /// The hypervisor's own error.
    Vmm(u32),
    /// The status of the firmware that refused the message.
    Firmware(u32),
    /// The response's message count is not the next one: a lost or repeated message.
    Count {
        /// The count that had to come.
        expected: u64,
        /// The count that came.
        found: u64,
    },
    /// The response's header has another type, version, size, algorithm or key than it must have.
    Header,
    /// The response does not open: it, its header or the key is not what the security processor used.
    Authentication,
    /// The status in the response: 0x16 invalid parameters, 0x27 invalid key selection.
    Status(u32),
    /// The response opened and has another form than it must have.
    Response,
    /// The report is not the one that was asked for.
    OtherReport,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the channel to the security processor is closed"),
            Self::Pages => f.write_str("the pages for guest messages do not fit"),
            Self::CountExhausted => f.write_str("no message count is left"),
            Self::Nae(error) => error.fmt(f),
            Self::Busy => f.write_str("the hypervisor stays too busy for guest messages"),
            Self::Vmm(error) => write!(f, "the hypervisor failed a guest message: {error:#x}"),
            Self::Firmware(status) => {
                write!(f, "the firmware refused a guest message: {status:#x}")
            }
            Self::Count { expected, found } => {
                write!(f, "message {expected} had to come, {found} came")
            }
            Self::Header => f.write_str("the response's header is not one to the request"),
            Self::Authentication => f.write_str("the response does not open"),
            Self::Status(status) => write!(f, "the response has status {status:#x}"),
            Self::Response => f.write_str("the response is malformed"),
            Self::OtherReport => f.write_str("the report is not the one that was asked for"),
        }
    }
}

impl core::error::Error for MessageError {}

impl From<NaeError> for MessageError {
    fn from(error: NaeError) -> Self {
        Self::Nae(error)
    }
}
