//! L0 in QEMU: its self-test, and Debian's OVMF as an independent guest.
//!
//! They need QEMU and the package `ovmf`, so they are run only when asked for: `-- --ignored`.

use cloister_emulator::qemu::{self, Machine};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
const OVMF: &str = "/usr/share/ovmf/OVMF.fd";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What a run left behind.
struct Outcome {
    status: Option<i32>,
    log: String,
}

impl Outcome {
    /// Fails with the whole log.
    fn must_say(&self, wanted: &str) {
        assert!(self.log.contains(wanted), "no {wanted:?} in:\n{}", self.log);
    }
}

/// The program `name`, built once for the bare machine, in a target directory of its own.
fn bare_metal() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare-metal");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--locked",
            "--quiet",
            "--profile",
            "guest",
            "--target",
            TARGET,
        ]);
        cargo.args([
            "--package",
            "cloister-emulator",
            "--features",
            "l0",
            "--bins",
        ]);
        cargo
            .arg("--target-dir")
            .arg(&target)
            .env_remove("RUSTFLAGS");
        let built = cargo
            .status()
            .expect("cargo runs this test, so it can be run");
        assert!(built.success(), "L0 does not build");
        target.join(TARGET).join("guest")
    })
}

fn run(
    name: &str,
    firmware: Option<PathBuf>,
    cpus: u32,
    options: &str,
    limit: Duration,
) -> Outcome {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let log = folder.join(format!("{name}.log"));
    let machine = Machine {
        l0: bare_metal().join("l0"),
        firmware,
        memory_mib: 512,
        cpus,
        options: options.into(),
        log: log.clone(),
        signer: None,
        extra: Vec::new(),
    };
    let mut qemu = Command::new(QEMU);
    qemu.args(machine.arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = qemu.spawn().expect("QEMU starts");
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill().expect("the child is ours");
            child.wait().expect("the child is ours");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let log = std::fs::read_to_string(log).expect("QEMU makes the log");
    Outcome { status, log }
}

#[test]
#[ignore = "needs QEMU"]
fn qemu_behaves_as_l0_needs_it() {
    let outcome = run("selftest", None, 1, "selftest", Duration::from_secs(120));
    outcome.must_say("0 not as expected");
    outcome.must_say("selftest: C-bit 51 chooses the memory: works");
    assert_eq!(outcome.status, Some(qemu::STATUS_DONE), "{}", outcome.log);
}

/// `sev-snp-measure --mode snp --vcpus=1 --vcpu-type=EPYC-Milan` says the same of this file; the
/// library's test compares with it for other CPU counts.
#[test]
#[ignore = "needs QEMU"]
fn ovmf_stops_at_its_known_bug() {
    let outcome = run("ovmf", Some(OVMF.into()), 1, "", Duration::from_secs(300));
    outcome.must_say("launch digest ");
    outcome.must_say("registers its GHCB");
    let is_the_measured_version = outcome.log.contains("launch digest 80479ca85a2b182c");
    if !is_the_measured_version {
        println!("another OVMF than Debian's 2022.11: not known how far it goes");
        return;
    }
    outcome.must_say("KNOWN BUG: OVMF PlatformPei, ReserveEmuVariableNvStore()");
    outcome.must_say("DIAGNOSIS: the guest got a #VC that it does not handle: 0x404");
    assert_eq!(
        outcome.status,
        Some(qemu::STATUS_DIAGNOSIS),
        "{}",
        outcome.log
    );
}
