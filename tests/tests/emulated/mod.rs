//! A guest on the emulated SNP platform, started for one test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use cloister_emulator::qemu::Machine;
use cloister_tests::guests::{qemu, workspace};
use xtask::image_build::Image;
use xtask::workspace::cargo;

/// The guest's CPUs, and the model whose signature the launch measures.
pub(crate) const CPUS: u32 = 1;
pub(crate) const CPU_MODEL: &str = "EPYC-Milan";
const MEMORY_MIB: u64 = 512;

/// The hypervisor, built for the bare machine.
fn l0() -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
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
    };
    BUILT.get_or_init(build).clone()
}

/// A guest; killed when dropped.
pub(crate) struct EmulatedGuest {
    qemu: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    port: u16,
    log: PathBuf,
}

impl EmulatedGuest {
    /// Starts the image, with L0's options. `name` names the log.
    pub(crate) fn start(image: &Image, name: &str, options: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let folder = workspace().cloister().join("test-images/l0-logs");
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let log = folder.join(format!("{name}.log"));
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
            options: options.to_owned(),
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
            said: Vec::new(),
            port,
            log,
        }
    }

    /// Waits until the guest serves (true) or the machine ends.
    pub(crate) fn wait_ready(&mut self, limit: Duration) -> bool {
        self.wait_for(limit, |line| line.starts_with("cloister: ready "))
    }

    /// Waits until the machine ends. False: it goes on.
    pub(crate) fn wait_ended(&mut self, limit: Duration) -> bool {
        let started = Instant::now();
        let is_line = self.wait_for(limit, |_| false);
        assert!(!is_line, "no line is waited for");
        while started.elapsed() < limit {
            if self.qemu.try_wait().expect("the child is ours").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Collects lines until one is as wanted (true), the last one has come, or the time is over.
    fn wait_for(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.said.push(line);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// The lines of the serial port so far.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// L0's log so far.
    pub(crate) fn l0_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The port on 127.0.0.1 that leads to the guest's service.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EmulatedGuest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
