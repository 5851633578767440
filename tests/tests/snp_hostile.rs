//! The image as an SEV-SNP guest whose hypervisor attacks it: every attack of the emulated platform
//! ([`cloister_emulator::hostile`]) is carried out on a guest of its own.
//!
//! Each ends in one of three ways. The guest stops by itself, for the reason that the attack is. Or it serves, and a
//! client refuses its evidence for the check that the attack breaks. Or the attack has no effect: a client accepts the
//! evidence, and a sealed request gets the answer that a guest of an honest hypervisor gives.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloister_client::{Client, ClientError, Refusal};
use cloister_emulator::hostile::{ATTACKS, Attack, Outcome};
use cloister_protocol::api::summarize::{Message, Request, Response, Style};
use cloister_tests::guests::{ANSWER_TIMEOUT, emulated_platform, fixture_image, qemu};
use cloister_verifier::Check;
use xtask::attestation;
use xtask::qemu::{Guest, GuestError, GuestOptions, Platform};

/// No attack takes a guest longer to serve or to stop.
const LIMIT: Duration = Duration::from_secs(240);
/// Variable that chooses attacks by a part of their names.
const ONLY: &str = "CLOISTER_ATTACK";
/// The attack that takes longest: 64 pauses of a second.
const LONGEST: &str = "report-busy";

/// How often evidence is asked for.
const ATTEMPTS: usize = 3;

#[test]
fn no_attack_makes_the_guest_serve_wrongly() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut attacks: Vec<_> = ATTACKS
        .iter()
        .filter(|attack| attack.name.contains(&only))
        .collect();
    attacks.sort_by_key(|attack| attack.name != LONGEST);
    let honest = honest_answer();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut rows = Vec::new();
        while let Some(attack) = attacks.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push((attack.name, carry_out(attack, &honest)));
        }
        rows
    };
    let rows: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let rows = handles.into_iter().map(|handle| handle.join());
        rows.flat_map(|rows| rows.expect("failures are values"))
            .collect()
    });
    println!("| attack | what the hypervisor does | what the guest did |\n|---|---|---|");
    let mut failures = Vec::new();
    for attack in ATTACKS {
        match rows.iter().find(|(name, _)| *name == attack.name) {
            Some((name, Ok(did))) => println!("| `{name}` | {} | {did} |", attack.what),
            Some((name, Err(error))) => failures.push(format!("{name}: {error}")),
            None => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The guest with L0's options, and with so many processors.
fn start(options: &str, cpus: u32) -> Guest {
    let platform = emulated_platform().with_options(options);
    let platform = Platform::SnpEmulated(platform.expect("a folder for its log"));
    let options = GuestOptions {
        cpus,
        ..fixture_image().guest_options(platform)
    };
    Guest::start(qemu(), &options).expect("QEMU starts")
}

/// What a guest of an honest hypervisor answers to [`request`].
fn honest_answer() -> Response {
    let mut guest = start("", 1);
    guest
        .wait_ready(LIMIT)
        .unwrap_or_else(|error| panic!("{error}"));
    served(&guest, 1).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a guest under an attack. What it did, or how that is not what it must do.
fn carry_out(attack: &Attack, honest: &Response) -> Result<String, String> {
    let mut guest = start(&format!("hostile={}", attack.name), attack.cpus());
    let did = match guest.wait_ready(LIMIT) {
        Ok(_) => when_ready(&mut guest, attack, honest),
        Err(GuestError::Stopped(_) | GuestError::Ended { .. }) => when_ended(&guest, attack),
        Err(other) => Err(other.to_string()),
    };
    let log = guest.platform_log();
    let did = did.and_then(|did| {
        let done = format!("HOSTILE: {}: ", attack.name);
        let is_done = log.contains(&done);
        is_done
            .then_some(did)
            .ok_or("the attack was not carried out".to_owned())
    });
    did.map_err(|error| {
        let said = guest.console().lines().join("\n");
        format!("{error}\n{said}\n{log}")
    })
}

/// A guest that serves: nothing that it says may be wrong, and it may stop now.
fn when_ready(guest: &mut Guest, attack: &Attack, honest: &Response) -> Result<String, String> {
    match attack.expected {
        Outcome::NoEffect => {
            let answer = served(guest, attack.cpus())?;
            if (&answer.summary, answer.usage) != (&honest.summary, honest.usage) {
                return Err(format!("another answer: {answer:?}"));
            }
            return Ok("serves, with true evidence and the right answer".to_owned());
        }
        Outcome::Refused(check) => return refused(guest, check),
        _ => {}
    }
    if let Ok(answer) = served(guest, attack.cpus()) {
        return Err(format!("it must stop, and answers {answer:?}"));
    }
    match guest.wait_stopped(LIMIT) {
        Ok(_) | Err(GuestError::Ended { .. }) => when_ended(guest, attack),
        Err(other) => Err(other.to_string()),
    }
}

/// A guest that has ended: it must have done so by itself, and for the right reason.
fn when_ended(guest: &Guest, attack: &Attack) -> Result<String, String> {
    let log = guest.platform_log();
    let must = |good: bool, did: String| {
        let wrong = format!("{did}, and not {:?}", attack.expected);
        if good { Ok(did) } else { Err(wrong) }
    };
    let said = guest.console().lines();
    let last_words = said.iter().find_map(|line| {
        let (_, words) = line.split_once("cloister: stopped: ")?;
        Some(words)
    });
    if let Some(words) = last_words {
        let good = match attack.expected {
            Outcome::Stopped(code, part) => {
                words.starts_with(&format!("{code:02x} ")) && words.contains(part)
            }
            _ => false,
        };
        return must(good, format!("stops: {}", without_addresses(words)));
    }
    let ended = log.lines().find_map(|line| {
        let (_, reason) = line.split_once("the guest ended itself: reason ")?;
        reason.split_once(", rip")
    });
    if let Some((reason, _)) = ended {
        let good = match attack.expected {
            Outcome::Terminated(set, code) => reason == format!("set {set} code {code:#x}"),
            _ => false,
        };
        return must(good, format!("terminates: {reason}"));
    }
    let stuck = log.lines().find_map(|line| line.split_once("DIAGNOSIS: "));
    match (stuck, attack.expected) {
        (Some((_, why)), Outcome::Stuck(part)) => {
            must(why.contains(part), format!("cannot go on: {why}"))
        }
        _ => must(false, "did not end by itself".to_owned()),
    }
}

/// The registers of an exception differ from build to build, and advice is not what happened.
fn without_addresses(words: &str) -> &str {
    let end = [" rip ", "; the machine needs"]
        .into_iter()
        .find_map(|what| words.find(what));
    &words[..end.unwrap_or(words.len())]
}

fn request() -> Request {
    Request {
        messages: vec![Message::new("Ana", "The launch moves to Thursday.")],
        style: Style::Bullets,
        max_tokens: Some(4),
    }
}

/// A guest whose evidence clients refuse for one check.
fn refused(guest: &Guest, check: &str) -> Result<String, String> {
    match connect(guest, 1) {
        Err(ClientError::Refused(Refusal::Evidence(appraisal))) => {
            let failed = |found: &&Check| !found.outcome.is_acceptable();
            let failed: Vec<_> = appraisal.checks().iter().filter(failed).collect();
            match failed[..] {
                [only] if only.name.name() == check => {
                    Ok(format!("serves; clients refuse its {check}"))
                }
                _ => Err(format!("refused for other reasons:\n{appraisal}")),
            }
        }
        Err(other) => Err(other.to_string()),
        Ok(_) => Err(format!("a client accepts the evidence, {check} too")),
    }
}

/// The answer of a guest whose evidence was accepted twice, each time for a fresh nonce.
fn served(guest: &Guest, cpus: u32) -> Result<Response, String> {
    let accepted = || connect(guest, cpus).map_err(|error| error.to_string());
    accepted()?;
    let answer = accepted()?.summarize(&request());
    answer.map_err(|error| error.to_string())
}

/// A client that checks everything: signature, certificates, measurement, key binding, epoch, nonce.
fn connect(guest: &Guest, cpus: u32) -> Result<Client, ClientError> {
    let platform = Platform::SnpEmulated(emulated_platform().clone());
    let policy = attestation::policy(&platform, fixture_image(), cpus, None).expect("a row");
    let connect = || Client::connect(&guest.url(), ANSWER_TIMEOUT, policy.clone());
    for _ in 1..ATTEMPTS {
        match connect() {
            // No answer is no wrong one: a clock that jumps ends the connections that are open.
            Err(ClientError::Transport(_)) => {}
            outcome => return outcome,
        }
    }
    connect()
}
