//! Through a relay, which is all that the guest gets to see.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use cloister_client::relay::{Limits, Relay, Stop};
use cloister_client::{Client, Policy, Way};
use cloister_protocol::api::summarize::{Message, Request, Style};
use cloister_tests::guests::Shared;

#[test]
fn the_same_answer_as_without_one() {
    let guest = Shared::lease();
    let url = format!("http://127.0.0.1:{}", guest.port());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let relay = Relay::new(url.parse().expect("an address"), Limits::default());
    let stop = Stop::new();
    let stopped = stop.clone();
    let serving = thread::spawn(move || {
        let report = |event: &cloister_client::relay::Event| panic!("the guest failed: {event}");
        relay.serve(listener, None, &stopped, report)
    });
    let way = Way {
        relay: Some(format!("http://{address}")),
        // Nobody listens there.
        ..Way::direct("http://127.0.0.1:1")
    };
    let policy = Policy {
        accept_unattested: true,
        ..Policy::default()
    };
    let client = Client::connect_by(&way, Duration::from_secs(300), policy).expect("evidence");
    let request = Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Headline,
        max_tokens: Some(8),
    };
    let direct = guest.client().summarize(&request).expect("a summary");
    for _ in 0..3 {
        let relayed = client.summarize(&request).expect("a summary");
        assert_eq!(relayed.summary, direct.summary);
    }
    drop(client);
    stop.stop();
    serving.join().expect("no panic").expect("it served");
}
