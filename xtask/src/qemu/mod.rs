//! QEMU: find it, choose the accelerator, boot an image, read the guest's serial port.

mod accelerator;
mod console;
mod guest;
mod platform;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use accelerator::Accelerator;
pub use console::{Console, Ready, Stop};
pub use guest::{Guest, GuestError, GuestOptions, Times};
pub use platform::{EmulatedPlatform, Platform, PlatformError};

use crate::install::{self, InstallError};
use crate::process;

/// The emulator's program.
const PROGRAM: &str = "qemu-system-x86_64";
/// The first major version whose emulated SVM the emulated SNP platform was seen to run on; 7.2 does not intercept reads
/// of control registers.
const SVM_VERSION: u32 = 10;

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

    /// A QEMU that the emulated SNP platform runs on; a newer one is installed if the one that is there is too old.
    pub fn with_svm() -> Result<Self, InstallError> {
        let found = Self::find_or_install()?;
        if found.major() >= SVM_VERSION {
            return Ok(found);
        }
        let too_old = |found: Self, advice: String| InstallError::TooOld {
            tool: PROGRAM,
            found: found.version,
            needed: SVM_VERSION,
            advice,
        };
        match install::install_newer(&install::QEMU) {
            Err(InstallError::Advice { .. }) => {
                let advice = "Debian 12 has one in bookworm-backports.";
                Err(too_old(found, advice.to_owned()))
            }
            Err(other) => Err(other),
            Ok(()) => match Self::find() {
                Some(newer) if newer.major() >= SVM_VERSION => Ok(newer),
                _ => Err(too_old(
                    found,
                    "The release's backports have none.".to_owned(),
                )),
            },
        }
    }

    /// The first number of its version; 0 if it prints none.
    fn major(&self) -> u32 {
        let digits = self.version.split('.').next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let major = |version: &str| {
            let (program, version) = (PROGRAM.into(), version.to_owned());
            Qemu { program, version }.major()
        };
        assert_eq!(major("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)"), 10);
        assert_eq!(major("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"), 7);
        assert_eq!(major("unknown"), 0);
    }
}
