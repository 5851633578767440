//! The end: requests that have begun end too, within a bound.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use cloister_client::relay::Limits;

use super::raw::{ANSWER, POST, RawGateway, Relaying, Then, answer, generous, wait_until};

#[test]
fn a_request_that_has_begun_is_answered() {
    let (go, wait) = mpsc::channel::<()>();
    let (seen, see) = mpsc::channel::<()>();
    let (wait, seen) = (Mutex::new(wait), Mutex::new(seen));
    let gateway = RawGateway::start(move |_, _| {
        seen.lock().unwrap().send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        Then::Answer(ANSWER.as_bytes().to_vec())
    });
    let relay = Relaying::before(&gateway);
    let mut idle = relay.connect();
    let mut client = relay.connect();
    client.write_all(POST.as_bytes()).unwrap();
    see.recv().unwrap();
    relay.stop.stop();
    // Who has asked nothing is let go, and nobody new is let in.
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    wait_until(|| TcpStream::connect(relay.address).is_err());
    go.send(()).unwrap();
    let last = answer(&mut client);
    assert!(last.ends_with("world"), "{last}");
    // Whether the answer says so depends on who was told of the end first: the connection, or we by the idle one's.
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    relay.end();
}

#[test]
fn one_that_takes_too_long_is_cut_off() {
    let gateway = RawGateway::start(|_, _| Then::Wait);
    let limits = Limits {
        stop_timeout: Duration::from_millis(50),
        ..generous()
    };
    let relay = Relaying::start(&gateway.url(), limits);
    let mut client = relay.connect();
    client.write_all(POST.as_bytes()).unwrap();
    wait_until(|| !gateway.received().concat().is_empty());
    relay.end();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    gateway.wait_for_ends(1);
}
