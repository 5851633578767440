//! Private keys of an epoch that is over, and what they were made from.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cloister_kernel::entropy::Drbg;
use cloister_protocol::api::paths;
use cloister_protocol::keyconfig::{Kem, KeyConfigList, decode_list};
use cloister_protocol::ohttp::Gateway;
use cloister_tests::guests::{boot, fixture_image};
use cloister_tests::monitor::MonitorSocket;
use cloister_tests::private_keys;
use cloister_tests::raw;
use cloister_tests::secrets::Secrets;
use hpke::Serializable;
use hpke::kem::{Kem as _, X25519HkdfSha256};
use xtask::qemu::GuestOptions;

use crate::{Turn, emulated, plain};

/// The guest's clock is that of its instructions, 2^9 ns each: an hour is half a minute, more or less.
const FAST_CLOCK: &str = "shift=9,align=off,sleep=off";
/// On the emulated platform, where every look at a timer takes many instructions, 2^8 ns.
const EMULATED_FAST_CLOCK: &str = "shift=8,align=off,sleep=off";
/// Until the next epoch.
const PATIENCE: Duration = Duration::from_secs(400);
/// How long keys are kept after their epoch, and a little more, in the guest's seconds.
const GRACE_S: u64 = 310;

/// On a clock as fast as this one, connections time out now and then.
fn get(port: u16, path: &str) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = raw::get(port, path);
        if answer.status == 200 {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}");
        sleep(Duration::from_millis(100));
    }
}

fn keys(port: u16) -> KeyConfigList {
    decode_list(&get(port, paths::OHTTP_GATEWAY)).expect("keys")
}

fn uptime_s(port: u16) -> u64 {
    let text = String::from_utf8(get(port, paths::METRICS)).expect("text");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("cloister_uptime_seconds "));
    line.and_then(|value| value.parse().ok())
        .expect("the guest knows its time")
}

fn pack() -> Vec<u8> {
    let path = fixture_image().model_pack().expect("it has a model");
    std::fs::read(path).expect("readable")
}

#[test]
fn keys_of_an_epoch_that_is_over_are_gone_from_a_plain_guest() {
    let (options, ranges) = plain();
    keys_are_gone_after_their_epoch(options, &ranges, FAST_CLOCK);
}

#[test]
fn keys_of_an_epoch_that_is_over_are_gone_from_an_snp_guest() {
    let (options, ranges) = emulated();
    keys_are_gone_after_their_epoch(options, &ranges, EMULATED_FAST_CLOCK);
}

fn keys_are_gone_after_their_epoch(mut options: GuestOptions, ranges: &[Range<u64>], clock: &str) {
    let _turn = Turn::wait();
    let (pack, socket) = (pack(), MonitorSocket::new());
    options.extra.extend(socket.words());
    options.extra.extend(["-icount".into(), clock.into()]);
    let guest = boot(&options);
    let mut monitor = socket.connect();
    let port = guest.port();
    let mut memory = || monitor.memory(ranges);

    let old = keys(port);
    let found = private_keys::find(&memory(), &old, &pack);
    let mut secrets = Secrets::new();
    for key in &found {
        secrets.add(key.name, &key.bytes);
    }
    for name in ["X25519 private key", "X-Wing private key"] {
        assert!(
            found.iter().any(|key| key.name == name),
            "{name} is not among {found:?}"
        );
    }

    let deadline = Instant::now() + PATIENCE;
    let new = loop {
        let new = keys(port);
        if new.epoch() != old.epoch() {
            break new;
        }
        assert!(
            Instant::now() < deadline,
            "still the same keys after {} s",
            uptime_s(port)
        );
        sleep(Duration::from_millis(500));
    };
    let over = uptime_s(port) + GRACE_S;
    while uptime_s(port) < over {
        sleep(Duration::from_millis(500));
    }
    assert_eq!(keys(port).epoch(), new.epoch(), "not yet the one after");
    let after = memory();
    let left = secrets.find(&after);
    assert!(left.is_empty(), "left in memory:{left}");
    let found = private_keys::find(&after, &new, &pack);
    assert_eq!(
        found.len(),
        2,
        "the keys in use are there, and once each: {found:?}"
    );
}

/// How often the guest's generator was forked before it made the service's, at most.
const FORKS: usize = 4;

/// Whether a generator in this state makes these keys, or has a fork that does. The X25519 key is the second one that is
/// made, and by far the cheaper one to try.
fn makes(state: &[u8; 32], keys: &KeyConfigList) -> bool {
    let x25519 = keys
        .configs()
        .iter()
        .find(|config| config.kem() == Kem::X25519);
    let x25519 = x25519.expect("a key of each kind").public_key();
    let makes = |mut generator: Drbg| {
        let mut material = [0; 32];
        generator.fill(&mut material);
        generator.fill(&mut material);
        let (_, public) = X25519HkdfSha256::derive_keypair(&material);
        public.to_bytes()[..] == *x25519
    };
    let mut generator = Drbg::from_seed(*state);
    makes(Drbg::from_seed(*state)) || (0..FORKS).any(|_| makes(generator.fork()))
}

#[test]
fn a_state_that_makes_given_keys_is_known() {
    let seed = [7; 32];
    let keys_of = |mut generator: Drbg| {
        decode_list(&Gateway::generate(&mut generator).key_configs()).expect("keys")
    };
    assert!(makes(&seed, &keys_of(Drbg::from_seed(seed))));
    let mut source = Drbg::from_seed(seed);
    source.fork();
    assert!(makes(&seed, &keys_of(source.fork())));
    assert!(!makes(&[8; 32], &keys_of(Drbg::from_seed(seed))));
}

#[test]
fn no_state_of_the_generator_is_left_that_would_make_the_keys_again() {
    let _turn = Turn::wait();
    let (pack, socket) = (pack(), MonitorSocket::new());
    let (mut options, ranges) = plain();
    options.extra.extend(socket.words());
    let guest = boot(&options);
    let keys = keys(guest.port());
    let memory = socket.connect().memory(&ranges);
    let mut tried = 0;
    for (at, state) in private_keys::candidates(&memory, &pack) {
        assert!(
            !makes(state, &keys),
            "a state of the generator lies at {at:#x}"
        );
        tried += 1;
    }
    eprintln!("{tried} places look random");
    assert!(
        tried > 100,
        "the generator's present state is among them: {tried}"
    );
}
