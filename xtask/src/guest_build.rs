//! Building the two guest programs so that the bytes depend on the source only.

use std::path::{Path, PathBuf};

use crate::process::{self, ProcessError};
use crate::progress::Phase;
use crate::workspace::{Workspace, cargo};

/// Given explicitly, so that the flags below reach only the guest's code and not build scripts.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The Cargo profile of the guest programs.
pub const PROFILE: &str = "guest";

/// The two guest programs.
#[derive(Clone, Debug)]
pub struct GuestPrograms {
    /// The boot program's ELF file.
    pub boot: PathBuf,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
}

/// Builds both.
pub fn build(workspace: &Workspace) -> Result<GuestPrograms, ProcessError> {
    let phase = Phase::start("Build the guest programs");
    // A target directory of its own: other flags than the host's builds, and no waiting for their lock.
    let target = workspace.cloister().join("build");
    let programs = GuestPrograms {
        boot: build_one(workspace, &target, "cloister-boot", "boot")?,
        kernel: build_one(workspace, &target, "cloister-kernel", "kernel")?,
    };
    phase.done("");
    Ok(programs)
}

/// Builds the kernel that breaks a rule on purpose, for the tests.
pub fn build_selftest(workspace: &Workspace) -> Result<PathBuf, ProcessError> {
    let target = workspace.cloister().join("build");
    let (package, bin) = ("cloister-kernel", "kernel-selftest");
    build_with(workspace, &target, package, bin, "selftest")
}

/// Builds the hypervisor of the emulated SNP platform.
pub fn build_l0(workspace: &Workspace) -> Result<PathBuf, ProcessError> {
    let phase = Phase::start("Build the emulated platform's hypervisor");
    let target = workspace.cloister().join("build");
    let l0 = build_with(workspace, &target, "cloister-emulator", "l0", "l0")?;
    phase.done("");
    Ok(l0)
}

fn build_one(
    workspace: &Workspace,
    target: &Path,
    package: &str,
    bin: &str,
) -> Result<PathBuf, ProcessError> {
    build_with(workspace, target, package, bin, "guest")
}

fn build_with(
    workspace: &Workspace,
    target: &Path,
    package: &str,
    bin: &str,
    feature: &str,
) -> Result<PathBuf, ProcessError> {
    let mut command = cargo();
    command.current_dir(workspace.root());
    command.args([
        "build",
        "--locked",
        "--quiet",
        "--profile",
        PROFILE,
        "--target",
        TARGET,
    ]);
    command.args(["--package", package, "--features", feature, "--bin", bin]);
    command.arg("--target-dir").arg(target);
    command
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(workspace, target).join("\u{1f}"),
        )
        .env_remove("RUSTFLAGS");
    process::run(&mut command, &format!("building {package}"))?;
    Ok(target.join(TARGET).join(PROFILE).join(bin))
}

/// Folder names would otherwise be in panic messages, and two checkouts would give two images.
fn flags(workspace: &Workspace, target: &Path) -> Vec<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // When several prefixes match, rustc takes the last one: so the target directory, often inside the root, is last.
    vec![
        remap(&cargo_home(), "/cargo"),
        remap(workspace.root(), "/cloister"),
        remap(target, "/target"),
    ]
}

/// The flags as `image.json` shows them: without the names of folders.
pub fn public_flags() -> Vec<String> {
    ["CARGO_HOME=/cargo", "CHECKOUT=/cloister", "TARGET=/target"]
        .map(|mapping| format!("--remap-path-prefix={mapping}"))
        .to_vec()
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}
