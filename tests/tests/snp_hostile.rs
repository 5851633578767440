//! The image as an SEV-SNP guest whose hypervisor attacks it: every attack of the emulated platform
//! ([`cloister_emulator::hostile`]) is carried out on a guest of its own.
//!
//! Each ends in one of two ways. The guest stops by itself, for the reason that the attack is. Or the attack has no
//! effect: the guest serves, its evidence has the launch's measurement and binds its keys, and a sealed request gets
//! the answer that a guest of an honest hypervisor gives.

mod emulated;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloister_emulator::hostile::{ATTACKS, Attack, Outcome};
use cloister_protocol::api::paths;
use cloister_protocol::evidence::{Evidence, Kind, report_data, to_hex};
use cloister_tests::guests::fixture_image;
use cloister_tests::raw::{Answer, get};
use cloister_tests::sealed::{ask, summarize_message};
use emulated::{CPU_MODEL, CPUS, EmulatedGuest};

/// No attack takes a guest longer to serve or to stop.
const LIMIT: Duration = Duration::from_secs(240);
/// Variable that chooses attacks by a part of their names.
const ONLY: &str = "CLOISTER_ATTACK";
/// The attack that takes longest: 64 pauses of a second.
const LONGEST: &str = "report-busy";

/// How often evidence is asked for.
const ATTEMPTS: usize = 3;

const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const MEASUREMENT: std::ops::Range<usize> = 0x90..0xc0;
const NONCES: [[u8; 32]; 2] = [[0x3c; 32], [0x3d; 32]];
const THREAD: &[u8] =
    br#"{"messages":[{"from":"Ana","text":"The launch moves to Thursday."}],"max_tokens":4}"#;

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

/// What a guest of an honest hypervisor answers to [`THREAD`].
fn honest_answer() -> Vec<u8> {
    let mut guest = EmulatedGuest::start(fixture_image(), "honest", "");
    assert!(guest.wait_ready(LIMIT), "{:?}", guest.said());
    check_service(&guest, None).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a guest under an attack. What it did, or how that is not what it must do.
fn carry_out(attack: &Attack, honest: &[u8]) -> Result<String, String> {
    let options = format!("hostile={}", attack.name);
    let mut guest = EmulatedGuest::start(fixture_image(), attack.name, &options);
    let did = if guest.wait_ready(LIMIT) {
        when_ready(&mut guest, attack, honest)
    } else {
        guest.wait_ended(LIMIT);
        when_ended(&guest, attack)
    };
    let log = guest.l0_log();
    let did = did.and_then(|did| {
        let done = format!("HOSTILE: {}: ", attack.name);
        let is_done = log.contains(&done);
        is_done
            .then_some(did)
            .ok_or("the attack was not carried out".to_owned())
    });
    did.map_err(|error| {
        let said = guest.said().join("\n");
        format!("{error}\n{said}\n{log}")
    })
}

/// A guest that serves: nothing that it says may be wrong, and it may stop now.
fn when_ready(guest: &mut EmulatedGuest, attack: &Attack, honest: &[u8]) -> Result<String, String> {
    if attack.expected == Outcome::NoEffect {
        let answer = check_service(guest, Some(honest));
        return answer.map(|_| "serves, with true evidence and the right answer".to_owned());
    }
    if evidence_answer(guest, &NONCES[0]).status == 200 {
        return Err("the guest attests although it must stop".to_owned());
    }
    guest.wait_ended(LIMIT);
    when_ended(guest, attack)
}

/// A guest that has ended: it must have done so by itself, and for the right reason.
fn when_ended(guest: &EmulatedGuest, attack: &Attack) -> Result<String, String> {
    let log = guest.l0_log();
    let must = |good: bool, did: String| {
        let wrong = format!("{did}, and not {:?}", attack.expected);
        if good { Ok(did) } else { Err(wrong) }
    };
    let last_words = guest.said().iter().find_map(|line| {
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

fn evidence_answer(guest: &EmulatedGuest, nonce: &[u8; 32]) -> Answer {
    let (path, name) = (paths::EVIDENCE, paths::NONCE_PARAMETER);
    get(guest.port(), &format!("{path}?{name}={}", to_hex(nonce)))
}

/// Evidence for two nonces, and the answer to a sealed request, which must be the honest one if it is known.
fn check_service(guest: &EmulatedGuest, honest: Option<&[u8]>) -> Result<Vec<u8>, String> {
    for nonce in &NONCES {
        check_evidence(guest, nonce)?;
    }
    let answer = ask(guest.port(), &summarize_message(THREAD));
    if answer.status != 200 {
        return Err(format!("a sealed request is answered with {answer:?}"));
    }
    match honest {
        Some(honest) if answer.content[..] != *honest => Err(format!("another answer: {answer:?}")),
        _ => Ok(answer.content.to_vec()),
    }
}

fn check_evidence(guest: &EmulatedGuest, nonce: &[u8; 32]) -> Result<(), String> {
    // A connection that ends without an answer is no wrong one: a clock that jumps ends what is open.
    let mut answers = (0..ATTEMPTS).map(|_| evidence_answer(guest, nonce));
    let answer = answers.find(|answer| answer.status != 0);
    let answer = answer.ok_or("no answer to a request for evidence")?;
    if answer.status != 200 {
        return Err(format!("no evidence: {}", answer.text()));
    }
    let evidence = Evidence::decode(&answer.body).map_err(|error| format!("{error:?}"))?;
    let Kind::SevSnp(report) = &evidence.kind else {
        return Err(format!("evidence of kind {}", evidence.kind.name()));
    };
    let bound = report_data(evidence.epoch, &evidence.key_configs, b"", Some(nonce));
    if report[REPORT_DATA] != bound {
        return Err("the report does not bind keys, epoch and nonce".to_owned());
    }
    let rows = &fixture_image().facts().measurements;
    let row = rows
        .iter()
        .find(|row| row.cpu == CPU_MODEL && row.vcpus == CPUS)
        .ok_or("no measurement for this launch")?;
    let measured: String = report[MEASUREMENT]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if measured == row.digest {
        Ok(())
    } else {
        Err(format!("measured {measured}, not {}", row.digest))
    }
}
