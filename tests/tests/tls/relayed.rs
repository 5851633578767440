//! Through a relay that speaks TLS to the guest.

use std::net::TcpListener;
use std::thread;

use cloister_client::relay::{KeyDigest, Limits, Relay, Stop};
use cloister_client::{Client, ClientError, Way};

use super::host::HostGuest;
use super::{TIMEOUT, accept};

/// Asks the guest through the relay, and through nothing else.
fn ask(relay: &dyn Fn(Relay) -> Relay) -> Result<usize, ClientError> {
    let guest = HostGuest::start(0, None);
    let gateway = format!("https://127.0.0.1:{}", guest.port);
    let relay = relay(Relay::new(
        gateway.parse().expect("an address"),
        Limits::default(),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let stop = Stop::new();
    let stopped = stop.clone();
    let serving = thread::spawn(move || relay.serve(listener, None, &stopped, |_| ()));
    let way = Way {
        relay: Some(format!("http://{address}")),
        ..Way::direct(&gateway)
    };
    let models = Client::connect_by(&way, TIMEOUT, accept()).and_then(|client| {
        client.models()?;
        client.models()
    });
    stop.stop();
    serving.join().expect("no panic").expect("it served");
    models.map(|models| models.data.len())
}

#[test]
fn a_relay_asks_the_guest_over_tls_unless_another_key_is_pinned() {
    assert_eq!(ask(&|relay| relay).expect("an answer"), 0);
    let pinned = KeyDigest::of(b"another key");
    let refused = ask(&|relay| relay.with_gateway_key(pinned)).err();
    let refused = refused.expect("no answer").to_string();
    assert!(
        refused.contains("502") && refused.contains("nothing was sent"),
        "{refused}"
    );
}
