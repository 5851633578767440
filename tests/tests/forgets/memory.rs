//! The whole memory of a guest, before, in the middle of, and after requests of every fate.

use std::ops::Range;

use cloister_tests::sealed::{self, summarize_message};
use cloister_tests::secrets::Secrets;
use xtask::qemu::GuestOptions;

use crate::fates::{Subject, every_fate};
use crate::{Turn, emulated, plain};

#[test]
fn a_plain_guest_of_two_processors_forgets() {
    let (mut options, ranges) = plain();
    options.cpus = 2;
    forgets(&options, &ranges);
}

#[test]
fn an_snp_guest_forgets() {
    let (options, ranges) = emulated();
    forgets(&options, &ranges);
}

fn forgets(options: &GuestOptions, ranges: &[Range<u64>]) {
    let _turn = Turn::wait();
    let mut subject = Subject::boot(options, ranges);
    let before = subject.known();
    let mut secrets = Secrets::new();

    every_fate(&mut subject, &mut secrets, &before);

    let after = subject.rest();
    let secrets = secrets.without(&before);
    let found = secrets.find(&after);
    assert!(found.is_empty(), "left in memory:{found}");
    // What a guest does keep is found, so the memory is the right one.
    let mut kept = Secrets::new();
    kept.add("public key", subject.keys.preferred().public_key());
    assert!(kept.find(&after).has("public key"));
    sealed::ask(subject.port(), &summarize_message(b"{}"));
}
