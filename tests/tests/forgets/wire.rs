//! Everything that leaves a guest: its serial port, what it answers outside the encapsulation, and every packet.

use std::ffi::OsString;
use std::fs;

use cloister_protocol::api::{media, paths};
use cloister_tests::sealed::summarize_message;
use cloister_tests::secrets::Secrets;
use cloister_tests::{private_keys, raw};

use crate::canary::canary;
use crate::fates::{Subject, every_fate};
use crate::{Turn, plain};

/// The client, as the guest sees it.
const CLIENT_ADDRESSES: [&str; 3] = ["10.0.2.2", "0a000202", "10, 0, 2, 2"];

#[test]
fn nothing_of_a_request_leaves_the_guest_in_the_clear() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("packets");
    let mut dump = OsString::from("filter-dump,id=dump,netdev=n0,file=");
    dump.push(&capture);
    let _turn = Turn::wait();
    let (mut options, ranges) = plain();
    options.extra.extend(["-object".into(), dump]);
    let mut subject = Subject::boot(&options, &ranges);
    let before = subject.known();
    let mut secrets = Secrets::spelled();
    every_fate(&mut subject, &mut secrets, &before);
    for key in private_keys::find(&subject.memory(), &subject.keys, &subject.pack) {
        secrets.add(key.name, &key.bytes);
    }
    assert!(secrets.pieces_of("X-Wing private key") > 0);
    // What was there before the first request is no secret: words of the image, of the vocabulary, and of refusals.
    let secrets = secrets.without(&before);

    let port = subject.port();
    let outside = [
        paths::METRICS,
        paths::HEALTH,
        paths::EVIDENCE,
        paths::OHTTP_GATEWAY,
    ];
    for path in outside {
        let answer = raw::get(port, path);
        assert_eq!(answer.status, 200, "{path}");
        let said = [answer.head.as_bytes(), &answer.body].concat();
        let found = secrets.find(&said);
        assert!(found.is_empty(), "{path} tells:{found}");
    }

    // One request that a client forgets to seal.
    let (word, mut unsealed) = (canary(), Secrets::spelled());
    unsealed.add("unsealed", word.as_bytes());
    let json = format!(r#"{{"messages":[{{"text":"{word}"}}]}}"#);
    let message = summarize_message(json.as_bytes());
    assert!(unsealed.find(&message).has("unsealed"), "as before a seal");
    let answer = raw::post(
        port,
        paths::OHTTP_GATEWAY,
        media::OHTTP_REQUEST,
        word.as_bytes(),
    );
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    assert!(unsealed.find(&answer.body).is_empty(), "{}", answer.text());

    let serial = subject.guest.console().lines().join("\n");
    drop(subject);
    let packets = fs::read(&capture).expect("QEMU has written it");
    for (what, bytes) in [
        ("the serial port", serial.as_bytes()),
        ("the network", &packets),
    ] {
        let found = secrets.find(bytes);
        assert!(found.is_empty(), "{what} tells:{found}");
    }
    assert!(serial.contains("cloister: ready "), "{serial}");
    for address in CLIENT_ADDRESSES {
        assert!(
            !serial.contains(address),
            "the serial port tells of a client: {serial}"
        );
    }
    assert!(unsealed.find(serial.as_bytes()).is_empty(), "{serial}");
    // The same search finds what is there to be found.
    assert!(unsealed.find(&packets).has("unsealed"));
}
