//! The image as an SEV-SNP guest on the emulated platform: the very bytes that run on a plain machine boot, attest and
//! answer.
//!
//! It shows that the image runs on our emulator, strict, and nothing about hardware: see `emulator/`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use cloister_emulator::qemu::Machine;
use cloister_protocol::api::paths;
use cloister_protocol::evidence::{Evidence, Kind, report_data, to_hex};
use cloister_tests::guests::{fixture_image, qemu, workspace};
use cloister_tests::raw::get;
use cloister_tests::sealed::{ask, summarize_message};
use xtask::image_build::Image;
use xtask::workspace::cargo;

/// The emulated guest's CPUs, and the model whose signature the launch measures.
const CPUS: u32 = 1;
const CPU_MODEL: &str = "EPYC-Milan";
const MEMORY_MIB: u64 = 512;
/// No test waits longer for the guest.
const BOOT_TIMEOUT: Duration = Duration::from_secs(240);

/// Fields of an attestation report (AMD 56860, `ATTESTATION_REPORT`).
const VMPL: usize = 0x30;
const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const MEASUREMENT: std::ops::Range<usize> = 0x90..0xc0;

/// The hypervisor, built for the bare machine.
fn l0() -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target = workspace().cloister().join("build");
    let mut build = cargo();
    build
        .current_dir(workspace().root())
        .env_remove("RUSTFLAGS");
    build.args(["build", "--locked", "--quiet", "--profile", "guest"]);
    build.args(["--target", TARGET, "--package", "cloister-emulator"]);
    build.args(["--features", "l0", "--bin", "l0", "--target-dir"]);
    let status = build.arg(&target).status().expect("cargo runs");
    assert!(status.success(), "L0 does not build");
    target.join(TARGET).join("guest/l0")
}

/// A guest on the emulated platform; killed when dropped.
struct EmulatedGuest {
    qemu: Child,
    lines: Receiver<String>,
    port: u16,
    log: PathBuf,
}

impl EmulatedGuest {
    fn start(image: &Image) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let log = workspace().cloister().join("test-images/l0.log");
        let mut extra: Vec<String> = vec![
            "-netdev".to_owned(),
            format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:8080"),
            "-device".to_owned(),
            "virtio-net-pci,netdev=n0,disable-legacy=on,iommu_platform=on,romfile=".to_owned(),
        ];
        if let Some(pack) = image.model_pack() {
            let file = format!("name=opt/cloister/model,file={}", pack.display());
            extra.extend(["-fw_cfg".to_owned(), file]);
        }
        let machine = Machine {
            l0: l0(),
            firmware: Some(image.rom()),
            memory_mib: MEMORY_MIB,
            cpus: CPUS,
            options: String::new(),
            log: log.clone(),
            signer: None,
            extra: extra.into_iter().map(Into::into).collect(),
        };
        let mut qemu = Command::new(qemu().program())
            .args(machine.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("QEMU starts");
        let serial = BufReader::new(qemu.stdout.take().expect("it was asked for"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in serial.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            qemu,
            lines,
            port,
            log,
        }
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + BOOT_TIMEOUT;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with("cloister: ready ") => return,
                Ok(line) => said += &format!("{line}\n"),
                Err(error) => panic!("{error}; the guest said:\n{said}\nL0:\n{}", self.l0_log()),
            }
        }
    }

    fn l0_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Evidence for a nonce.
    fn evidence(&self, nonce: &[u8; 32]) -> Evidence {
        let (path, name) = (paths::EVIDENCE, paths::NONCE_PARAMETER);
        let answer = get(self.port, &format!("{path}?{name}={}", to_hex(nonce)));
        assert_eq!(answer.status, 200, "{}", answer.text());
        Evidence::decode(&answer.body).expect("evidence")
    }
}

impl Drop for EmulatedGuest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[test]
fn the_measured_bytes_boot_attest_and_answer() {
    let image = fixture_image();
    let guest = EmulatedGuest::start(image);
    guest.wait_ready();

    let nonce = [0x3c; 32];
    let evidence = guest.evidence(&nonce);
    let Kind::SevSnp(report) = &evidence.kind else {
        panic!("evidence of kind {}", evidence.kind.name());
    };
    let bound = report_data(evidence.epoch, &evidence.key_configs, b"", Some(&nonce));
    assert_eq!(report[REPORT_DATA], bound, "bound to keys, epoch and nonce");
    assert_eq!(report[VMPL..VMPL + 4], [0; 4]);

    let rows = &image.facts().measurements;
    let row = rows
        .iter()
        .find(|row| row.cpu == CPU_MODEL && row.vcpus == CPUS)
        .expect("a row for this launch");
    let measured: String = report[MEASUREMENT]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        measured, row.digest,
        "`image.json` foretells the measurement"
    );
    assert!(
        guest
            .l0_log()
            .contains(&format!("launch digest {}", row.digest)),
        "{}",
        guest.l0_log()
    );

    let Kind::SevSnp(second) = guest.evidence(&[0x3d; 32]).kind else {
        panic!("another kind of evidence");
    };
    assert_ne!(
        report[REPORT_DATA], second[REPORT_DATA],
        "a report for each nonce"
    );

    let thread =
        br#"{"messages":[{"from":"Ana","text":"The launch moves to Thursday."}],"max_tokens":4}"#;
    let answer = ask(guest.port, &summarize_message(thread));
    assert_eq!(answer.status, 200, "{answer:?}");
}
