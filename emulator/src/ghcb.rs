//! The GHCB: the page through which guest and hypervisor speak (GHCB specification, 2.6 and 4).

use crate::page::Page;

/// Field offsets.
pub mod field {
    #![expect(missing_docs, reason = "named as the specification names the fields")]
    pub const CPL: usize = 0x0cb;
    pub const RAX: usize = 0x1f8;
    pub const RCX: usize = 0x308;
    pub const RDX: usize = 0x310;
    pub const RBX: usize = 0x318;
    pub const EXIT_CODE: usize = 0x390;
    pub const EXIT_INFO1: usize = 0x398;
    pub const EXIT_INFO2: usize = 0x3a0;
    pub const SCRATCH: usize = 0x3a8;
    pub const XCR0: usize = 0x3e8;
    pub const VALID: usize = 0x3f0;
    pub const SHARED_BUFFER: usize = 0x800;
    pub const VERSION: usize = 0xffa;
    pub const USAGE: usize = 0xffc;
}

/// Bytes of the shared buffer.
pub const SHARED_BUFFER_BYTES: usize = 2032;
/// Accesses to devices have at most eight bytes.
const MAX_MMIO_BYTES: u64 = 8;

/// Why a request is malformed: the codes of `SW_EXITINFO2` (4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GhcbError {
    /// The GHCB's address was not registered.
    NotRegistered = 1,
    /// The version is above 2, or the usage is not 0.
    InvalidUsage = 2,
    /// The scratch area is not in the shared buffer.
    InvalidScratch = 3,
    /// A field that the event needs is not marked as valid.
    MissingInput = 4,
    /// A field has a value that the event does not allow.
    InvalidInput = 5,
    /// There is no such event.
    InvalidEvent = 6,
}

/// What the guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// CPUID: leaf and subleaf.
    Cpuid(u32, u32),
    /// A port access.
    Io(Io),
    /// RDMSR.
    ReadMsr(u32),
    /// WRMSR: register and value.
    WriteMsr(u32, u64),
    /// Instructions that have no effect here: WBINVD, INVD, MONITOR, MWAIT, DR7 writes, VMMCALL.
    Nothing,
    /// RDTSC and RDTSCP.
    Tsc,
    /// Reading a device's register: address, bytes, offset of the data in the GHCB.
    ReadMmio(u64, usize, usize),
    /// Writing a device's register.
    WriteMmio(u64, usize, usize),
    /// Wait for a start signal.
    ApResetHold,
    /// Page state changes: offset of the list in the GHCB.
    PageState(usize),
    /// A message to the SNP firmware: addresses of request and response.
    GuestRequest(u64, u64),
    /// The same, with certificates: RAX address, RBX pages.
    ExtendedGuestRequest(u64, u64),
    /// Another CPU's life.
    ApCreation(ApCreation),
    /// The hypervisor's features.
    Features,
    /// End the guest.
    Terminate(u64),
    /// The guest got a #VC that it does not know: the exit code.
    Unsupported(u64),
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// The port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub bytes: usize,
    /// IN rather than OUT.
    pub input: bool,
    /// INS or OUTS: how many elements, and the offset of the data in the GHCB.
    pub string: Option<(usize, usize)>,
}

/// An AP creation request (4.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApCreation {
    /// 0 on INIT, 1 now, 2 destroy.
    pub request: u8,
    /// Privilege level.
    pub vmpl: u8,
    /// Which CPU.
    pub apic_id: u32,
    /// Its state.
    pub vmsa: u64,
}

/// Whether a field is marked as valid.
pub fn is_valid(ghcb: &Page, offset: usize) -> bool {
    let bit = offset / 8;
    ghcb.bytes()[field::VALID + bit / 8] & 1 << (bit % 8) != 0
}

/// Writes a field and marks it as valid.
pub fn set(ghcb: &mut Page, offset: usize, value: u64) {
    ghcb.set_u64(offset, value);
    let bit = offset / 8;
    ghcb.bytes_mut()[field::VALID + bit / 8] |= 1 << (bit % 8);
}

/// Writes how a request ended: `SW_EXITINFO1` and `SW_EXITINFO2`.
pub fn finish(ghcb: &mut Page, result: Result<u64, GhcbError>) {
    let (info1, info2) = match result {
        Ok(value) => (0, value),
        Err(error) => (2, error as u64),
    };
    set(ghcb, field::EXIT_INFO1, info1);
    set(ghcb, field::EXIT_INFO2, info2);
}

/// Writes that the guest shall raise #GP, as an instruction would.
pub fn finish_with_gp(ghcb: &mut Page) {
    const GP_WITH_ERROR: u64 = 13 | 3 << 8 | 1 << 11 | 1 << 31;
    set(ghcb, field::EXIT_INFO1, 1);
    set(ghcb, field::EXIT_INFO2, GP_WITH_ERROR);
}

/// Decodes the request in a GHCB that lies at `gpa`.
pub fn decode(ghcb: &Page, gpa: u64) -> Result<Event, GhcbError> {
    // Version 0 is not in the specification, but KVM does not look at the version, and OVMF writes 0
    // in its first phase (it takes the version from a register that it has overwritten).
    if ghcb.u16(field::VERSION) > 2 || ghcb.u32(field::USAGE) != 0 {
        return Err(GhcbError::InvalidUsage);
    }
    let need = |offset| {
        let valid = is_valid(ghcb, offset);
        valid
            .then(|| ghcb.u64(offset))
            .ok_or(GhcbError::MissingInput)
    };
    let (code, info1, info2) = (
        need(field::EXIT_CODE)?,
        need(field::EXIT_INFO1)?,
        need(field::EXIT_INFO2)?,
    );
    // Where data of so many bytes lies in the shared buffer.
    let scratch = |bytes: usize| {
        let at = need(field::SCRATCH)?.wrapping_sub(gpa);
        let end = (field::SHARED_BUFFER + SHARED_BUFFER_BYTES) as u64;
        let inside = at >= field::SHARED_BUFFER as u64 && at <= end.saturating_sub(bytes as u64);
        inside
            .then_some(at as usize)
            .ok_or(GhcbError::InvalidScratch)
    };
    let mmio = || match info2 {
        1..=MAX_MMIO_BYTES => Ok((info1, info2 as usize, scratch(info2 as usize)?)),
        _ => Err(GhcbError::InvalidInput),
    };
    Ok(match code {
        0x72 => {
            let leaf = need(field::RAX)? as u32;
            if leaf == 0xd {
                need(field::XCR0)?;
            }
            Event::Cpuid(leaf, need(field::RCX)? as u32)
        }
        0x7b => {
            let io = Io::decode(info1, info2, scratch)?;
            if !io.input && io.string.is_none() {
                need(field::RAX)?;
            }
            Event::Io(io)
        }
        0x7c if info1 == 0 => Event::ReadMsr(need(field::RCX)? as u32),
        0x7c if info1 == 1 => {
            let (low, high) = (need(field::RAX)?, need(field::RDX)?);
            Event::WriteMsr(need(field::RCX)? as u32, high << 32 | low & 0xffff_ffff)
        }
        0x6e | 0x87 => Event::Tsc,
        0x37 | 0x76 | 0x81 | 0x89..=0x8b => Event::Nothing,
        0x8000_0001 => {
            let (address, bytes, at) = mmio()?;
            Event::ReadMmio(address, bytes, at)
        }
        0x8000_0002 => {
            let (address, bytes, at) = mmio()?;
            Event::WriteMmio(address, bytes, at)
        }
        0x8000_0003 => Event::Nothing,
        0x8000_0004 => Event::ApResetHold,
        0x8000_0010 => Event::PageState(scratch(crate::psc::HEADER_BYTES)?),
        0x8000_0011 => Event::GuestRequest(info1, info2),
        0x8000_0012 => {
            need(field::RAX)?;
            need(field::RBX)?;
            Event::ExtendedGuestRequest(info1, info2)
        }
        0x8000_0013 => {
            need(field::RAX)?;
            Event::ApCreation(ApCreation {
                request: info1 as u8,
                vmpl: (info1 >> 16) as u8 & 15,
                apic_id: (info1 >> 32) as u32,
                vmsa: info2,
            })
        }
        0x8000_fffd => Event::Features,
        0x8000_fffe => Event::Terminate(info1),
        0x8000_ffff => Event::Unsupported(info1),
        _ => return Err(GhcbError::InvalidEvent),
    })
}

impl Io {
    fn decode(
        info1: u64,
        count: u64,
        scratch: impl Fn(usize) -> Result<usize, GhcbError>,
    ) -> Result<Self, GhcbError> {
        let bytes = match info1 >> 4 & 7 {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return Err(GhcbError::InvalidInput),
        };
        let string = if info1 & 1 << 2 == 0 {
            None
        } else if count == 0 || count > SHARED_BUFFER_BYTES as u64 {
            return Err(GhcbError::InvalidInput);
        } else {
            Some((count as usize, scratch(count as usize * bytes)?))
        };
        Ok(Self {
            port: (info1 >> 16) as u16,
            bytes,
            input: info1 & 1 != 0,
            string,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(code: u64, info1: u64, info2: u64) -> Page {
        let mut page = Page::ZERO;
        page.set_u16(field::VERSION, 2);
        set(&mut page, field::EXIT_CODE, code);
        set(&mut page, field::EXIT_INFO1, info1);
        set(&mut page, field::EXIT_INFO2, info2);
        page
    }

    #[test]
    fn ports_with_and_without_strings() {
        let mut page = request(0x7b, 0x3f8 << 16 | 1 << 4, 0);
        assert_eq!(decode(&page, 0x9000), Err(GhcbError::MissingInput));
        set(&mut page, field::RAX, 0x41);
        let io = Io {
            port: 0x3f8,
            bytes: 1,
            input: false,
            string: None,
        };
        assert_eq!(decode(&page, 0x9000), Ok(Event::Io(io)));
        let mut page = request(0x7b, 0x511 << 16 | 1 << 4 | 1 << 3 | 1 << 2 | 1, 16);
        set(&mut page, field::SCRATCH, 0x9800);
        let io = Io {
            port: 0x511,
            bytes: 1,
            input: true,
            string: Some((16, 0x800)),
        };
        assert_eq!(decode(&page, 0x9000), Ok(Event::Io(io)));
    }

    #[test]
    fn data_must_lie_in_the_shared_buffer() {
        let mut page = request(0x8000_0001, 0xfee0_0000, 4);
        set(&mut page, field::SCRATCH, 0x9800 + 2028);
        let event = Event::ReadMmio(0xfee0_0000, 4, 0x800 + 2028);
        assert_eq!(decode(&page, 0x9000), Ok(event));
        for wrong in [0x9800 + 2029, 0x97ff, 0x1_0000, 0] {
            set(&mut page, field::SCRATCH, wrong);
            assert_eq!(decode(&page, 0x9000), Err(GhcbError::InvalidScratch));
        }
        let mut page = request(0x8000_0001, 0xfee0_0000, 9);
        set(&mut page, field::SCRATCH, 0x9800);
        assert_eq!(decode(&page, 0x9000), Err(GhcbError::InvalidInput));
    }

    #[test]
    fn unknown_requests_get_the_code_of_the_specification() {
        let mut page = request(0x9999, 0, 0);
        assert_eq!(decode(&page, 0), Err(GhcbError::InvalidEvent));
        finish(&mut page, Err(GhcbError::InvalidEvent));
        assert_eq!(
            (page.u64(field::EXIT_INFO1), page.u64(field::EXIT_INFO2)),
            (2, 6)
        );
        page.set_u16(field::VERSION, 7);
        assert_eq!(decode(&page, 0), Err(GhcbError::InvalidUsage));
    }
}
