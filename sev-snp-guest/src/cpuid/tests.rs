use super::*;
use crate::status::{CBit, CBitError};
use crate::testing::Rng;
use std::vec::Vec;

/// An entry: question (leaf, subleaf, XCR0, XSS) and result (EAX to EDX).
type Row = ([u64; 4], [u32; 4]);

fn page(rows: &[Row]) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    page[..4].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    for (([leaf, subleaf, xcr0, xss], result), slot) in
        rows.iter().zip(page[0x10..].chunks_exact_mut(48))
    {
        slot[..4].copy_from_slice(&(*leaf as u32).to_le_bytes());
        slot[4..8].copy_from_slice(&(*subleaf as u32).to_le_bytes());
        slot[8..16].copy_from_slice(&xcr0.to_le_bytes());
        slot[16..24].copy_from_slice(&xss.to_le_bytes());
        for (register, part) in result.iter().zip(slot[24..40].chunks_exact_mut(4)) {
            part.copy_from_slice(&register.to_le_bytes());
        }
    }
    page
}

/// As QEMU fills the page for an EPYC-Milan, in part.
const MILAN: [Row; 10] = [
    ([0, 0, 0, 0], [0x10, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
    (
        [1, 0, 0, 0],
        [0x00a0_0f11, 0x0501_0800, 0xfffa_3203, 0x178b_fbff],
    ),
    ([7, 0, 0, 0], [0, 0x219c_07ab, 0x0040_060c, 0]),
    ([0xb, 0, 0, 0], [0, 1, 0x100, 5]),
    ([0xd, 0, 1, 0], [0x207, 0x240, 0x988, 0]),
    ([0xd, 1, 1, 0], [0xf, 0x240, 0x1800, 0]),
    ([0xd, 2, 0, 0], [0x100, 0x240, 0, 0]),
    ([0xd, 9, 0, 0], [8, 0x980, 0, 0]),
    ([0xd, 11, 0, 0], [0x10, 0, 1, 0]),
    ([0x8000_001f, 0, 0, 0], [0x0101_fd3f, 0x4173, 0x1fd, 1]),
];

fn milan() -> CpuidTable {
    CpuidTable::parse(&page(&MILAN)).unwrap()
}

fn state(xcr0: u64, xss: u64) -> CpuState {
    CpuState {
        xcr0,
        xss,
        os_xsave: true,
        ..CpuState::RESET
    }
}

#[test]
fn a_leaf_without_subleaves_takes_any() {
    let table = milan();
    let vendor = table.get(0, 0);
    assert_eq!(vendor.ebx.to_le_bytes(), *b"Auth");
    assert_eq!(table.get(0, 77), vendor);
    assert_eq!(
        table.get(7, 1),
        CpuidResult::default(),
        "leaf 7 has subleaves"
    );
}

#[test]
fn what_is_not_in_the_page_is_zero() {
    let table = milan();
    for leaf in [
        2,
        6,
        0xf,
        0x11,
        0x4000_0000,
        0x8000_0000,
        0x8000_0040,
        u32::MAX,
    ] {
        let result = table.cpuid(leaf, 0, &CpuState::RESET);
        assert_eq!(result, Ok(CpuidResult::default()), "{leaf:#x}");
    }
}

#[test]
fn fields_of_the_processors_state_are_filled_in() {
    let table = milan();
    let state = CpuState {
        os_xsave: true,
        os_pke: true,
        apic_id: 0x2a,
        ..CpuState::RESET
    };
    let one = table.cpuid(1, 0, &state).unwrap();
    assert_eq!((one.ebx >> 24, one.ebx & 0xff_ffff), (0x2a, 0x01_0800));
    assert_ne!(one.ecx & 1 << 27, 0);
    assert_ne!(table.cpuid(7, 0, &state).unwrap().ecx & 1 << 4, 0);
    assert_eq!(table.cpuid(0xb, 0, &state).unwrap().edx, 0x2a);
    let one = table.cpuid(1, 0, &CpuState::RESET).unwrap();
    assert_eq!(one.ecx & 1 << 27, 0, "OSXSAVE is CR4's, not the page's");
    assert_eq!(table.cpuid(7, 0, &CpuState::RESET).unwrap().ecx & 1 << 4, 0);
}

#[test]
fn the_size_of_the_xsave_area_follows_from_its_components() {
    let table = milan();
    let size = |subleaf, xcr0, xss| {
        let result = table.cpuid(0xd, subleaf, &state(xcr0, xss));
        result.map(|result| result.ebx)
    };
    assert_eq!(size(0, 1, 0), Ok(0x240));
    assert_eq!(size(0, 3, 0), Ok(0x240));
    assert_eq!(size(0, 7, 0), Ok(0x340));
    assert_eq!(size(0, 0x207, 0), Ok(0x988));
    assert_eq!(size(1, 7, 0), Ok(0x340));
    assert_eq!(size(1, 0x207, 0), Ok(0x348), "compacted");
    assert_eq!(size(1, 7, 1 << 11), Ok(0x350), "with XSS");
    assert_eq!(size(0, 7 | 1 << 5, 0), Err(CpuidError::Xsave));
    assert_eq!(size(1, 7, 1 << 12), Err(CpuidError::Xsave));
    assert_eq!(size(2, 7, 0), Ok(0x240), "a component's offset stays");
}

#[test]
fn xsave_entries_for_other_states_do_not_count() {
    let rows = [
        ([0xd, 0, 7, 0], [7, 0x340, 0x340, 0]),
        ([0xd, 0, 1, 1], [9, 9, 9, 9]),
        ([0xd, 0, 3, 0], [3, 0x240, 0x340, 0]),
        ([0xd, 1, 1, 0], [1, 0, 0, 0]),
    ];
    let table = CpuidTable::parse(&page(&rows)).unwrap();
    assert_eq!(table.get(0xd, 0).eax, 3);
    let not_compacted = table.cpuid(0xd, 1, &state(1, 0));
    assert_eq!(not_compacted, Err(CpuidError::Xsave));
}

#[test]
fn sizes_that_overflow_are_refused() {
    let rows = [
        ([0xd, 0, 1, 0], [7, 0, 0, 0]),
        ([0xd, 1, 1, 0], [0xf, 0, 0, 0]),
        ([0xd, 2, 0, 0], [u32::MAX, 0x240, 0, 0]),
    ];
    let table = CpuidTable::parse(&page(&rows)).unwrap();
    for subleaf in [0, 1] {
        let result = table.cpuid(0xd, subleaf, &state(7, 0));
        assert_eq!(result, Err(CpuidError::Xsave));
    }
}

#[test]
fn the_count_is_bounded() {
    let mut page = page(&MILAN);
    for count in [0, 65, 85, u32::MAX] {
        page[..4].copy_from_slice(&count.to_le_bytes());
        let error = CpuidTable::parse(&page).err();
        assert_eq!(error, Some(CpuidError::Count(count)));
    }
    let full: Vec<Row> = (0..64).map(|leaf| ([leaf, 0, 0, 0], [1; 4])).collect();
    let table = CpuidTable::parse(&self::page(&full)).unwrap();
    assert_eq!(table.get(63, 0).eax, 1);
}

#[test]
fn reserved_fields_are_zero() {
    for place in 4..16 {
        let mut page = page(&MILAN);
        page[place] = 1;
        let error = CpuidTable::parse(&page).err();
        assert_eq!(error, Some(CpuidError::Reserved { entry: None }));
    }
    for place in 0x10 + 3 * 48 + 40..0x10 + 4 * 48 {
        let mut page = page(&MILAN);
        page[place] = 0x80;
        let error = CpuidTable::parse(&page).err();
        assert_eq!(error, Some(CpuidError::Reserved { entry: Some(3) }));
    }
}

#[test]
fn a_page_that_contradicts_itself_is_refused() {
    let mut rows = MILAN.to_vec();
    rows.push(MILAN[1]);
    assert!(CpuidTable::parse(&page(&rows)).is_ok(), "the same twice");
    rows[10].1[2] ^= 1;
    let error = CpuidError::Contradiction {
        leaf: 1,
        subleaf: 0,
    };
    assert_eq!(CpuidTable::parse(&page(&rows)).err(), Some(error));
}

#[test]
fn entries_beyond_the_count_are_not_there() {
    let mut page = page(&MILAN);
    page[..4].copy_from_slice(&9_u32.to_le_bytes());
    let table = CpuidTable::parse(&page).unwrap();
    assert_eq!(table.get(0x8000_001f, 0), CpuidResult::default());
    let c_bit = CBit::agreed(table.get(0x8000_001f, 0).ebx, 51);
    assert_eq!(c_bit, Err(CBitError::Differ(0, 51)));
    assert_eq!(
        CBit::agreed(milan().get(0x8000_001f, 0).ebx, 51).map(CBit::position),
        Ok(51)
    );
}

#[test]
fn any_page_is_parsed_or_refused() {
    let mut rng = Rng(4);
    let mut accepted = 0;
    for _ in 0..3000 {
        let mut page = page(&MILAN);
        for _ in 0..=rng.below(3) {
            rng.alter(&mut page[..0x10 + MILAN.len() * 48]);
        }
        let Ok(table) = CpuidTable::parse(&page) else {
            continue;
        };
        accepted += 1;
        for leaf in [0, 1, 7, 0xb, 0xd, 0x8000_001e, 0x8000_001f] {
            let state = state(rng.next(), rng.next());
            let _ = table.cpuid(leaf, rng.below(3) as u32, &state);
        }
    }
    assert!(accepted > 1000);
}
