//! CPUID, ports, MSRs, device memory, features and guest requests (GHCB specification, "Supported NAE events").
//!
//! All results are the hypervisor's word: they have the right form, and may be any value of it.

use super::layout::{SHARED_BUFFER_BYTES, SHARED_BUFFER_INDEX};
use super::{Field, Ghcb, NaeError};
use crate::address::Gfn;
use crate::cpuid::CpuidResult;
use crate::features::HypervisorFeatures;
use crate::hypervisor::{Hypervisor, SharedMemory, copy_from_shared, copy_to_shared};

const CPUID: u64 = 0x72;
const IOIO: u64 = 0x7b;
const MSR: u64 = 0x7c;
const MMIO_READ: u64 = 0x8000_0001;
const MMIO_WRITE: u64 = 0x8000_0002;
const GUEST_REQUEST: u64 = 0x8000_0011;
const EXTENDED_GUEST_REQUEST: u64 = 0x8000_0012;
const FEATURES: u64 = 0x8000_fffd;

/// The CPUID leaf whose result depends on XCR0.
const XSAVE_LEAF: u32 = 0xd;

const IO_IN: u64 = 1;
const IO_STRING: u64 = 1 << 2;
const IO_REPEAT: u64 = 1 << 3;
const IO_ADDRESS_64: u64 = 1 << 9;
/// Bits 12:10: ES (0), where INS writes to.
const IO_SEGMENT_ES: u64 = 0;

/// How much a port access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IoSize {
    /// One byte.
    Byte = 1,
    /// Two bytes.
    Word = 2,
    /// Four bytes.
    Dword = 4,
}

impl IoSize {
    /// Bits 6:4 of SW_EXITINFO1: one for each size.
    const fn info(self) -> u64 {
        (self as u64) << 4
    }

    const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => u32::MAX,
        }
    }
}

/// How much an access to device memory moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MmioSize {
    /// One byte.
    Byte = 1,
    /// Two bytes.
    Word = 2,
    /// Four bytes.
    Dword = 4,
    /// Eight bytes.
    Qword = 8,
}

impl MmioSize {
    const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self as u32)
    }
}

/// What became of a guest request (SW_EXITINFO2; GHCB specification, "SNP guest request").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRequestStatus {
    /// The security processor's status; 0 is success.
    pub firmware: u32,
    /// The hypervisor's own error; 0 is none.
    pub vmm: u32,
    /// RBX after an extended request: pages that the certificates need.
    pub certificate_pages: Option<u64>,
}

impl GuestRequestStatus {
    /// The hypervisor's error for a certificate buffer that is too small.
    pub const VMM_INVALID_LENGTH: u32 = 1;
    /// The hypervisor's error for "not now: repeat the same message".
    pub const VMM_BUSY: u32 = 2;
}

impl<H: Hypervisor, M: SharedMemory> Ghcb<H, M> {
    /// CPUID. `xcr0` is needed for leaf 0xD, and sent for that leaf only.
    ///
    /// The firmware-checked CPUID page ([`CpuidTable`](crate::cpuid::CpuidTable)) is the better source.
    ///
    /// # Errors
    /// No usable result.
    pub fn cpuid(&mut self, leaf: u32, subleaf: u32, xcr0: u64) -> Result<CpuidResult, NaeError> {
        let inputs = [
            (Field::Rax, u64::from(leaf)),
            (Field::Rcx, u64::from(subleaf)),
            (Field::Xcr0, xcr0),
        ];
        let count = if leaf == XSAVE_LEAF { 3 } else { 2 };
        let answer = self.exit(CPUID, 0, 0, &inputs[..count])?;
        Ok(CpuidResult {
            eax: answer.register(Field::Rax)? as u32,
            ebx: answer.register(Field::Rbx)? as u32,
            ecx: answer.register(Field::Rcx)? as u32,
            edx: answer.register(Field::Rdx)? as u32,
        })
    }

    /// Reads an MSR.
    ///
    /// # Errors
    /// No usable result; a #GP where the hypervisor does not know the register.
    pub fn read_msr(&mut self, register: u32) -> Result<u64, NaeError> {
        let answer = self.exit(MSR, 0, 0, &[(Field::Rcx, u64::from(register))])?;
        let low = answer.register(Field::Rax)? as u32;
        let high = answer.register(Field::Rdx)? as u32;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    /// Writes an MSR.
    ///
    /// # Errors
    /// The hypervisor's refusal; a #GP where it does not know the register or the value.
    pub fn write_msr(&mut self, register: u32, value: u64) -> Result<(), NaeError> {
        let inputs = [
            (Field::Rcx, u64::from(register)),
            (Field::Rax, value & 0xffff_ffff),
            (Field::Rdx, value >> 32),
        ];
        self.exit(MSR, 1, 0, &inputs).map(drop)
    }

    /// Reads from a port; bits beyond the size are zero.
    ///
    /// # Errors
    /// No usable result.
    pub fn io_read(&mut self, port: u16, size: IoSize) -> Result<u32, NaeError> {
        let answer = self.exit(IOIO, io_info(port, size) | IO_IN, 0, &[])?;
        Ok(answer.register(Field::Rax)? as u32 & size.mask())
    }

    /// Writes to a port; bits beyond the size are not sent.
    ///
    /// # Errors
    /// The hypervisor's refusal.
    pub fn io_write(&mut self, port: u16, size: IoSize, value: u32) -> Result<(), NaeError> {
        let inputs = [(Field::Rax, u64::from(value & size.mask()))];
        self.exit(IOIO, io_info(port, size), 0, &inputs).map(drop)
    }

    /// Fills `into` from a port of one byte, with as many bytes to an exit as the shared buffer holds (REP INSB).
    ///
    /// # Errors
    /// The hypervisor's refusal; what `into` then holds is not defined.
    pub fn io_read_bytes(&mut self, port: u16, into: &mut [u8]) -> Result<(), NaeError> {
        let info_1 = io_info(port, IoSize::Byte)
            | IO_IN
            | IO_STRING
            | IO_REPEAT
            | IO_ADDRESS_64
            | IO_SEGMENT_ES;
        for part in into.chunks_mut(SHARED_BUFFER_BYTES) {
            let scratch = self.scratch();
            self.exit(IOIO, info_1, part.len() as u64, &[scratch])?;
            copy_from_shared(&self.page, SHARED_BUFFER_INDEX, part);
        }
        Ok(())
    }

    /// Reads device memory; bits beyond the size are zero.
    ///
    /// # Errors
    /// No usable result.
    pub fn mmio_read(&mut self, address: u64, size: MmioSize) -> Result<u64, NaeError> {
        let scratch = self.scratch();
        self.exit(MMIO_READ, address, size as u64, &[scratch])?;
        Ok(self.page.load(SHARED_BUFFER_INDEX) & size.mask())
    }

    /// Writes device memory; bits beyond the size are not sent.
    ///
    /// # Errors
    /// The hypervisor's refusal.
    pub fn mmio_write(&mut self, address: u64, size: MmioSize, value: u64) -> Result<(), NaeError> {
        let scratch = self.scratch();
        copy_to_shared(
            &mut self.page,
            SHARED_BUFFER_INDEX,
            &(value & size.mask()).to_le_bytes(),
        );
        self.exit(MMIO_WRITE, address, size as u64, &[scratch])
            .map(drop)
    }

    /// The hypervisor's features.
    ///
    /// # Errors
    /// No usable result.
    pub fn features(&mut self) -> Result<HypervisorFeatures, NaeError> {
        let answer = self.exit(FEATURES, 0, 0, &[])?;
        Ok(HypervisorFeatures::from_bits(answer.info_2()?))
    }

    /// Sends the message in page `request` to the security processor, whose answer comes to page `response`. Both
    /// pages are shared.
    ///
    /// [`GuestChannel`](crate::message::GuestChannel) makes and checks the messages.
    ///
    /// # Errors
    /// No usable result. The status in a result may still be a failure.
    pub fn guest_request(
        &mut self,
        request: Gfn,
        response: Gfn,
    ) -> Result<GuestRequestStatus, NaeError> {
        let answer = self.exit(GUEST_REQUEST, request.address(), response.address(), &[])?;
        let status = answer.info_2()?;
        Ok(GuestRequestStatus {
            firmware: status as u32,
            vmm: (status >> 32) as u32,
            certificate_pages: None,
        })
    }

    /// As [`Ghcb::guest_request`], and the hypervisor puts certificates into `pages` shared pages at `certificates`.
    ///
    /// # Errors
    /// No usable result. The status in a result may still be a failure.
    pub fn extended_guest_request(
        &mut self,
        request: Gfn,
        response: Gfn,
        certificates: Gfn,
        pages: u64,
    ) -> Result<GuestRequestStatus, NaeError> {
        let inputs = [(Field::Rax, certificates.address()), (Field::Rbx, pages)];
        let (request, response) = (request.address(), response.address());
        let answer = self.exit(EXTENDED_GUEST_REQUEST, request, response, &inputs)?;
        let status = answer.info_2()?;
        Ok(GuestRequestStatus {
            firmware: status as u32,
            vmm: (status >> 32) as u32,
            certificate_pages: answer.register(Field::Rbx).ok(),
        })
    }
}

/// Port in bits 31:16, size in 6:4, direction in 0.
fn io_info(port: u16, size: IoSize) -> u64 {
    u64::from(port) << 16 | size.info()
}
