//! Where things are: the checkout, the target directory, and our folders below it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, ProcessError};

/// The checkout and its target directory, as Cargo sees them.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// The checkout could not be located.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// `cargo metadata` could not be run.
    #[error("cannot find the workspace: {0}")]
    Cargo(#[from] ProcessError),
    /// `cargo metadata` printed something else than expected.
    #[error("cannot find the workspace: cargo metadata has no field `{0}`")]
    Field(&'static str),
}

impl Workspace {
    /// Asks Cargo, so that `CARGO_TARGET_DIR` and configuration files are honoured.
    pub fn find() -> Result<Self, WorkspaceError> {
        let mut command = cargo();
        command.args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ]);
        let text = process::capture(&mut command, "cargo metadata")?;
        let metadata: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let path = |field: &'static str| {
            let value = metadata.get(field).and_then(|value| value.as_str());
            value.map(PathBuf::from).ok_or(WorkspaceError::Field(field))
        };
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
        })
    }

    /// A checkout at `root` with this target directory, whatever Cargo would choose.
    pub fn at(root: &Path, target: &Path) -> Self {
        Self {
            root: root.to_owned(),
            target: target.to_owned(),
        }
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// `target/cloister`: everything that xtask makes.
    pub fn cloister(&self) -> PathBuf {
        self.target.join("cloister")
    }

    /// `target/cloister/image`: the image that `run` boots.
    pub fn image(&self) -> PathBuf {
        self.cloister().join("image")
    }

    /// `target/cloister/models`: fetched models, by digest.
    pub fn models(&self) -> PathBuf {
        self.cloister().join("models")
    }

    /// `target/cloister/packs`: model packs made before, by what went into them.
    pub fn packs(&self) -> PathBuf {
        self.cloister().join("packs")
    }

    /// `target/cloister/peers`: other engines that are built from source.
    pub fn peers(&self) -> PathBuf {
        self.cloister().join("peers")
    }

    /// `target/cloister/log`: the demonstration's transparency log.
    pub fn log(&self) -> PathBuf {
        self.cloister().join("log")
    }

    /// `target/cloister/issuer`: the demonstration's issuer of anonymous tokens.
    pub fn issuer(&self) -> PathBuf {
        self.cloister().join("issuer")
    }

    /// `target/cloister/bench`: results of benchmarks.
    pub fn bench(&self) -> PathBuf {
        self.cloister().join("bench")
    }
}

/// The Cargo that started us, else the one on the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
