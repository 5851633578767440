//! The driver against a card in software: first an honest one, then one lie at a time.

use std::vec::Vec;

use super::transport::TransportError;
use super::*;
use crate::device::fake_card::{FakeCard, RECEIVE, State, TRANSMIT, read, write};

fn start(card: &'static FakeCard) -> Result<NetDevice<PciTransport>, NetCardError> {
    find_net_card(card)
}

fn started() -> (&'static FakeCard, NetDevice<PciTransport>) {
    let card = FakeCard::new();
    let device = start(card).unwrap();
    (card, device)
}

fn receive(device: &mut NetDevice<PciTransport>) -> Result<Option<Vec<u8>>, DeviceFault> {
    let mut frame = [0; FRAME_MAX_BYTES];
    Ok(device
        .receive(&mut frame)?
        .map(|length| frame[..length].to_vec()))
}

#[test]
fn features_are_the_few_that_are_wanted() {
    let (card, device) = started();
    let state = card.state.lock();
    assert_eq!(state.driver_features, 1 << 33 | 1 << 32 | 1 << 16 | 1 << 5);
    assert_eq!(state.status, 0b1111);
    assert_eq!(device.hardware_address(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
}

#[test]
fn frames_go_both_ways_many_times_around_the_rings() {
    let (card, mut device) = started();
    for round in 0..300_usize {
        let frame: Vec<u8> = (0..14 + round * 5 % 1501)
            .map(|byte| (byte * round) as u8)
            .collect();
        assert!(card.deliver(&frame));
        assert_eq!(receive(&mut device).unwrap().as_ref(), Some(&frame));
        assert_eq!(receive(&mut device), Ok(None));
        assert_eq!(device.send(&frame), Ok(true));
        assert_eq!(card.state.lock().sent.pop_front().as_ref(), Some(&frame));
    }
}

#[test]
fn a_card_that_sends_nothing_only_fills_the_queue() {
    let (card, mut device) = started();
    card.state.lock().takes_frames = false;
    let sent = (0..100).filter(|_| device.send(&[7; 60]).unwrap()).count();
    assert_eq!(sent, 64);
    assert_eq!(device.can_send(), Ok(false));
    card.state.lock().takes_frames = true;
    card.claim_used(TRANSMIT, 0, 0);
    assert_eq!(device.can_send(), Ok(true));
}

#[test]
fn a_burst_fills_every_buffer_and_no_more() {
    let (card, mut device) = started();
    assert_eq!((0..100).filter(|_| card.deliver(&[1; 100])).count(), 64);
    for _ in 0..64 {
        assert_eq!(receive(&mut device), Ok(Some(Vec::from([1; 100]))));
    }
    assert_eq!(receive(&mut device), Ok(None));
    assert!(card.deliver(&[2; 100]));
}

#[test]
fn lies_about_a_received_length() {
    for length in [0, 11, 12 + 1515, 4096, u32::MAX] {
        let (card, mut device) = started();
        card.claim_used(RECEIVE, 0, length);
        assert_eq!(receive(&mut device), Err(DeviceFault::Length), "{length}");
    }
    for (length, frame) in [(12, 0), (12 + 1514, 1514)] {
        let (card, mut device) = started();
        card.claim_used(RECEIVE, 0, length);
        assert_eq!(
            receive(&mut device).unwrap().map(|bytes| bytes.len()),
            Some(frame)
        );
    }
}

#[test]
fn buffers_that_the_device_does_not_have() {
    for id in [64, 255, 0xffff, u32::MAX] {
        let (card, mut device) = started();
        card.claim_used(RECEIVE, id, 100);
        assert_eq!(receive(&mut device), Err(DeviceFault::UnknownBuffer));
        let (card, mut device) = started();
        card.claim_used(TRANSMIT, id, 0);
        assert_eq!(device.can_send(), Err(DeviceFault::UnknownBuffer));
    }
    let (card, mut device) = started();
    card.state.lock().takes_frames = false;
    assert_eq!(device.send(&[7; 60]), Ok(true));
    card.claim_used(TRANSMIT, 0, 0);
    card.claim_used(TRANSMIT, 0, 0);
    assert_eq!(
        device.can_send(),
        Err(DeviceFault::UnknownBuffer),
        "given back twice"
    );
}

#[test]
fn an_index_that_runs_ahead() {
    for ahead in [65_u16, 1000, 0x8000, 0xffff] {
        let (card, mut device) = started();
        let used = card.state.lock().queues[RECEIVE].device;
        write(used + 2, &ahead.to_le_bytes());
        // Every element claims buffer 0 with length 0.
        assert_eq!(receive(&mut device), Err(DeviceFault::Length));
    }
}

#[test]
fn what_the_device_writes_over_our_rings_is_not_believed() {
    let (card, mut device) = started();
    for round in 0..200 {
        assert!(card.deliver(&[round; 60]));
        let queue = card.state.lock().queues[RECEIVE].clone();
        let places: Vec<u64> = (0..64).map(|id| queue.descriptors + 16 * id).collect();
        let honest: Vec<[u8; 16]> = places.iter().map(|place| read(*place)).collect();
        write(queue.descriptors, &[0xff; 64 * 16]);
        assert_eq!(receive(&mut device), Ok(Some(Vec::from([round; 60]))));
        // The driver has written the one descriptor that it offers again; the fake needs the others back.
        for (place, bytes) in places.iter().zip(honest) {
            if read::<16>(*place) == [0xff; 16] {
                write(*place, &bytes);
            }
        }
    }
}

type Bend = fn(&mut State);

#[test]
fn cards_that_cannot_be_started() {
    let setup = NetCardError::Start(DeviceFault::Setup);
    let address = NetCardError::Start(DeviceFault::HardwareAddress);
    let structure = |kind| NetCardError::Transport(TransportError::Structure(kind));
    let cases: [(&str, Bend, NetCardError); 17] = [
        ("legacy only", |s| s.features &= !(1 << 32), setup),
        ("refuses the features", |s| s.status_refused = 8, setup),
        ("small queue", |s| s.queues[1].size = 32, setup),
        ("no queue", |s| s.queues[0].size = 0, setup),
        ("queue in use", |s| s.queues[0].enabled = 1, setup),
        (
            "notified outside",
            |s| s.queues[0].notify_off = 0x400,
            setup,
        ),
        (
            "notified far outside",
            |s| s.queues[1].notify_off = 0xffff,
            setup,
        ),
        ("odd notify multiplier", |s| s.config[0x60] = 3, setup),
        ("never consistent", |s| s.generation_runs = true, setup),
        ("group address", |s| s.address[0] = 1, address),
        ("no address", |s| s.address = [0; 6], address),
        ("no common structure", |s| s.config[0x43] = 9, structure(1)),
        (
            "short common structure",
            |s| s.config[0x4c..0x50].copy_from_slice(&[0x30, 0, 0, 0]),
            structure(1),
        ),
        (
            "structure outside",
            |s| s.set_capability(0x50, 0x64, 2, 4, 0x3000, 0x1001),
            structure(2),
        ),
        (
            "structure in a missing register",
            |s| s.config[0x68] = 0,
            structure(4),
        ),
        (
            "short notify capability",
            |s| s.config[0x52] = 16,
            structure(2),
        ),
        (
            "short configuration",
            |s| s.set_capability(0x64, 0, 4, 4, 0x2000, 4),
            setup,
        ),
    ];
    for (what, bend, error) in cases {
        let card = FakeCard::new();
        bend(&mut card.state.lock());
        assert_eq!(start(card).err(), Some(error), "{what}");
    }
    let card = FakeCard::new();
    {
        let mut state = card.state.lock();
        state.reset_works = false;
        state.status = 0xf;
    }
    assert_eq!(
        start(card).err(),
        Some(NetCardError::Transport(TransportError::Reset))
    );
}

#[test]
fn a_loop_of_capabilities_ends() {
    let card = FakeCard::new();
    card.state.lock().config[0x41] = 0x40;
    let missing = NetCardError::Transport(TransportError::Structure(2));
    assert_eq!(start(card).err(), Some(missing));
}

#[test]
fn random_answers_never_panic() {
    let mut seed = 5_u64;
    let mut random = move |bound: u32| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32 % bound
    };
    for _ in 0..8 {
        let (card, mut device) = started();
        for _ in 0..2_000 {
            match random(5) {
                0 => _ = card.deliver(&[1; 64]),
                1 => card.claim_used(RECEIVE, random(66), random(2000)),
                2 => card.claim_used(TRANSMIT, random(66), random(2000)),
                3 if receive(&mut device).is_err() => break,
                _ if device.send(&[3; 70]).is_err() => break,
                _ => {}
            }
        }
    }
}
