//! The kinds of machine that a guest can be given.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use cloister_emulator::hierarchy::{Hierarchy, HierarchyError};
use cloister_emulator::signing;
use tempfile::TempDir;

use super::{Accelerator, SnpLaunch};
use crate::guest_build::{self, BuildError};
use crate::progress::Phase;
use crate::workspace::Workspace;

/// A kind of machine.
#[derive(Clone, Debug)]
pub enum Platform {
    /// An ordinary virtual machine.
    Plain(Accelerator),
    /// An SEV-SNP guest on the platform in software.
    SnpEmulated(EmulatedPlatform),
    /// An SEV-SNP guest on hardware.
    Snp(SnpLaunch),
}

impl Platform {
    /// The name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain",
            Self::SnpEmulated(_) => "snp-emulated",
            Self::Snp(_) => "snp",
        }
    }

    /// How instructions are run.
    pub fn accelerator(&self) -> Accelerator {
        match self {
            Self::Plain(accelerator) => *accelerator,
            // Its hypervisor runs on the SVM of an emulated CPU.
            Self::SnpEmulated(_) => Accelerator::Tcg,
            Self::Snp(_) => Accelerator::Kvm,
        }
    }

    /// Where the platform logs, if it does.
    pub(super) fn log(&self) -> Option<PathBuf> {
        match self {
            Self::Plain(_) | Self::Snp(_) => None,
            Self::SnpEmulated(platform) => Some(platform.log()),
        }
    }
}

/// The SNP platform in software: its hypervisor, and the keys that sign its reports.
#[derive(Clone, Debug)]
pub struct EmulatedPlatform {
    /// Words for the hypervisor, see [`cloister_emulator::checks::Options`].
    pub(super) options: String,
    l0: PathBuf,
    keys: Arc<Hierarchy>,
    /// Signer's socket and log. It is removed with the last copy.
    folder: Arc<TempDir>,
}

/// The emulated platform cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The hypervisor does not build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There are no keys for it.
    #[error("the emulated platform's keys: {0}")]
    Keys(#[from] HierarchyError),
    /// Nobody can sign its reports.
    #[error("the emulated platform's signer: {0}")]
    Signer(#[from] io::Error),
}

impl EmulatedPlatform {
    /// Builds the hypervisor, makes the user's keys if there are none yet, and waits for reports to sign.
    pub fn prepare(workspace: &Workspace) -> Result<Self, PlatformError> {
        let l0 = guest_build::build_l0(workspace)?;
        let keys = Arc::new(open_keys()?);
        Ok(Self::start(l0, keys, "")?)
    }

    /// The same platform for one more guest beside others: with words for the hypervisor and a log of its own.
    pub fn with_options(&self, options: &str) -> io::Result<Self> {
        Self::start(self.l0.clone(), Arc::clone(&self.keys), options)
    }

    fn start(l0: PathBuf, keys: Arc<Hierarchy>, options: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cloister-").tempdir()?;
        let platform = Self {
            options: options.to_owned(),
            l0,
            keys,
            folder: Arc::new(folder),
        };
        platform.sign_in_background()?;
        Ok(platform)
    }

    /// The platform's keys.
    pub fn keys(&self) -> &Hierarchy {
        &self.keys
    }

    pub(super) fn l0(&self) -> &Path {
        &self.l0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("l0.log")
    }

    pub(super) fn signer(&self) -> PathBuf {
        self.folder.path().join("signer")
    }

    /// Every guest has a connection of its own, which ends with its QEMU.
    fn sign_in_background(&self) -> io::Result<()> {
        let listener = UnixListener::bind(self.signer())?;
        let keys = Arc::clone(&self.keys);
        thread::spawn(move || {
            for guest in listener.incoming().map_while(Result::ok) {
                let keys = Arc::clone(&keys);
                thread::spawn(move || {
                    if let Err(error) = signing::serve(guest, |report| keys.sign(report)) {
                        eprintln!("the emulated platform's signer: {error}");
                    }
                });
            }
        });
        Ok(())
    }
}

fn open_keys() -> Result<Hierarchy, HierarchyError> {
    let folder = Hierarchy::user_folder()?;
    if folder.exists() {
        return Hierarchy::open_or_create(&folder);
    }
    let phase = Phase::start("Make the keys of this user's emulated platform, once");
    let keys = Hierarchy::open_or_create(&folder)?;
    phase.done(&format!("in {}", folder.display()));
    Ok(keys)
}
