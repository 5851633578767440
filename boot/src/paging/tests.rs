use super::*;

const MASK: u64 = 1 << 51;

fn arena(pages: usize) -> TableArena {
    let bytes = (pages + 1) * PAGE_BYTES as usize;
    let start = vec![0xff_u8; bytes].leak().as_mut_ptr().expose_provenance() as u64;
    let start = PhysAddr::new(start).align_up(PAGE_BYTES).unwrap();
    // SAFETY: the leaked vector holds the aligned range, in a process that maps it at that address.
    unsafe { TableArena::new(PhysRange::from_len(start, pages as u64 * PAGE_BYTES).unwrap()) }
}

fn tables(mask: u64, huge: bool) -> PageTables {
    PageTables::new(arena(64), mask, huge).unwrap()
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
}

fn at(tables: &PageTables, address: u64) -> Option<Mapping> {
    tables.lookup(PhysAddr::new(address))
}

#[test]
fn pages_are_as_large_as_the_range_allows() {
    let mut tables = tables(0, true);
    tables
        .map(
            range(0x3ff0_0000, 0x8020_1000),
            Access::ReadWrite,
            Visibility::Private,
        )
        .unwrap();
    let sizes = [
        (0x3ff0_0000, PAGE_BYTES),
        (0x4000_0000, HUGE_PAGE_BYTES),
        (0x7fff_ffff, HUGE_PAGE_BYTES),
        (0x8000_0000, LARGE_PAGE_BYTES),
        (0x8020_0fff, PAGE_BYTES),
    ];
    for (address, page_bytes) in sizes {
        assert_eq!(
            at(&tables, address).unwrap().page_bytes,
            page_bytes,
            "{address:#x}"
        );
    }
    assert_eq!(at(&tables, 0x3fef_ffff), None);
    assert_eq!(at(&tables, 0x8020_1000), None);
    assert_eq!(at(&tables, 0), None);
}

#[test]
fn huge_pages_only_where_the_processor_has_them() {
    let mut tables = tables(0, false);
    tables
        .map(
            range(0x4000_0000, 0x8000_0000),
            Access::Read,
            Visibility::Private,
        )
        .unwrap();
    assert_eq!(
        at(&tables, 0x4000_0000).unwrap().page_bytes,
        LARGE_PAGE_BYTES
    );
}

#[test]
fn access_and_visibility_come_back_with_and_without_a_mask() {
    for mask in [0, MASK] {
        let mut tables = tables(mask, true);
        let mut start = 0x1000;
        for access in [Access::Read, Access::ReadWrite, Access::Execute] {
            for visibility in [Visibility::Private, Visibility::Shared, Visibility::Device] {
                tables
                    .map(range(start, start + 0x1000), access, visibility)
                    .unwrap();
                let mapping = at(&tables, start).unwrap();
                assert_eq!((mapping.access, mapping.visibility), (access, visibility));
                start += 0x1000;
            }
        }
    }
}

#[test]
fn the_mask_marks_private_entries_tables_and_root_only() {
    let mut tables = tables(MASK, true);
    tables
        .map(range(0x1000, 0x2000), Access::Read, Visibility::Private)
        .unwrap();
    tables
        .map(range(0x2000, 0x3000), Access::Read, Visibility::Shared)
        .unwrap();
    assert_eq!(tables.root().as_u64() & MASK, MASK);
    let (table, index, _) = tables.find(PhysAddr::new(0x1000)).unwrap();
    assert_eq!(tables.arena.read(table, index) & MASK, MASK);
    assert_eq!(tables.arena.read(table, index + 1) & MASK, 0);
    assert_eq!(tables.arena.read(tables.root, 0) & MASK, MASK);
}

#[test]
fn nothing_is_mapped_twice() {
    let mut tables = tables(0, true);
    tables
        .map(
            range(0x20_0000, 0x40_0000),
            Access::Read,
            Visibility::Private,
        )
        .unwrap();
    for again in [
        range(0x20_0000, 0x20_1000),
        range(0, 0x40_0000),
        range(0x3f_f000, 0x41_0000),
    ] {
        let outcome = tables.map(again, Access::ReadWrite, Visibility::Private);
        assert!(
            matches!(outcome, Err(PagingError::Occupied(_))),
            "{again:?}"
        );
    }
    assert_eq!(at(&tables, 0x20_0000).unwrap().access, Access::Read);
}

#[test]
fn a_large_page_does_not_replace_a_table() {
    let mut tables = tables(0, true);
    tables
        .map_small(
            range(0x20_0000, 0x20_1000),
            Access::Read,
            Visibility::Private,
        )
        .unwrap();
    let large = tables.map(
        range(0x20_0000, 0x40_0000),
        Access::Read,
        Visibility::Private,
    );
    assert_eq!(large, Err(PagingError::Occupied(PhysAddr::new(0x20_0000))));
}

#[test]
fn odd_ranges_are_refused() {
    let mut tables = tables(0, true);
    for odd in [
        range(1, 0x1000),
        range(0, 0xfff),
        range(0, MAP_LIMIT + 0x1000),
    ] {
        let outcome = tables.map(odd, Access::Read, Visibility::Private);
        assert_eq!(outcome, Err(PagingError::Range(odd)));
    }
    assert_eq!(at(&tables, u64::MAX), None);
}

#[test]
fn exhausted_tables_are_an_error() {
    let mut tables = PageTables::new(arena(3), 0, false).unwrap();
    let outcome = tables.map(range(0x1000, 0x2000), Access::Read, Visibility::Private);
    assert_eq!(outcome, Err(PagingError::TablesExhausted));
    assert!(PageTables::new(arena(0), 0, false).is_err());
}

#[test]
fn protection_changes_whole_pages_only() {
    let mut tables = tables(0, true);
    tables
        .map(
            range(0x20_0000, 0x60_1000),
            Access::ReadWrite,
            Visibility::Private,
        )
        .unwrap();
    tables
        .protect(range(0x20_0000, 0x40_0000), Access::Read)
        .unwrap();
    assert_eq!(at(&tables, 0x20_0000).unwrap().access, Access::Read);
    assert_eq!(at(&tables, 0x40_0000).unwrap().access, Access::ReadWrite);
    assert_eq!(
        tables.protect(range(0x40_0000, 0x50_0000), Access::Read),
        Err(PagingError::Straddles(PhysAddr::new(0x40_0000)))
    );
    assert_eq!(
        tables.protect(range(0x60_0000, 0x60_2000), Access::Read),
        Err(PagingError::Unmapped(PhysAddr::new(0x60_1000)))
    );
}
