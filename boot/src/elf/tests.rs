use super::*;
use crate::layout::KERNEL_WINDOW;

const BASE: u64 = 0x40_0000;

#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file: u64,
    memory: u64,
}

const CODE: Header = Header {
    kind: PT_LOAD,
    flags: PF_R | PF_X,
    offset: 0x1000,
    address: BASE,
    physical: BASE,
    file: 0x800,
    memory: 0x800,
};
const DATA: Header = Header {
    kind: PT_LOAD,
    flags: PF_R | PF_W,
    offset: 0x1800,
    address: BASE + 0x1000,
    physical: BASE + 0x1000,
    file: 0x100,
    memory: 0x5000,
};

fn file(entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0; 0x2000];
    bytes[..7].copy_from_slice(&IDENT);
    bytes[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
    bytes[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    for (index, h) in headers.iter().enumerate() {
        let at = 64 + 56 * index;
        bytes[at..at + 4].copy_from_slice(&h.kind.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&h.flags.to_le_bytes());
        let words = [
            h.offset, h.address, h.physical, h.file, h.memory, PAGE_BYTES,
        ];
        for (word, value) in words.into_iter().enumerate() {
            bytes[at + 8 + 8 * word..at + 16 + 8 * word].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

fn parse(entry: u64, headers: &[Header]) -> Result<Program, ElfError> {
    Program::parse(&file(entry, headers), KERNEL_WINDOW)
}

#[test]
fn a_program_is_read() {
    let program = parse(BASE + 4, &[CODE, DATA]).unwrap();
    assert_eq!(program.entry(), PhysAddr::new(BASE + 4));
    assert_eq!(program.segments().len(), 2);
    assert_eq!(program.segments()[0].access, Access::Execute);
    assert_eq!(program.segments()[1].file, 0x1800..0x1900);
    assert_eq!(program.span().len(), 0x6000);
}

#[test]
fn bad_segments_are_refused() {
    let cases = [
        (
            Header {
                flags: PF_R | PF_W | PF_X,
                ..DATA
            },
            ElfError::Permissions,
        ),
        (
            Header {
                flags: PF_W,
                ..DATA
            },
            ElfError::Permissions,
        ),
        (
            Header {
                memory: 0x10,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                memory: 0,
                file: 0,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                address: BASE + 0x1001,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                physical: 0,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                memory: u64::MAX,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                memory: 1 << 30,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                address: 0x1000,
                physical: 0x1000,
                ..DATA
            },
            ElfError::Placement,
        ),
        (
            Header {
                offset: u64::MAX,
                ..DATA
            },
            ElfError::Truncated,
        ),
        (
            Header {
                offset: 0x1f01,
                ..DATA
            },
            ElfError::Truncated,
        ),
        (
            Header {
                address: BASE,
                physical: BASE,
                ..DATA
            },
            ElfError::Overlap,
        ),
        (
            Header {
                kind: PT_INTERP,
                ..DATA
            },
            ElfError::Dynamic,
        ),
        (
            Header {
                kind: PT_DYNAMIC,
                ..DATA
            },
            ElfError::Dynamic,
        ),
        (
            Header {
                kind: PT_TLS,
                ..DATA
            },
            ElfError::Dynamic,
        ),
    ];
    for (index, (header, error)) in cases.into_iter().enumerate() {
        assert_eq!(parse(BASE, &[CODE, header]), Err(error), "case {index}");
    }
}

#[test]
fn the_entry_lies_in_the_code() {
    for entry in [0, BASE - 1, BASE + 0x800, BASE + 0x1000, u64::MAX] {
        assert_eq!(parse(entry, &[CODE, DATA]), Err(ElfError::Entry));
    }
}

#[test]
fn counts_are_bounded() {
    assert_eq!(parse(BASE, &[]), Err(ElfError::SegmentCount));
    let many: Vec<_> = (0..17)
        .map(|i| Header {
            address: BASE + i * 0x1000,
            physical: BASE + i * 0x1000,
            ..CODE
        })
        .collect();
    assert_eq!(parse(BASE, &many), Err(ElfError::SegmentCount));
    assert_eq!(parse(BASE, &[CODE; 33]), Err(ElfError::SegmentCount));
}

#[test]
fn cut_and_altered_files_never_leave_the_bounds() {
    let good = file(BASE, &[CODE, DATA]);
    for length in 0..200 {
        assert!(Program::parse(&good[..length], KERNEL_WINDOW).is_err());
    }
    for at in 0..200 {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let Ok(program) = Program::parse(&bytes, KERNEL_WINDOW) else {
                continue;
            };
            for segment in program.segments() {
                assert!(bytes.get(segment.file.clone()).is_some());
                assert!(KERNEL_WINDOW.contains(segment.memory));
                assert!(segment.file.len() as u64 <= segment.memory.len());
            }
        }
    }
}
