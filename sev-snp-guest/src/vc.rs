//! The #VC exception: which instruction of the guest's own caused it (AMD64 APM volume 2, section 15.35).
//!
//! A host can inject #VC with any error code at any time and so make a handler do what no instruction asked for. The
//! handler therefore looks at the instruction that it interrupted, and an error code that does not go with it ends the
//! guest.

use crate::ghcb::IoSize;
use core::fmt;

/// The exception's vector.
pub const VECTOR: u8 = 29;

const EXIT_RDTSC: u64 = 0x6e;
const EXIT_CPUID: u64 = 0x72;
const EXIT_IOIO: u64 = 0x7b;
const EXIT_MSR: u64 = 0x7c;
const EXIT_RDTSCP: u64 = 0x87;
const EXIT_WBINVD: u64 = 0x89;
const EXIT_PAGE_NOT_VALIDATED: u64 = 0x404;

/// What the interrupted instruction wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// RDTSC.
    ReadTsc,
    /// RDTSCP.
    ReadTscp,
    /// WBINVD.
    WriteBackCaches,
    /// IN to AL, AX or EAX.
    In(IoAccess),
    /// OUT from AL, AX or EAX.
    Out(IoAccess),
}

/// The operands of IN and OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess {
    /// The port, or `None` for the one in DX.
    pub port: Option<u8>,
    /// How much is moved.
    pub size: IoSize,
}

/// An instruction that may be emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intercepted {
    /// What it wants.
    pub operation: Operation,
    /// How long it is: how far RIP goes on.
    pub length: u8,
}

/// Why a #VC is not to be handled. All are reasons to end the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VcError {
    /// An access to a page that is not validated: the host took a page away, or the guest forgot to validate it.
    PageNotValidated,
    /// The interrupted instruction cannot cause this exit code: an injected exception.
    Injected {
        /// The error code.
        exit_code: u64,
    },
}

impl fmt::Display for VcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageNotValidated => f.write_str("access to a page that is not validated"),
            Self::Injected { exit_code } => {
                write!(f, "no instruction caused #VC with exit code {exit_code:#x}")
            }
        }
    }
}

impl core::error::Error for VcError {}

/// Finds out what caused a #VC, from its error code and the bytes at the interrupted RIP (private memory).
///
/// # Errors
/// The two do not go together, or the exit code is not one of the few that a program makes that asks the hypervisor by
/// direct calls.
pub fn decode(exit_code: u64, instruction: &[u8]) -> Result<Intercepted, VcError> {
    if exit_code == EXIT_PAGE_NOT_VALIDATED {
        return Err(VcError::PageNotValidated);
    }
    match instruction_at(instruction) {
        Some((expected, intercepted)) if expected == exit_code => Ok(intercepted),
        _ => Err(VcError::Injected { exit_code }),
    }
}

/// The exit code that an instruction causes, and the instruction.
fn instruction_at(bytes: &[u8]) -> Option<(u64, Intercepted)> {
    let found = |exit_code, operation, length| Some((exit_code, Intercepted { operation, length }));
    match bytes {
        [0x0f, 0xa2, ..] => found(EXIT_CPUID, Operation::Cpuid, 2),
        [0x0f, 0x32, ..] => found(EXIT_MSR, Operation::ReadMsr, 2),
        [0x0f, 0x30, ..] => found(EXIT_MSR, Operation::WriteMsr, 2),
        [0x0f, 0x31, ..] => found(EXIT_RDTSC, Operation::ReadTsc, 2),
        [0x0f, 0x01, 0xf9, ..] => found(EXIT_RDTSCP, Operation::ReadTscp, 3),
        [0x0f, 0x09, ..] => found(EXIT_WBINVD, Operation::WriteBackCaches, 2),
        [0x66, rest @ ..] => {
            let (operation, length) = port_access(rest, IoSize::Word)?;
            found(EXIT_IOIO, operation, length + 1)
        }
        _ => {
            let (operation, length) = port_access(bytes, IoSize::Dword)?;
            found(EXIT_IOIO, operation, length)
        }
    }
}

/// IN and OUT; `wide` is the size of the forms that are not for bytes.
fn port_access(bytes: &[u8], wide: IoSize) -> Option<(Operation, u8)> {
    let (opcode, rest) = bytes.split_first()?;
    let size = if opcode & 1 == 0 { IoSize::Byte } else { wide };
    let (port, length) = if opcode & 8 == 0 {
        (Some(*rest.first()?), 2)
    } else {
        (None, 1)
    };
    let access = IoAccess { port, size };
    match opcode & !9 {
        0xe4 => Some((Operation::In(access), length)),
        0xe6 => Some((Operation::Out(access), length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTRUCTIONS: [(&[u8], u64); 10] = [
        (&[0x0f, 0xa2], EXIT_CPUID),
        (&[0x0f, 0x32], EXIT_MSR),
        (&[0x0f, 0x30], EXIT_MSR),
        (&[0x0f, 0x31], EXIT_RDTSC),
        (&[0x0f, 0x01, 0xf9], EXIT_RDTSCP),
        (&[0x0f, 0x09], EXIT_WBINVD),
        (&[0xe4, 0x60], EXIT_IOIO),
        (&[0xec], EXIT_IOIO),
        (&[0x66, 0xef], EXIT_IOIO),
        (&[0xef], EXIT_IOIO),
    ];

    #[test]
    fn an_instruction_and_its_exit_code_go_together() {
        for (bytes, exit_code) in INSTRUCTIONS {
            let intercepted = decode(exit_code, bytes).unwrap();
            assert_eq!(usize::from(intercepted.length), bytes.len(), "{bytes:x?}");
        }
    }

    #[test]
    fn every_other_exit_code_is_an_injection() {
        for (bytes, own) in INSTRUCTIONS {
            for exit_code in (0..0x500).chain([0x8000_0001, 0x8000_0013, u64::MAX]) {
                let expected = match exit_code {
                    EXIT_PAGE_NOT_VALIDATED => VcError::PageNotValidated,
                    _ => VcError::Injected { exit_code },
                };
                if exit_code != own {
                    assert_eq!(decode(exit_code, bytes), Err(expected), "{bytes:x?}");
                }
            }
        }
    }

    #[test]
    fn port_accesses_have_their_operands() {
        let in_al = IoAccess {
            port: Some(0x71),
            size: IoSize::Byte,
        };
        let out_ax = IoAccess {
            port: None,
            size: IoSize::Word,
        };
        let operation = |bytes: &[u8]| decode(EXIT_IOIO, bytes).map(|found| found.operation);
        assert_eq!(operation(&[0xe4, 0x71]), Ok(Operation::In(in_al)));
        assert_eq!(operation(&[0x66, 0xef]), Ok(Operation::Out(out_ax)));
        // Not IN and OUT: CALL, INS, truncated.
        for bytes in [&[0xe8, 0, 0, 0, 0][..], &[0x6c], &[0xe4], &[0x66], &[]] {
            assert!(operation(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = crate::testing::Rng(7);
        for _ in 0..20_000 {
            let bytes = rng.next().to_le_bytes();
            let length = (rng.next() % 9) as usize;
            let exit_code = rng.next() % 0x410;
            if let Ok(found) = decode(exit_code, &bytes[..length]) {
                assert!(usize::from(found.length) <= length);
            }
        }
    }
}
