//! The file format: a fixed header, variable headers, data (crate `igvm_defs` 0.5, QEMU
//! `backends/igvm.c`). Only what changes a launch digest is taken out.

use super::{IgvmError, IgvmPlatform};
use crate::PAGE_BYTES;
use crate::fields::{u32_at, u64_at};
use crc32fast::Hasher;

/// First bytes of a file.
const MAGIC: [u8; 4] = *b"IGVM";

/// `"IGVM" | u32 format | u32 offset and u32 length of variable headers | u32 length | u32 CRC-32`.
pub(super) const FIXED_HEADER_BYTES: usize = 24;

/// Where the CRC-32 is in it.
pub(super) const CHECKSUM_OFFSET: usize = 20;

/// Variable headers begin at multiples of this.
const HEADER_ALIGN: usize = 8;

/// The launcher may leave out what it does not know.
const OPTIONAL: u32 = 1 << 31;

const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Types of variable headers.
mod header_type {
    pub(super) const SUPPORTED_PLATFORM: u32 = 0x001;
    pub(super) const PARAMETER_AREA: u32 = 0x301;
    pub(super) const PAGE_DATA: u32 = 0x302;
    pub(super) const PARAMETER_INSERT: u32 = 0x303;
    pub(super) const VP_CONTEXT: u32 = 0x304;

    /// Whether the type is known and changes no digest.
    pub(super) fn is_neutral(kind: u32) -> bool {
        matches!(kind, 0x101..=0x107 | 0x305 | 0x307..=0x313)
    }

    /// Number of the section that a type belongs to: platforms, initialization, directives.
    pub(super) fn stage(kind: u32) -> u32 {
        match kind {
            ..0x101 => 0,
            0x101..0x301 => 1,
            _ => 2,
        }
    }
}

/// Flags of `PAGE_DATA`.
mod page_flags {
    pub(super) const LARGE: u32 = 1;
    pub(super) const UNMEASURED: u32 = 2;
    pub(super) const SHARED: u32 = 4;
}

/// What the directives of a file do on one platform.
pub(super) struct IgvmFile<'a> {
    pub(super) directives: Vec<Directive<'a>>,
}

/// A directive that can change a digest.
pub(super) struct Directive<'a> {
    /// Index among all variable headers.
    pub(super) index: usize,
    pub(super) kind: DirectiveKind<'a>,
}

pub(super) enum DirectiveKind<'a> {
    PageData(PageData<'a>),
    ParameterArea {
        area: u32,
        bytes: u64,
    },
    ParameterInsert {
        gpa: u64,
        area: u32,
    },
    VpContext {
        gpa: u64,
        contents: &'a [u8; PAGE_BYTES],
    },
}

/// One page of 4 KiB, or the 512 of a page of 2 MiB.
pub(super) struct PageData<'a> {
    pub(super) gpa: u64,
    pub(super) pages: u64,
    pub(super) kind: DataKind,
    pub(super) unmeasured: bool,
    pub(super) shared: bool,
    /// Empty for zeros.
    pub(super) contents: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Normal,
    Secrets,
    Cpuid,
}

/// A variable header.
struct Header<'a> {
    index: usize,
    kind: u32,
    body: &'a [u8],
}

impl<'a> IgvmFile<'a> {
    pub(super) fn parse(file: &'a [u8], platform: IgvmPlatform) -> Result<Self, IgvmError> {
        let (headers, data_start) = variable_headers(file)?;
        let mask = platform_mask(&headers, platform)?;
        let reader = Reader {
            file,
            data_start,
            mask,
        };
        let directives = headers
            .iter()
            .filter_map(|header| reader.directive(header).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self { directives })
    }
}

/// Checks the fixed header and splits the variable ones; gives them and where data begins.
fn variable_headers(file: &[u8]) -> Result<(Vec<Header<'_>>, usize), IgvmError> {
    let (fixed, _) = file
        .split_first_chunk::<FIXED_HEADER_BYTES>()
        .ok_or(IgvmError::NotIgvm)?;
    if fixed[..4] != MAGIC {
        return Err(IgvmError::NotIgvm);
    }
    let [format, offset, bytes, file_bytes, said] = [4, 8, 12, 16, 20].map(|at| u32_at(fixed, at));
    if format != 1 {
        return Err(IgvmError::Format(format));
    }
    if file_bytes as usize != file.len() {
        return Err(IgvmError::FileLength {
            found: file.len(),
            said: file_bytes,
        });
    }
    let (start, end) = (offset as usize, offset as usize + bytes as usize);
    if start < FIXED_HEADER_BYTES || !start.is_multiple_of(HEADER_ALIGN) || end > file.len() {
        return Err(IgvmError::HeadersPlace { offset, bytes });
    }
    let found = checksum(fixed, &file[start..end]);
    if found != said {
        return Err(IgvmError::Checksum { found, said });
    }
    Ok((split(&file[start..end])?, end))
}

/// CRC-32 of the headers, as if its own field were zero.
fn checksum(fixed: &[u8; FIXED_HEADER_BYTES], variable: &[u8]) -> u32 {
    let mut crc = Hasher::new();
    crc.update(&fixed[..CHECKSUM_OFFSET]);
    crc.update(&[0; FIXED_HEADER_BYTES - CHECKSUM_OFFSET]);
    crc.update(variable);
    crc.finalize()
}

fn split(mut rest: &[u8]) -> Result<Vec<Header<'_>>, IgvmError> {
    let mut headers: Vec<Header<'_>> = vec![];
    let mut stage = 0;
    while !rest.is_empty() {
        let index = headers.len();
        let cut_off = IgvmError::HeaderLength {
            index,
            kind: 0,
            bytes: rest.len() as u32,
        };
        let (head, behind) = rest.split_first_chunk::<8>().ok_or(cut_off)?;
        let [kind, bytes] = [0, 4].map(|at| u32_at(head, at));
        let length = IgvmError::HeaderLength { index, kind, bytes };
        let body = behind.get(..bytes as usize).ok_or(length)?;
        // The padding of the last header may be left out.
        let padded = body.len().next_multiple_of(HEADER_ALIGN).min(behind.len());
        rest = &behind[padded..];
        let header = Header {
            index,
            kind: kind & !OPTIONAL,
            body,
        };
        check_known(&header, kind & OPTIONAL != 0)?;
        if header_type::stage(header.kind) < stage {
            return Err(IgvmError::HeaderOrder { index, kind });
        }
        stage = header_type::stage(header.kind);
        headers.push(header);
    }
    Ok(headers)
}

/// Checks that the type is known or optional, and that a known one that matters has its length.
fn check_known(header: &Header<'_>, optional: bool) -> Result<(), IgvmError> {
    let Header { index, kind, body } = *header;
    let expected = match kind {
        header_type::SUPPORTED_PLATFORM
        | header_type::PARAMETER_AREA
        | header_type::PARAMETER_INSERT => 16,
        header_type::PAGE_DATA => 24,
        header_type::VP_CONTEXT => 20,
        _ if optional || header_type::is_neutral(kind) => return Ok(()),
        _ => return Err(IgvmError::UnknownHeader { index, kind }),
    };
    if body.len() != expected {
        return Err(IgvmError::HeaderLength {
            index,
            kind,
            bytes: body.len() as u32,
        });
    }
    Ok(())
}

/// The compatibility mask of the platform: `u32 mask | u8 highest VTL | u8 platform | ...`.
fn platform_mask(headers: &[Header<'_>], platform: IgvmPlatform) -> Result<u32, IgvmError> {
    headers
        .iter()
        .filter(|header| header.kind == header_type::SUPPORTED_PLATFORM)
        .find(|header| header.body[5] == platform as u8)
        .map(|header| u32_at(header.body, 0))
        .ok_or(IgvmError::Platform(platform))
}

/// Reads directives for one platform.
struct Reader<'a> {
    file: &'a [u8],
    data_start: usize,
    mask: u32,
}

impl<'a> Reader<'a> {
    fn directive(&self, header: &Header<'_>) -> Result<Option<Directive<'a>>, IgvmError> {
        let Header { index, kind, body } = *header;
        if kind == header_type::PARAMETER_AREA {
            let (bytes, area) = (u64_at(body, 0), u32_at(body, 8));
            // Initial data does not change the digest, but must be there.
            if let Ok(bytes) = usize::try_from(bytes) {
                self.data(index, u32_at(body, 12), bytes)?;
            }
            return Ok(Some(Directive {
                index,
                kind: DirectiveKind::ParameterArea { area, bytes },
            }));
        }
        let (header_type::PAGE_DATA | header_type::PARAMETER_INSERT | header_type::VP_CONTEXT) =
            kind
        else {
            return Ok(None);
        };
        // All three begin with `u64 address | u32 mask | u32 file offset or area`.
        let (gpa, mask, third) = (u64_at(body, 0), u32_at(body, 8), u32_at(body, 12));
        if mask & self.mask != self.mask {
            return Ok(None);
        }
        if !gpa.is_multiple_of(PAGE_BYTES as u64) {
            return Err(IgvmError::Address { index, gpa });
        }
        let kind = match kind {
            header_type::PAGE_DATA => DirectiveKind::PageData(self.page_data(index, body)?),
            header_type::PARAMETER_INSERT => DirectiveKind::ParameterInsert { gpa, area: third },
            _ => {
                let data = self.data(index, third, PAGE_BYTES)?;
                let no_data = IgvmError::Data {
                    index,
                    offset: third,
                    bytes: PAGE_BYTES,
                };
                DirectiveKind::VpContext {
                    gpa,
                    contents: data.first_chunk().ok_or(no_data)?,
                }
            }
        };
        Ok(Some(Directive { index, kind }))
    }

    /// `u64 address | u32 mask | u32 file offset | u32 flags | u16 type of data | u16 0`.
    fn page_data(&self, index: usize, body: &[u8]) -> Result<PageData<'a>, IgvmError> {
        use page_flags::{LARGE, SHARED, UNMEASURED};
        let (gpa, offset, flags) = (u64_at(body, 0), u32_at(body, 12), u32_at(body, 16));
        let number = u16::from_le_bytes([body[20], body[21]]);
        let kind = match number {
            0 => DataKind::Normal,
            1 => DataKind::Secrets,
            2 | 3 => DataKind::Cpuid,
            _ => {
                return Err(IgvmError::PageData {
                    index,
                    flags,
                    kind: number,
                });
            }
        };
        if flags & !(LARGE | UNMEASURED | SHARED) != 0 {
            return Err(IgvmError::PageData {
                index,
                flags,
                kind: number,
            });
        }
        let bytes = if flags & LARGE != 0 {
            LARGE_PAGE_BYTES
        } else {
            PAGE_BYTES
        };
        let end = gpa.checked_add(bytes as u64);
        if !gpa.is_multiple_of(bytes as u64) || end.is_none() {
            return Err(IgvmError::Address { index, gpa });
        }
        Ok(PageData {
            gpa,
            pages: (bytes / PAGE_BYTES) as u64,
            kind,
            unmeasured: flags & UNMEASURED != 0,
            shared: flags & SHARED != 0,
            contents: self.data(index, offset, bytes)?,
        })
    }

    /// Data at an offset of the file; none at offset 0.
    fn data(&self, index: usize, offset: u32, bytes: usize) -> Result<&'a [u8], IgvmError> {
        if offset == 0 {
            return Ok(&[]);
        }
        let start = offset as usize;
        let end = start.checked_add(bytes);
        end.filter(|_| start >= self.data_start)
            .and_then(|end| self.file.get(start..end))
            .ok_or(IgvmError::Data {
                index,
                offset,
                bytes,
            })
    }
}
