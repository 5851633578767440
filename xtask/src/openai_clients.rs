//! OpenAI's own clients, which `cargo xtask test` has talk to `cloister proxy`: from PyPI and from npm, each in a folder of
//! its own, at a pinned version.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::install::{self, InstallError};
use crate::process::{self, ProcessError};
use crate::progress::Phase;
use crate::workspace::Workspace;

/// The package `openai` of PyPI.
const PYTHON_VERSION: &str = "3.57.0";
/// The package `openai` of npm.
const NODE_VERSION: &str = "6.49.0";

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// That of PyPI.
    Python,
    /// That of npm.
    Node,
}

/// Why a client is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What it runs with is missing.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// It was not installed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is no Node.js.
    #[error("no node and npm; install nodejs and npm")]
    NoNode,
    /// Its folder cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Client {
    /// The test that has it ask, and the variable that tells the test where it is.
    pub fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::Python => ("openai::the_python_package", "CLOISTER_OPENAI_PYTHON"),
            Self::Node => ("openai::the_node_package", "CLOISTER_OPENAI_NODE"),
        }
    }

    /// What that variable says; installed now, if it is not there.
    pub fn find_or_install(self, workspace: &Workspace) -> Result<PathBuf, ClientError> {
        let tools = workspace.cloister().join("tools");
        match self {
            Self::Python => python(tools.join("openai-python")),
            Self::Node => node(tools.join("openai-node")),
        }
    }
}

fn python(folder: PathBuf) -> Result<PathBuf, ClientError> {
    let python = folder.join("bin/python");
    let mut version = Command::new(&python);
    version.args(["-c", "import openai; print(openai.__version__)"]);
    let is_there = |found: String| found.trim() == PYTHON_VERSION;
    if process::capture(&mut version, "python").is_ok_and(is_there) {
        return Ok(python);
    }
    let phase = Phase::start("Install openai from PyPI");
    let mut environment = Command::new("python3");
    environment.args(["-m", "venv", "--clear"]).arg(&folder);
    if process::capture(&mut environment, "python3 -m venv").is_err() {
        install::install(&install::VENV)?;
        process::capture(&mut environment, "python3 -m venv")?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
    pip.arg("--disable-pip-version-check");
    pip.arg(format!("openai=={PYTHON_VERSION}"));
    process::capture(&mut pip, "pip install")?;
    phase.done("");
    Ok(python)
}

fn node(folder: PathBuf) -> Result<PathBuf, ClientError> {
    if !(process::on_path("node") && process::on_path("npm")) {
        return Err(ClientError::NoNode);
    }
    let manifest = folder.join("node_modules/openai/package.json");
    let wanted = format!("\"version\": \"{NODE_VERSION}\"");
    if fs::read_to_string(&manifest).is_ok_and(|text| text.contains(&wanted)) {
        return Ok(folder);
    }
    let phase = Phase::start("Install openai from npm");
    fs::create_dir_all(&folder).map_err(|source| ClientError::Io {
        path: folder.clone(),
        source,
    })?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    npm.arg("--prefix").arg(&folder);
    npm.arg(format!("openai@{NODE_VERSION}"));
    process::capture(&mut npm, "npm install")?;
    phase.done("");
    Ok(folder)
}
