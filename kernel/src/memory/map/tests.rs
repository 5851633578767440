use super::*;
use crate::entropy::Drbg;
use rand_core::TryRng;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const RAM: u32 = 1;
const RESERVED: u32 = 2;

fn table(entries: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (base, length, kind) in entries {
        bytes.extend_from_slice(&base.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
    }
    bytes
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
}

fn occupied() -> [PhysRange; 2] {
    [
        range(2 * MIB, 2 * MIB + 512 * 1024),
        range(4 * MIB, 6 * MIB),
    ]
}

fn parse(entries: &[(u64, u64, u32)]) -> Result<MemoryMap, MapError> {
    MemoryMap::parse(&table(entries), &occupied())
}

#[test]
fn a_small_machine() {
    let map = parse(&[(0, 512 * MIB, RAM), (0xfeff_c000, 0x4000, RESERVED)]).unwrap();
    assert_eq!(map.ram_bytes, 512 * MIB);
    assert_eq!(
        map.frames.bytes(),
        512 * MIB - 2 * MIB - 512 * 1024 - 2 * MIB
    );
}

#[test]
fn ram_above_4_gib_and_several_ranges() {
    let map = parse(&[
        (4 * GIB, 4 * GIB, RAM),
        (0, 640 * 1024, RAM),
        (MIB, 2 * GIB - MIB, RAM),
        (8 * GIB, GIB, RAM),
    ])
    .unwrap();
    assert_eq!(map.ram_bytes, 7 * GIB - MIB + 640 * 1024);
    assert!(map.frames.ranges().contains(&range(4 * GIB, 9 * GIB)));
}

#[test]
fn neighbouring_entries_are_one_range() {
    let map = parse(&[
        (0, 3 * MIB, RAM),
        (3 * MIB, 2 * MIB, RAM),
        (5 * MIB, 100 * MIB, RAM),
    ]);
    assert_eq!(map.unwrap().ram_bytes, 105 * MIB);
}

#[test]
fn contradictions_are_refused() {
    let whole = (0, 512 * MIB, RAM);
    let cases = [
        (vec![], MapError::NoRam),
        (vec![(0, GIB, RESERVED)], MapError::NoRam),
        (vec![whole, (GIB, 0, RAM)], MapError::EmptyEntry(1)),
        (
            vec![whole, (u64::MAX - 5, 10, RAM)],
            MapError::WrapAround(1),
        ),
        (
            vec![whole, (u64::MAX - 5, 10, RESERVED)],
            MapError::WrapAround(1),
        ),
        (
            vec![whole, (1 << 51, 1 << 51, RAM)],
            MapError::WrapAround(1),
        ),
        (vec![whole, (1 << 47, MIB, RAM)], MapError::WrapAround(1)),
        (vec![whole, whole], MapError::Overlap(0, 1)),
        (
            vec![(MIB, GIB, RAM), (0, 2 * MIB, RESERVED)],
            MapError::Overlap(0, 1),
        ),
        (
            vec![whole, (0xff00_0000, 16 * MIB, RAM)],
            MapError::RamOverDevices(1),
        ),
        (
            vec![whole, (GIB, 4 * GIB, RAM)],
            MapError::RamOverDevices(1),
        ),
        (
            vec![whole, (0xe000_0000, 4096, RAM)],
            MapError::RamOverDevices(1),
        ),
        (
            vec![(0, 5 * MIB, RAM)],
            MapError::OccupiedIsNotRam(occupied()[1]),
        ),
        (
            vec![(MIB, MIB, RAM)],
            MapError::OccupiedIsNotRam(occupied()[0]),
        ),
    ];
    for (entries, error) in cases {
        assert_eq!(parse(&entries).unwrap_err(), error, "{entries:x?}");
    }
}

#[test]
fn the_length_is_bounded() {
    let many: Vec<_> = (0..129).map(|i| (i * 64 * MIB, 32 * MIB, RAM)).collect();
    assert_eq!(parse(&many).unwrap_err(), MapError::TooMany(129));
    let cut = &table(&[(0, GIB, RAM)])[..19];
    assert_eq!(
        MemoryMap::parse(cut, &[]).unwrap_err(),
        MapError::Length(19)
    );
}

/// Whatever the table says: what comes out is RAM of the table, disjoint, and away from devices,
/// the ROM, low memory and the guest itself.
#[test]
fn any_table_gives_sound_frames_or_an_error() {
    let mut drbg = Drbg::from_seed([9; 32]);
    let mut below = |limit: u64| drbg.try_next_u64().unwrap() % limit;
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut entries = vec![(0, below(2000) * MIB + below(2) * 77, RAM)];
        for _ in 0..below(5) {
            let base = below(12 * 1024) * MIB + below(3) * 123;
            entries.push((base, below(2048) * MIB / 4 + below(3), below(3) as u32));
        }
        let Ok(map) = parse(&entries) else { continue };
        accepted += 1;
        let ranges = map.frames.ranges();
        for (index, &frame) in ranges.iter().enumerate() {
            assert!(frame.start() >= USABLE_START && !frame.overlaps(NOT_RAM));
            assert!(occupied().iter().all(|used| !frame.overlaps(*used)));
            assert!(
                ranges[index + 1..]
                    .iter()
                    .all(|other| !frame.overlaps(*other))
            );
            let in_ram: u64 = entries
                .iter()
                .filter(|entry| entry.2 == RAM)
                .map(|entry| {
                    let start = frame.start().as_u64().max(entry.0);
                    frame
                        .end()
                        .as_u64()
                        .min(entry.0 + entry.1)
                        .saturating_sub(start)
                })
                .sum();
            assert_eq!(in_ram, frame.len());
        }
    }
    assert!(
        accepted > 1000,
        "only {accepted} tables were sound: the test says little"
    );
}

/// Raw bytes, as a host that is not QEMU could send them.
#[test]
fn any_bytes_are_survived() {
    let mut drbg = Drbg::from_seed([10; 32]);
    for length in 0..400 {
        let mut bytes = vec![0; length];
        drbg.fill(&mut bytes);
        let _ = MemoryMap::parse(&bytes, &occupied());
    }
}
