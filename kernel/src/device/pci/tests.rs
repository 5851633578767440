use super::*;
use crate::device::fake_card::FakeCard;
use crate::memory::{DEVICE_WINDOW, PhysAddr, PhysRange};

const CARD: (u16, u16) = (0x1af4, 0x1041);

fn find(card: &'static FakeCard) -> Function {
    Bus::new(card).find(CARD.0, CARD.1).unwrap()
}

fn enable(card: &'static FakeCard) -> Result<Bars, PciError> {
    find(card).enable(&mut Window::new(DEVICE_WINDOW))
}

#[test]
fn the_card_is_found_and_its_registers_are_placed() {
    let card = FakeCard::new();
    assert_eq!(
        Bus::new(card).find(0x1af4, 0x1000).err(),
        Some(PciError::NotFound)
    );
    let bars = enable(card).unwrap();
    let region = bars.region(4, 0x1000, 0x1000).unwrap();
    assert_eq!(region.start().as_u64(), 0xe000_1000);
    assert!(DEVICE_WINDOW.contains(region));
    assert_eq!(card.state.lock().config[4..6], [0b110, 0b100]);
}

#[test]
fn regions_outside_a_register_are_refused() {
    let bars = enable(FakeCard::new()).unwrap();
    for (bar, offset, length) in [
        (0, 0, 4),
        (5, 0, 4),
        (6, 0, 4),
        (255, 0, 4),
        (4, 0x4000, 1),
        (4, 0x3fff, 2),
        (4, u32::MAX, 4),
        (4, 4, u32::MAX),
        (4, u32::MAX, u32::MAX),
    ] {
        assert_eq!(
            bars.region(bar, offset, length),
            None,
            "{bar} {offset:#x} {length:#x}"
        );
    }
}

#[test]
fn registers_that_lie_about_their_size_are_refused() {
    for mask in [
        0xf000_000c,
        0xfff0_f00c,
        0x0000_000e,
        0xffff_f006,
        0x8000_0000,
        0x0000_fff0,
    ] {
        let card = FakeCard::new();
        card.state.lock().bar_masks[4] = mask;
        assert_eq!(enable(card).err(), Some(PciError::Bar), "{mask:#x}");
    }
    let card = FakeCard::new();
    card.state.lock().bar_masks = [0, 0, 0, 0, 0, 0xffff_f00c];
    assert_eq!(
        enable(card).err(),
        Some(PciError::Bar),
        "the last register cannot be half of a wide one"
    );
}

#[test]
fn port_registers_are_left_alone() {
    let card = FakeCard::new();
    card.state.lock().bar_masks[0] = 0xffff_ffe1;
    assert_eq!(enable(card).unwrap().region(0, 0, 4), None);
}

#[test]
fn a_full_window_is_an_error() {
    let card = FakeCard::new();
    let small = PhysRange::from_len(PhysAddr::new(0xe000_1000), 0x4000).unwrap();
    let outcome = find(card).enable(&mut Window::new(small));
    assert_eq!(outcome.err(), Some(PciError::WindowFull));
}

#[test]
fn bridges_are_refused() {
    let card = FakeCard::new();
    card.state.lock().config[0x0e] = 1;
    assert_eq!(enable(card).err(), Some(PciError::Header));
}

#[test]
fn the_list_of_capabilities_ends() {
    let card = FakeCard::new();
    let count = |card| find(card).capabilities().count();
    assert_eq!(count(card), 3);
    card.state.lock().config[0x65] = 0x40;
    assert_eq!(count(card), 48, "a loop");
    card.state.lock().config[0x65] = 0x04;
    assert_eq!(count(card), 3, "a pointer into the header");
    card.state.lock().config[0x34] = 0xff;
    assert_eq!(count(card), 1, "the last entry; its next is 0");
    assert!(
        find(card)
            .capabilities()
            .next()
            .unwrap()
            .read_u32(8)
            .is_none()
    );
    card.state.lock().config[6] = 0;
    assert_eq!(count(card), 0, "no list");
}
