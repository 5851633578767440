use std::vec::Vec;

use smoltcp::socket::tcp;

use super::lan::{GUEST, Lan};
use super::*;

#[test]
fn an_address_comes_by_dhcp_and_is_renewed() {
    let (mut lan, mut stack) = Lan::new(1);
    lan.lease_s = 20;
    lan.run_until(&mut stack, |stack| stack.address().is_some());
    assert_eq!(stack.address(), Some(GUEST));
    for _ in 0..60_000 {
        lan.turn(&mut stack);
        assert_eq!(stack.address(), Some(GUEST));
    }
    assert!(lan.granted >= 4, "{}", lan.granted);
}

#[test]
fn an_address_that_is_not_renewed_is_given_up() {
    let (mut lan, mut stack) = Lan::new(1);
    lan.lease_s = 20;
    lan.run_until(&mut stack, |stack| stack.address().is_some());
    lan.gives_addresses = false;
    lan.run_until(&mut stack, |stack| stack.address().is_none());
    lan.gives_addresses = true;
    lan.run_until(&mut stack, |stack| stack.address().is_some());
}

#[test]
fn without_an_answer_there_is_no_address() {
    let (mut lan, mut stack) = Lan::new(1);
    lan.gives_addresses = false;
    for _ in 0..30_000 {
        lan.turn(&mut stack);
    }
    assert_eq!(stack.address(), None);
}

fn open() -> SocketState {
    SocketState::Open {
        peer_finished: false,
        has_unread: false,
        all_sent: true,
    }
}

#[test]
fn bytes_go_both_ways_and_both_sides_close() {
    let (mut lan, mut stack) = Lan::with_address(1);
    let client = lan.connect();
    lan.run_until(&mut stack, |stack| stack.state(0) == open());
    let data: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut to_guest, mut guest_got, mut to_client, mut client_got) =
        (0, Vec::new(), 0, Vec::new());
    while client_got.len() < data.len() {
        if to_guest < data.len() && lan.socket(client).may_send() {
            to_guest += lan.socket(client).send_slice(&data[to_guest..]).unwrap();
        }
        stack.receive(0, &mut |bytes| {
            let taken = bytes.len().min(1000);
            guest_got.extend_from_slice(&bytes[..taken]);
            taken
        });
        to_client += stack.send(0, &guest_got[to_client..]);
        lan.turn(&mut stack);
        client_got.extend(lan.received(client));
    }
    assert_eq!(client_got, data);
    stack.close_write(0);
    lan.socket(client).close();
    lan.run_until(&mut stack, |stack| stack.state(0) == SocketState::Ended);
    stack.release(0);
    assert_eq!(stack.state(0), SocketState::Free);
}

#[test]
fn what_is_not_taken_stays() {
    let (mut lan, mut stack) = Lan::with_address(1);
    let client = lan.connect();
    lan.run_until(&mut stack, |stack| stack.state(0) == open());
    lan.socket(client).send_slice(b"hello").unwrap();
    lan.socket(client).close();
    let finished = SocketState::Open {
        peer_finished: true,
        has_unread: true,
        all_sent: true,
    };
    lan.run_until(&mut stack, |stack| stack.state(0) == finished);
    stack.receive(0, &mut |bytes| usize::from(bytes == b"hello"));
    let mut rest = Vec::new();
    stack.receive(0, &mut |bytes| {
        rest.extend_from_slice(bytes);
        bytes.len()
    });
    assert_eq!(rest, b"ello");
}

#[test]
fn a_client_that_is_cut_off_sees_a_reset_and_the_place_serves_the_next() {
    let (mut lan, mut stack) = Lan::with_address(1);
    let first = lan.connect();
    lan.run_until(&mut stack, |stack| stack.state(0) == open());
    let second = lan.connect();
    for _ in 0..10 {
        lan.turn(&mut stack);
    }
    assert_eq!(
        lan.socket(second).state(),
        tcp::State::Closed,
        "no place: refused at once"
    );
    stack.release(0);
    for _ in 0..10 {
        lan.turn(&mut stack);
    }
    assert_eq!(lan.socket(first).state(), tcp::State::Closed);
    assert_eq!(stack.state(0), SocketState::Ended);
    stack.release(0);
    lan.connect();
    lan.run_until(&mut stack, |stack| stack.state(0) == open());
}

#[test]
fn a_client_that_vanishes_is_noticed() {
    let (mut lan, mut stack) = Lan::with_address(1);
    let client = lan.connect();
    lan.run_until(&mut stack, |stack| stack.state(0) == open());
    lan.vanish(client);
    lan.run_until(&mut stack, |stack| stack.state(0) == SocketState::Ended);
    assert!(lan.now_us < 45_000_000, "{}", lan.now_us);
}

#[test]
fn a_card_that_lies_ends_the_stack() {
    let (mut lan, mut stack) = Lan::with_address(1);
    lan.card
        .claim_used(crate::device::fake_card::RECEIVE, 0, u32::MAX);
    lan.turn_host();
    assert!(matches!(stack.poll(lan.now_us), Err(NetworkError::Card(_))));
}
