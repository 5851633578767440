//! QEMU's command line for L0 and a firmware image.

use std::ffi::OsString;
use std::path::PathBuf;

/// fw_cfg file with the firmware image.
pub const FIRMWARE_FILE: &str = "opt/cloister/firmware";
/// fw_cfg file with L0's options, see [`crate::checks::Options`].
pub const OPTIONS_FILE: &str = "opt/cloister/l0";
/// L0 writes its log to this port, one byte after the other.
pub const LOG_PORT: u16 = 0xe9;
/// A CPU with SVM, 52 physical address bits for the C-bit, and five levels of tables; without instructions for SHA-256,
/// which cost an emulated CPU five times what they save.
pub const CPU: &str = "EPYC-Milan,phys-bits=52,+la57,-sha-ni";
/// The most CPUs of a guest.
pub const MAX_CPUS: u32 = 2;
/// The most RAM of a guest: it has to end below the devices at 4 GiB.
pub const MAX_MEMORY_MIB: u64 = 2048;
/// Memory for L0 itself, its tables and the firmware's private pages, beside the guest's own.
const L0_MIB: u64 = 128;

/// Status of QEMU when the guest asked for its end (isa-debug-exit of 1).
pub const STATUS_TERMINATED: i32 = 3;
/// Status of QEMU when L0 stopped the guest with a diagnosis (isa-debug-exit of 2).
pub const STATUS_DIAGNOSIS: i32 = 5;
/// Status of QEMU when the self-test failed (isa-debug-exit of 3).
pub const STATUS_SELFTEST: i32 = 7;
/// Status of QEMU when L0 did all that it was asked for (isa-debug-exit of 0x10).
pub const STATUS_DONE: i32 = 0x21;

/// One emulated SNP machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program `l0`.
    pub l0: PathBuf,
    /// The firmware image, if not only the self-test shall run.
    pub firmware: Option<PathBuf>,
    /// The guest's RAM: a multiple of 2, at most [`MAX_MEMORY_MIB`].
    pub memory_mib: u64,
    /// The guest's CPUs, at most [`MAX_CPUS`].
    pub cpus: u32,
    /// Words of [`crate::checks::Options`].
    pub options: String,
    /// Where L0's log goes: a file, as QEMU opens it.
    pub log: PathBuf,
    /// Socket of the program that signs reports; without one, reports are not signed.
    pub signer: Option<PathBuf>,
    /// More arguments: devices, fw_cfg files. The guest's serial port is standard output.
    pub extra: Vec<OsString>,
}

impl Machine {
    /// Arguments of `qemu-system-x86_64`.
    pub fn arguments(&self) -> Vec<OsString> {
        let memory = self.memory_mib;
        let mut arguments: Vec<OsString> = [
            "-machine",
            "q35",
            "-accel",
            "tcg",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-cpu",
            CPU,
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=4",
            "-device",
            "isa-debugcon,iobase=0xe9,chardev=l0log",
            "-device",
            "pc-dimm,memdev=l0",
        ]
        .map(OsString::from)
        .into();
        let mut push = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        push("-m", format!("{memory}M,slots=1,maxmem=16G").into());
        let size = memory + L0_MIB;
        push(
            "-object",
            format!("memory-backend-ram,id=l0,size={size}M").into(),
        );
        push("-smp", self.cpus.to_string().into());
        push("-chardev", with_path("file,id=l0log,path=", &self.log));
        push("-kernel", self.l0.clone().into());
        if let Some(firmware) = &self.firmware {
            let prefix = format!("name={FIRMWARE_FILE},file=");
            push("-fw_cfg", with_path(&prefix, firmware));
        }
        if !self.options.is_empty() {
            push(
                "-fw_cfg",
                format!("name={OPTIONS_FILE},string={}", self.options).into(),
            );
        }
        if let Some(socket) = &self.signer {
            push("-chardev", with_path("socket,id=signer,path=", socket));
            push(
                "-device",
                "isa-serial,iobase=0x2e8,irq=3,chardev=signer".into(),
            );
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// A word of QEMU's command line that ends in a path. In QEMU's option lists a comma inside a value is written twice.
pub fn with_path(prefix: &str, path: &std::path::Path) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{prefix}{path}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_as_large_as_the_guest_and_l0_need() {
        let machine = Machine {
            l0: "l0".into(),
            firmware: Some("a,b.fd".into()),
            memory_mib: 512,
            cpus: 2,
            options: "trace".into(),
            log: "log".into(),
            signer: None,
            extra: vec!["-S".into()],
        };
        let arguments = machine.arguments();
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        assert!(has("memory-backend-ram,id=l0,size=640M"));
        assert!(has("name=opt/cloister/firmware,file=a,,b.fd"));
        assert!(has("name=opt/cloister/l0,string=trace"));
        assert!(has("-S") && !has("socket"));
    }
}
