//! The trusted computing base: which crates, how many lines and bytes run in the guest, against a budget in the
//! repository. What grows must change the budget file in the same commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::collect_files;
use crate::guest_build::Environment;
use crate::packages::{self, PackageError};
use crate::workspace::Workspace;

/// The budget file, beside the workspace's `Cargo.toml`.
pub const BUDGET_FILE: &str = "tcb-budget.json";

/// What the guest consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcb {
    /// Crates of other people that are linked into the guest, by name.
    pub crates: BTreeSet<String>,
    /// Lines of our crates in the guest: code only, without tests, comments and blank lines.
    pub own_lines: u64,
    /// Lines of other people's crates, counted the same way. What is not compiled in is counted too.
    pub crate_lines: u64,
    /// Lines of C and assembly in other people's crates, counted the same way.
    pub foreign_lines: u64,
    /// Bytes of the boot program's ELF file.
    pub boot_elf_bytes: u64,
    /// Bytes of the kernel's ELF file.
    pub kernel_elf_bytes: u64,
    /// Bytes of the ROM.
    pub rom_bytes: u64,
}

/// The count failed.
#[derive(Debug, thiserror::Error)]
pub enum TcbError {
    /// The crates could not be listed.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The budget is not the JSON of this structure.
    #[error("{BUDGET_FILE}: {0}; `cargo xtask tcb --write-budget` writes a new one")]
    Budget(serde_json::Error),
}

/// Sizes of what was built.
#[derive(Clone, Copy, Debug)]
pub struct ImageSizes {
    /// Bytes of the boot program's ELF file.
    pub boot_elf_bytes: u64,
    /// Bytes of the kernel's ELF file.
    pub kernel_elf_bytes: u64,
    /// Bytes of the ROM.
    pub rom_bytes: u64,
}

/// Counts what is in the guest.
pub fn count(workspace: &Workspace, sizes: ImageSizes) -> Result<Tcb, TcbError> {
    let mut tcb = Tcb {
        crates: BTreeSet::new(),
        own_lines: 0,
        crate_lines: 0,
        foreign_lines: 0,
        boot_elf_bytes: sizes.boot_elf_bytes,
        kernel_elf_bytes: sizes.kernel_elf_bytes,
        rom_bytes: sizes.rom_bytes,
    };
    let guest = packages::of_guest(workspace, &Environment::of_this_process())?;
    for package in guest.list {
        let lines = count_lines(&package.folder.join("src"), is_rust)?;
        match package.own {
            true => tcb.own_lines += lines,
            false => {
                tcb.crate_lines += lines;
                tcb.foreign_lines += count_lines(&package.folder, is_foreign)?;
                tcb.crates.insert(package.name);
            }
        }
    }
    Ok(tcb)
}

fn is_rust(path: &Path) -> bool {
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    path.extension().is_some_and(|extension| extension == "rs")
        && !in_tests
        && !path.ends_with("tests.rs")
}

/// C, and assembly for this processor: a crate may bring it for several (`pregenerated/aesni-x86_64-elf.S` in ring).
fn is_foreign(path: &Path) -> bool {
    let is_generated = path
        .components()
        .any(|part| part.as_os_str() == "pregenerated");
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("c" | "h" | "inl") => true,
        Some("S") if is_generated => path.to_string_lossy().ends_with("x86_64-elf.S"),
        Some("S") => !path.to_string_lossy().contains("arm"),
        _ => false,
    }
}

fn count_lines(folder: &Path, is_code: fn(&Path) -> bool) -> Result<u64, TcbError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TcbError::Io { path, source }
    };
    let mut files = Vec::new();
    if folder.is_dir() {
        collect_files(folder, &mut files).map_err(io(folder))?;
    }
    let mut lines = 0;
    for path in files.iter().filter(|path| is_code(path)) {
        lines += code_lines(&fs::read_to_string(path).map_err(io(path))?);
    }
    Ok(lines)
}

/// Lines with code: not blank, not only a comment, not in the test module that ends a file.
fn code_lines(text: &str) -> u64 {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
    // A test module stands at the end of a file in this project, and nearly everywhere else.
    let code = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim);
    code.filter(is_code).count() as u64
}

/// Every way in which `now` is larger than `budget`, one line each.
pub fn growth(now: &Tcb, budget: &Tcb) -> Vec<String> {
    let new_crates: Vec<&str> = now
        .crates
        .difference(&budget.crates)
        .map(String::as_str)
        .collect();
    let mut lines = Vec::new();
    if !new_crates.is_empty() {
        lines.push(format!(
            "new crates in the guest: {}",
            new_crates.join(", ")
        ));
    }
    let figures = [
        ("own lines", now.own_lines, budget.own_lines),
        ("lines of other crates", now.crate_lines, budget.crate_lines),
        (
            "lines of C and assembly",
            now.foreign_lines,
            budget.foreign_lines,
        ),
        (
            "bytes of boot.elf",
            now.boot_elf_bytes,
            budget.boot_elf_bytes,
        ),
        (
            "bytes of kernel.elf",
            now.kernel_elf_bytes,
            budget.kernel_elf_bytes,
        ),
        ("bytes of the ROM", now.rom_bytes, budget.rom_bytes),
    ];
    for (what, now, budget) in figures.into_iter().filter(|(_, now, budget)| now > budget) {
        lines.push(format!("{what}: {now}, the budget is {budget}"));
    }
    lines
}

/// The budget that allows `now`, rounded up so that small changes do not touch it.
pub fn budget_for(now: &Tcb) -> Tcb {
    let round = |value: u64, step: u64| (value + step / 2).next_multiple_of(step);
    Tcb {
        crates: now.crates.clone(),
        own_lines: round(now.own_lines, 500),
        crate_lines: round(now.crate_lines, 5_000),
        foreign_lines: round(now.foreign_lines, 5_000),
        boot_elf_bytes: round(now.boot_elf_bytes, 16 << 10),
        kernel_elf_bytes: round(now.kernel_elf_bytes, 64 << 10),
        rom_bytes: now.rom_bytes + (64 << 10),
    }
}

/// The budget in the repository; `None` if there is none.
pub fn read_budget(workspace: &Workspace) -> Result<Option<Tcb>, TcbError> {
    let path = workspace.root().join(BUDGET_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(TcbError::Budget),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TcbError::Io { path, source }),
    }
}

/// Writes the budget file.
pub fn write_budget(workspace: &Workspace, budget: &Tcb) -> Result<(), TcbError> {
    let path = workspace.root().join(BUDGET_FILE);
    let text = serde_json::to_string_pretty(budget).map_err(TcbError::Budget)?;
    fs::write(&path, text + "\n").map_err(|source| TcbError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcb(crates: &[&str], own_lines: u64) -> Tcb {
        Tcb {
            crates: crates.iter().map(|&name| name.to_owned()).collect(),
            own_lines,
            crate_lines: 10,
            foreign_lines: 10,
            boot_elf_bytes: 10,
            kernel_elf_bytes: 10,
            rom_bytes: 65536,
        }
    }

    #[test]
    fn only_code_is_counted() {
        let text = "//! Doc.\n\nfn a() {\n    // why\n    b();\n}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(code_lines(text), 3);
    }

    #[test]
    fn c_and_assembly_count_where_they_are_for_this_processor() {
        for path in [
            "crypto/mem.c",
            "include/x.h",
            "pregenerated/a-x86_64-elf.S",
            "asm/mul.S",
        ] {
            assert!(is_foreign(Path::new(path)), "{path}");
        }
        for path in [
            "src/lib.rs",
            "pregenerated/a-armv8-linux64.S",
            "asm/x25519-asm-arm.S",
        ] {
            assert!(!is_foreign(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn growth_is_named_and_shrinking_is_fine() {
        let budget = tcb(&["spin", "libm"], 100);
        assert!(growth(&tcb(&["spin"], 90), &budget).is_empty());
        let grown = growth(&tcb(&["spin", "libm", "extra"], 101), &budget);
        assert_eq!(
            grown,
            [
                "new crates in the guest: extra",
                "own lines: 101, the budget is 100"
            ]
        );
    }

    #[test]
    fn a_new_budget_allows_what_it_was_made_for() {
        let now = tcb(&["spin"], 12_345);
        assert!(growth(&now, &budget_for(&now)).is_empty());
    }
}
