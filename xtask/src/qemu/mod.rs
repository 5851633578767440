//! QEMU: find it, choose the accelerator, boot an image, read the guest's serial port.

mod accelerator;
mod console;
mod guest;
mod platform;
mod snp;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use accelerator::Accelerator;
pub use console::{Console, Ready, Stop};
pub use guest::{Guest, GuestError, GuestOptions, Times};
pub use platform::{EmulatedPlatform, Platform, PlatformError};
pub use snp::{
    DEFAULT_POLICY, SnpHostError, SnpLaunch, check_certificates, check_host, check_qemu, host_cpu,
};

use crate::install::{self, InstallError};
use crate::process;

/// The emulator's program.
const PROGRAM: &str = "qemu-system-x86_64";

/// An installed QEMU.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    version: String,
}

impl Qemu {
    /// The program, to be started.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The QEMU that is there, or is installed now.
    pub fn find_or_install() -> Result<Self, InstallError> {
        if let Some(qemu) = Self::find() {
            return Ok(qemu);
        }
        install::install(&install::QEMU)?;
        Self::find().ok_or(InstallError::StillMissing(PROGRAM))
    }

    fn find() -> Option<Self> {
        let text =
            process::capture(Command::new(PROGRAM).arg("--version"), "qemu --version").ok()?;
        let version = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("QEMU emulator version ");
        Some(Self {
            program: PROGRAM.into(),
            version: version.to_owned(),
        })
    }

    /// Its version, as it prints it.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn command(&self) -> Command {
        Command::new(&self.program)
    }
}
