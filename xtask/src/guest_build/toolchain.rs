//! Which compiler, Cargo and linker make the guest programs: the pinned ones, or nothing is built. The C compiler and
//! the assembler, for ring, are those of the machine, and named.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{BuildError, Environment, TARGET};
use crate::process;
use crate::workspace::Workspace;

/// The file that pins the version, beside the workspace's `Cargo.toml`.
const PIN_FILE: &str = "rust-toolchain.toml";

/// The tools, by what they say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// `rustc --version`.
    pub rustc: String,
    /// Commit that the compiler was built from.
    pub commit: String,
    /// Version of its LLVM.
    pub llvm: String,
    /// `cargo --version`.
    pub cargo: String,
    /// What the linker says, which comes with the compiler.
    pub linker: String,
    /// First line of `cc --version`.
    pub cc: String,
    /// First line of `as --version`.
    pub assembler: String,
    /// The compiler's folder.
    pub sysroot: PathBuf,
}

#[derive(Deserialize)]
struct PinFile {
    toolchain: Pin,
}

#[derive(Deserialize)]
struct Pin {
    channel: String,
}

impl Toolchain {
    /// Asks the tools that a build in `environment` would use, and refuses others than the pinned ones.
    pub fn find(workspace: &Workspace, environment: &Environment) -> Result<Self, BuildError> {
        let pinned = pinned(workspace)?;
        let ask = |tool: &str, words: &[&str]| {
            let mut command = match tool {
                "cargo" => environment.cargo(),
                _ => environment.command(tool),
            };
            command.current_dir(workspace.root()).args(words);
            let text = process::capture(&mut command, &format!("{tool} {}", words.join(" ")))?;
            Ok::<String, BuildError>(text.trim().to_owned())
        };
        let rustc = ask("rustc", &["-vV"])?;
        let field = |name: &str| {
            let mut lines = rustc.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.unwrap_or_default().to_owned()
        };
        require("rustc", &field("release"), &pinned)?;
        let cargo = ask("cargo", &["--version"])?;
        require(
            "cargo",
            cargo.split(' ').nth(1).unwrap_or_default(),
            &pinned,
        )?;
        let sysroot = PathBuf::from(ask("rustc", &["--print", "sysroot"])?);
        let linker = linker(&sysroot);
        let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        Ok(Self {
            cc: first_line(ask("cc", &["--version"])?),
            assembler: first_line(ask("as", &["--version"])?),
            commit: field("commit-hash"),
            llvm: field("LLVM version"),
            linker: ask(&linker.to_string_lossy(), &["-flavor", "gnu", "--version"])?,
            rustc: first_line(rustc),
            cargo,
            sysroot,
        })
    }
}

/// Where rustc finds its own linker.
fn linker(sysroot: &Path) -> PathBuf {
    let tools = sysroot.join("lib/rustlib").join(TARGET).join("bin");
    tools.join("rust-lld")
}

fn pinned(workspace: &Workspace) -> Result<String, BuildError> {
    let path = workspace.root().join(PIN_FILE);
    let text = fs::read_to_string(&path).map_err(|source| BuildError::Io {
        path: path.clone(),
        source,
    })?;
    let file: PinFile = toml::from_str(&text).map_err(|error| BuildError::Pin {
        path,
        reason: error.to_string(),
    })?;
    Ok(file.toolchain.channel)
}

fn require(tool: &'static str, found: &str, pinned: &str) -> Result<(), BuildError> {
    match found == pinned {
        true => Ok(()),
        false => Err(BuildError::Toolchain {
            tool,
            found: found.to_owned(),
            pinned: pinned.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_at_hand_are_the_pinned_ones() {
        let workspace = Workspace::find().expect("the tests run in the checkout");
        let tools = Toolchain::find(&workspace, &Environment::of_this_process()).expect("pinned");
        assert!(tools.rustc.starts_with("rustc "), "{}", tools.rustc);
        assert_eq!(tools.commit.len(), 40);
        assert!(tools.linker.starts_with("LLD "), "{}", tools.linker);
        assert!(tools.llvm.contains('.') && tools.cargo.starts_with("cargo "));
        assert!(tools.cc.contains('.') && tools.assembler.contains('.'));
    }

    #[test]
    fn another_version_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pin = "[toolchain]\nchannel = \"1.2.3\"\n";
        fs::write(folder.path().join(PIN_FILE), pin).expect("written");
        let workspace = Workspace::at(folder.path(), &folder.path().join("target"));
        // Rustup would look for that version; the tools of this test are taken directly.
        let here = Workspace::find().expect("the tests run in the checkout");
        let environment = Environment::of_this_process();
        let tools = Toolchain::find(&here, &environment).expect("pinned");
        let mut path = tools.sysroot.join("bin").into_os_string();
        path.push(":/usr/bin:/bin");
        let environment = environment.with("PATH", path);
        let refused = Toolchain::find(&workspace, &environment).unwrap_err();
        assert!(
            matches!(&refused, BuildError::Toolchain { tool: "rustc", pinned, .. } if pinned == "1.2.3"),
            "{refused}"
        );
    }
}
