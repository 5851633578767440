//! One running guest: started with the flags that the firmware needs, ended when dropped.

use std::ffi::OsString;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloister_emulator::qemu::{MAX_CPUS, MAX_MEMORY_MIB, Machine, with_path};
use cloister_emulator::statistics::Statistics;

use super::console::{Console, Ready, Stop, parse_ready, parse_stop};
use super::{Accelerator, Platform, Qemu};
use crate::process::last_lines;

/// What to boot, and on which machine.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// The ROM.
    pub rom: PathBuf,
    /// The model pack, given to the guest as the fw_cfg file `opt/cloister/model`.
    pub model_pack: Option<PathBuf>,
    /// RAM.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// The port on 127.0.0.1 that leads to the guest's; a free one if not given.
    pub port: Option<u16>,
    /// The kind of machine.
    pub platform: Platform,
    /// Certificates that go with the guest's reports, given to it as the fw_cfg file `opt/cloister/certificates`; those
    /// of the emulated platform are given to a guest on it.
    pub certificates: Option<PathBuf>,
    /// The image's entry in a transparency log, given to the guest as the fw_cfg file `opt/cloister/release-note`.
    pub release_note: Option<PathBuf>,
    /// The proof that the log has it: `opt/cloister/release-proof`.
    pub release_proof: Option<PathBuf>,
    /// Whether the image serves TLS.
    pub tls: bool,
    /// Whether each serial line is repeated on standard error.
    pub echo: bool,
    /// QEMU's name of the CPU and its features on platform plain; what suits the accelerator if not given.
    pub cpu: Option<String>,
    /// Whether the machine has a network card.
    pub network: bool,
    /// More words for QEMU's command line.
    pub extra: Vec<OsString>,
}

/// A guest could not be started, or did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// QEMU could not be started.
    #[error("cannot start QEMU: {0}")]
    Start(std::io::Error),
    /// The port is taken.
    #[error("port {port} on 127.0.0.1 is in use; choose another with --port")]
    PortInUse {
        /// Which one.
        port: u16,
    },
    /// The guest stopped itself.
    #[error("the guest stopped: {0}")]
    Stopped(Stop),
    /// The emulated platform has no such machine.
    #[error(
        "the emulated SNP platform has at most {MAX_CPUS} CPUs and {MAX_MEMORY_MIB} MiB of RAM; \
         asked for were {cpus} and {memory_mib} MiB"
    )]
    NoSuchMachine {
        /// CPUs that were asked for.
        cpus: u32,
        /// RAM that was asked for.
        memory_mib: u64,
    },
    /// QEMU ended without a word from the guest that it stops.
    #[error("QEMU ended ({status}) before the guest was ready:\n{output}")]
    Ended {
        /// How QEMU ended.
        status: ExitStatus,
        /// The end of what QEMU and the guest printed.
        output: String,
    },
    /// It took too long.
    #[error("the guest was not ready after {seconds} s; its last lines:\n{output}")]
    Timeout {
        /// The limit.
        seconds: u64,
        /// The end of what the guest printed.
        output: String,
    },
}

/// When things happened, from the start of the QEMU process.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Times {
    /// First byte on the serial port.
    pub first_byte_ms: Option<f64>,
    /// First line from the kernel.
    pub kernel_ms: Option<f64>,
    /// The line that it serves.
    pub ready_ms: Option<f64>,
}

/// A running guest. Dropping it ends it.
pub struct Guest {
    child: Child,
    console: Arc<Console>,
    readers: Vec<JoinHandle<()>>,
    complaints: Arc<Console>,
    /// Kept for as long as QEMU runs: its folder holds the log and the signer's socket.
    platform: Platform,
    started: Instant,
    port: u16,
    tls: bool,
}

/// The port that the guest serves on.
const GUEST_PORT: u16 = 8080;
/// The card reaches only memory that the guest shares with it, as in a confidential virtual machine.
const NETWORK_CARD: &str = "virtio-net-pci,netdev=n0,disable-legacy=on,iommu_platform=on,romfile=";
/// How often another free port is tried when someone else took the last one.
const PORT_TRIES: usize = 5;

impl Guest {
    /// Starts QEMU and returns at once; see [`Guest::wait_ready`].
    pub fn start(qemu: &Qemu, options: &GuestOptions) -> Result<Self, GuestError> {
        options.check()?;
        if let Some(port) = options.port {
            TcpListener::bind(("127.0.0.1", port)).map_err(|_| GuestError::PortInUse { port })?;
            return Self::start_on(qemu, options, port);
        }
        let free = || {
            TcpListener::bind("127.0.0.1:0")?
                .local_addr()
                .map(|address| address.port())
        };
        for _ in 1..PORT_TRIES {
            let mut guest = Self::start_on(qemu, options, free().map_err(GuestError::Start)?)?;
            if !guest.lost_its_port() {
                return Ok(guest);
            }
        }
        Self::start_on(qemu, options, free().map_err(GuestError::Start)?)
    }

    fn start_on(qemu: &Qemu, options: &GuestOptions, port: u16) -> Result<Self, GuestError> {
        let mut command = qemu.command();
        command.args(options.command_line(port));
        let started = Instant::now();
        let mut child = spawn_tied(&command).map_err(GuestError::Start)?;
        let (console, complaints) = (Arc::new(Console::default()), Arc::new(Console::default()));
        let mut readers = Vec::new();
        if let Some(serial) = child.stdout.take() {
            readers.push(read_in_background(
                serial,
                Arc::clone(&console),
                options.echo,
            ));
        }
        if let Some(errors) = child.stderr.take() {
            readers.push(read_in_background(
                errors,
                Arc::clone(&complaints),
                options.echo,
            ));
        }
        Ok(Self {
            child,
            console,
            readers,
            complaints,
            platform: options.platform.clone(),
            started,
            port,
            tls: options.tls,
        })
    }

    /// Whether QEMU ended at once because the port was taken between our choice and its start.
    fn lost_its_port(&mut self) -> bool {
        let taken = |line: &str| {
            line.contains("Could not set up host forwarding")
                .then_some(())
        };
        let complaint = self.complaints.wait_for(Duration::from_millis(30), taken);
        complaint.is_some()
    }

    /// Waits until the guest says that it serves.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<Ready, GuestError> {
        enum Said {
            Ready(Ready),
            Stopped(Stop),
        }
        let said = self.console.wait_for(timeout, |line| {
            parse_ready(line)
                .map(Said::Ready)
                .or_else(|| parse_stop(line).map(Said::Stopped))
        });
        match said {
            Some(Said::Ready(ready)) => Ok(ready),
            Some(Said::Stopped(stop)) => Err(GuestError::Stopped(stop)),
            None => Err(self.why_not(timeout)),
        }
    }

    /// Waits until the guest stops itself and QEMU has ended.
    pub fn wait_stopped(&mut self, timeout: Duration) -> Result<(Stop, ExitStatus), GuestError> {
        let Some(stop) = self.console.wait_for(timeout, parse_stop) else {
            return Err(self.why_not(timeout));
        };
        // The guest ends QEMU with its next instruction; one that hangs instead is ended here.
        match self.wait_exit(Duration::from_secs(10)) {
            Some(status) => Ok((stop, status)),
            None => Err(GuestError::Timeout {
                seconds: 10,
                output: self.output(),
            }),
        }
    }

    fn wait_exit(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn why_not(&mut self, timeout: Duration) -> GuestError {
        match self.wait_exit(Duration::from_millis(200)) {
            Some(status) => GuestError::Ended {
                status,
                output: self.output(),
            },
            None => GuestError::Timeout {
                seconds: timeout.as_secs(),
                output: self.output(),
            },
        }
    }

    fn output(&self) -> String {
        let log: Vec<String> = self.platform_log().lines().map(str::to_owned).collect();
        let lines = [log, self.complaints.lines(), self.console.lines()].concat();
        last_lines(&lines.join("\n"))
    }

    /// What the emulated platform has logged; empty on other platforms.
    pub fn platform_log(&self) -> String {
        let log = self.platform.log();
        log.and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default()
    }

    /// What the emulated platform has counted up to the guest's last report; nothing on other platforms.
    pub fn statistics(&self) -> Option<Statistics> {
        self.platform_log()
            .lines()
            .rev()
            .find_map(Statistics::parse)
    }

    /// Whether QEMU still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until QEMU ends by itself.
    pub fn wait_end(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }

    /// What the guest prints on its serial port.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The address that clients use.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1 that leads to the guest.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resident memory of the QEMU process in bytes, where the operating system says.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }

    /// Boot times so far.
    pub fn times(&self) -> Times {
        let since =
            |time: Option<Instant>| time.map(|time| (time - self.started).as_secs_f64() * 1000.0);
        Times {
            first_byte_ms: since(self.console.first_byte()),
            kernel_ms: since(self.console.time_of(is_from_kernel)),
            ready_ms: since(self.console.time_of(|line| parse_ready(line).is_some())),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already: nothing to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// Boot speaks first, then the kernel.
fn is_from_kernel(line: &str) -> bool {
    line.strip_prefix("cloister: ")
        .is_some_and(|rest| !rest.starts_with("boot:"))
}

/// Spawns QEMU so that it ends with us even when we are killed. The kernel ties a child to the thread that started it,
/// hence one thread that starts all of them and never ends.
fn spawn_tied(command: &Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Whoever asked may be gone; then the child is dropped with the reply.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let spawn = |command: Command| {
        let (reply, outcome) = mpsc::channel();
        let orders = spawner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        orders
            .send((command, reply))
            .map_err(std::io::Error::other)?;
        outcome.recv().map_err(std::io::Error::other)?
    };
    // Part of util-linux, so there on every Linux system that is not tiny.
    let mut tied = piped("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    match spawn(tied) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut untied = piped(command.get_program());
            untied.args(command.get_args());
            spawn(untied)
        }
        spawned => spawned,
    }
}

fn piped(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn read_in_background(
    source: impl Read + Send + 'static,
    console: Arc<Console>,
    echo: bool,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        console.read_all(source, |line| {
            if echo {
                eprintln!("{line}");
            }
        });
    })
}

impl GuestOptions {
    fn check(&self) -> Result<(), GuestError> {
        let (cpus, memory_mib) = (self.cpus, self.memory_mib);
        let is_emulated = matches!(self.platform, Platform::SnpEmulated(_));
        match is_emulated && (cpus > MAX_CPUS || memory_mib > MAX_MEMORY_MIB) {
            true => Err(GuestError::NoSuchMachine { cpus, memory_mib }),
            false => Ok(()),
        }
    }

    /// The words behind QEMU's name, for a guest that is reached at this port.
    pub fn command_line(&self, port: u16) -> Vec<OsString> {
        let devices = devices(self, port);
        match &self.platform {
            Platform::Plain(accelerator) => [plain(self, *accelerator), devices].concat(),
            Platform::SnpEmulated(platform) => Machine {
                l0: platform.l0().into(),
                firmware: Some(self.rom.clone()),
                memory_mib: self.memory_mib.next_multiple_of(2),
                cpus: self.cpus,
                options: platform.options.clone(),
                log: platform.log(),
                signer: Some(platform.signer()),
                extra: devices,
            }
            .arguments(),
            Platform::Snp(launch) => [launch.machine(self), devices].concat(),
        }
    }
}

/// An ordinary machine.
fn plain(options: &GuestOptions, accelerator: Accelerator) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
    let cpu = options.cpu.as_deref().unwrap_or(accelerator.cpu());
    option("-machine", "q35".into());
    option("-accel", accelerator.option().into());
    option("-cpu", cpu.into());
    option("-m", options.memory_mib.to_string().into());
    option("-smp", options.cpus.to_string().into());
    option("-bios", options.rom.clone().into());
    option("-display", "none".into());
    option("-serial", "stdio".into());
    option("-monitor", "none".into());
    option("-device", "isa-debug-exit,iobase=0xf4,iosize=4".into());
    words.extend(["-no-reboot".into(), "-nodefaults".into()]);
    words
}

/// What the guest works with, on whichever machine: network card and files.
fn devices(options: &GuestOptions, port: u16) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
    if options.network {
        // Only loopback reaches the guest, and the guest reaches nothing: its network has no way out.
        let forward = format!("hostfwd=tcp:127.0.0.1:{port}-:{GUEST_PORT}");
        let network = format!("user,id=n0,restrict=on,{forward}");
        option("-netdev", network.into());
        option("-device", NETWORK_CARD.into());
    }
    let own_chain = match &options.platform {
        Platform::SnpEmulated(platform) => Some(platform.keys().chain()),
        Platform::Plain(_) | Platform::Snp(_) => None,
    };
    let certificates = options.certificates.clone().or(own_chain);
    let files = [
        ("model", options.model_pack.clone()),
        ("certificates", certificates),
        ("release-note", options.release_note.clone()),
        ("release-proof", options.release_proof.clone()),
    ];
    for (name, path) in files {
        if let Some(path) = path {
            let prefix = format!("name=opt/cloister/{name},file=");
            option("-fw_cfg", with_path(&prefix, &path));
        }
    }
    words.extend(options.extra.iter().cloned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::{DEFAULT_POLICY, SnpLaunch};
    use cloister_measure::CpuModel;

    fn options() -> GuestOptions {
        GuestOptions {
            rom: "rom.bin".into(),
            model_pack: Some("a,b.pack".into()),
            memory_mib: 512,
            cpus: 2,
            port: None,
            tls: false,
            platform: Platform::Plain(Accelerator::Tcg),
            certificates: None,
            release_note: None,
            release_proof: None,
            echo: false,
            cpu: None,
            network: true,
            extra: vec!["-device".into(), "edu".into()],
        }
    }

    #[test]
    fn the_command_line_is_the_documented_one() {
        let words = GuestOptions {
            release_proof: Some("release.tlog-proof".into()),
            ..options()
        }
        .command_line(8123);
        let line = words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        for part in [
            "-machine q35 -accel tcg -cpu max,-sha-ni -m 512 -smp 2 -bios rom.bin",
            "hostfwd=tcp:127.0.0.1:8123-:8080",
            "-device virtio-net-pci,netdev=n0,disable-legacy=on,iommu_platform=on,romfile=",
            "-fw_cfg name=opt/cloister/model,file=a,,b.pack -fw_cfg name=opt/cloister/release-proof,file=release.tlog-proof",
            "-device isa-debug-exit,iobase=0xf4,iosize=4",
            "-device edu",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn the_command_line_for_snp_is_the_documented_one() {
        let words = GuestOptions {
            model_pack: Some("model.pack".into()),
            certificates: Some("certificates.pem".into()),
            memory_mib: 1024,
            cpus: 1,
            platform: Platform::Snp(SnpLaunch {
                cpu: CpuModel::GENOA,
                policy: DEFAULT_POLICY,
                host_data: None,
                id_block: None,
            }),
            extra: vec![],
            ..options()
        }
        .command_line(8080);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let document = include_str!("../../../docs/launch.md");
        let documented = document
            .split("```")
            .find_map(|block| block.strip_prefix("\nqemu-system-x86_64 "))
            .expect("the document has a command line");
        let mut documented: Vec<_> = documented
            .split_whitespace()
            .filter(|word| *word != "\\")
            .collect();
        let mut found: Vec<_> = words.iter().map(AsRef::as_ref).collect();
        // Their order does not matter.
        documented.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, documented);
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let qemu = Qemu {
            program: "true".into(),
            version: String::new(),
        };
        let failure = Guest::start(
            &qemu,
            &GuestOptions {
                port: Some(port),
                ..options()
            },
        )
        .err();
        assert!(matches!(failure, Some(GuestError::PortInUse { port: named }) if named == port));
    }

    #[test]
    fn a_qemu_that_ends_at_once_is_reported_with_its_words() {
        let qemu = Qemu {
            program: "echo".into(),
            version: String::new(),
        };
        let mut guest = Guest::start(&qemu, &options()).expect("echo starts");
        let failure = guest.wait_ready(Duration::from_secs(10)).unwrap_err();
        assert!(
            matches!(&failure, GuestError::Ended { output, .. } if output.contains("q35")),
            "{failure}"
        );
    }
}
