//! Guests with several processors: all of them work, and answers are those of a guest with one.

use cloister_client::{Client, Policy};
use cloister_protocol::api::summarize::{Message, Request, Response, Style};
use cloister_tests::guests::{
    ANSWER_TIMEOUT, accept_unattested, boot, emulated_platform, fixture_image, options,
};
use xtask::attestation;
use xtask::qemu::{Guest, GuestOptions, Platform};

/// Long enough for several blocks of tokens, and for attention over more than one segment.
fn request() -> Request {
    let text = "The launch moves to Thursday because the printer on floor 2 is broken. ".repeat(8);
    Request {
        messages: vec![
            Message::new("Ana", text),
            Message::new("Bob", "I will tell everybody."),
        ],
        style: Style::Paragraph,
        max_tokens: Some(24),
    }
}

/// Boots with so many processors, which must all say that they work.
fn boot_with(cpus: u32, options: GuestOptions) -> Guest {
    let guest = boot(&GuestOptions { cpus, ..options });
    let plural = if cpus == 1 { "" } else { "s" };
    let line = format!("cloister: {cpus} cpu{plural}");
    let lines = guest.console().lines();
    assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    guest
}

fn ask(guest: &Guest, policy: Policy) -> Response {
    let client = Client::connect(&guest.url(), ANSWER_TIMEOUT, policy).expect("accepted");
    client.summarize(&request()).expect("an answer")
}

#[test]
fn answers_do_not_depend_on_the_number_of_processors() {
    let image = fixture_image();
    let of = |cpus| ask(&boot_with(cpus, options(image)), accept_unattested());
    let expected = of(1);
    assert!(expected.usage.output_tokens > 0, "{expected:?}");
    assert_eq!(of(2), expected);
    assert_eq!(of(3), expected);

    let platform = Platform::SnpEmulated(emulated_platform().clone());
    let guest = boot_with(2, image.guest_options(platform.clone()));
    let policy = attestation::policy(&platform, image, 2, None).expect("a row for two processors");
    assert_eq!(ask(&guest, policy), expected);
    let foretold = attestation::emulated_measurement(image, 2).expect("a row");
    let log = guest.platform_log();
    for line in [
        format!("launch digest {foretold}"),
        "cpu 1 is created from the VMSA".to_owned(),
    ] {
        assert!(log.contains(&line), "{line} is not in {log}");
    }
}
