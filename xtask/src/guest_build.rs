//! Building the guest programs so that the bytes depend on the source and the pinned tools only.

mod environment;
mod toolchain;

use std::path::PathBuf;

pub use environment::Environment;
pub use toolchain::Toolchain;

use crate::packages::{self, GuestPackages, PackageError};
use crate::process::{self, ProcessError};
use crate::progress::Phase;
use crate::workspace::Workspace;

/// Given explicitly, so that the flags below reach only the guest's code and not build scripts.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The Cargo profile of the guest programs.
pub const PROFILE: &str = "guest";
/// The profile's settings, those of `Cargo.toml`. On the command line they win over every configuration file.
pub const SETTINGS: [&str; 10] = [
    "opt-level=3",
    "debug=false",
    "strip='debuginfo'",
    "debug-assertions=false",
    "overflow-checks=false",
    "lto=false",
    "panic='abort'",
    "incremental=false",
    "codegen-units=1",
    "rpath=false",
];

/// Options for C that some systems' compilers have on by themselves: what they call is not in the guest.
const C_FLAGS: [&str; 3] = [
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-U_FORTIFY_SOURCE",
];

/// The guest programs could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The crates of the guest could not be listed.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// Another tool than the pinned one: the bytes would be others.
    #[error(
        "{tool} is {found}, but rust-toolchain.toml pins {pinned}; start cargo without `+toolchain`, or install that \
         version (rustup toolchain install {pinned})"
    )]
    Toolchain {
        /// Which tool.
        tool: &'static str,
        /// Its version.
        found: String,
        /// The version that is pinned.
        pinned: String,
    },
    /// The file that pins the version is not one.
    #[error("{path}: {reason}")]
    Pin {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The two guest programs.
#[derive(Clone, Debug)]
pub struct GuestPrograms {
    /// The boot program's ELF file.
    pub boot: PathBuf,
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// What they were made with.
    pub toolchain: Toolchain,
    /// The crates in them.
    pub packages: GuestPackages,
}

/// Builds both.
pub fn build(
    workspace: &Workspace,
    environment: &Environment,
) -> Result<GuestPrograms, BuildError> {
    let phase = Phase::start("Build the guest programs");
    let builder = Builder::new(workspace, environment)?;
    let programs = GuestPrograms {
        boot: builder.build("cloister-boot", "boot", "guest")?,
        kernel: builder.build("cloister-kernel", "kernel", "guest")?,
        toolchain: builder.toolchain,
        packages: builder.packages,
    };
    phase.done("");
    Ok(programs)
}

/// Builds the kernel that breaks a rule on purpose, for the tests.
pub fn build_selftest(workspace: &Workspace) -> Result<PathBuf, BuildError> {
    let environment = Environment::of_this_process();
    let builder = Builder::new(workspace, &environment)?;
    builder.build("cloister-kernel", "kernel-selftest", "selftest")
}

/// Builds the hypervisor of the emulated SNP platform.
pub fn build_l0(workspace: &Workspace) -> Result<PathBuf, BuildError> {
    let phase = Phase::start("Build the emulated platform's hypervisor");
    let environment = Environment::of_this_process();
    let builder = Builder::new(workspace, &environment)?;
    let l0 = builder.build("cloister-emulator", "l0", "l0")?;
    phase.done("");
    Ok(l0)
}

struct Builder<'a> {
    workspace: &'a Workspace,
    environment: &'a Environment,
    target: PathBuf,
    toolchain: Toolchain,
    packages: GuestPackages,
}

impl<'a> Builder<'a> {
    fn new(workspace: &'a Workspace, environment: &'a Environment) -> Result<Self, BuildError> {
        Ok(Self {
            workspace,
            environment,
            // A target directory of its own: other flags than the host's builds, and no waiting for their lock.
            target: workspace.cloister().join("build"),
            toolchain: Toolchain::find(workspace, environment)?,
            packages: packages::of_guest(workspace, environment)?,
        })
    }

    fn build(&self, package: &str, bin: &str, feature: &str) -> Result<PathBuf, BuildError> {
        let mut command = self.environment.cargo();
        command.current_dir(self.workspace.root());
        command.args(["build", "--locked", "--quiet"]);
        command.args(["--profile", PROFILE, "--target", TARGET]);
        command.args(["--package", package, "--features", feature, "--bin", bin]);
        command.arg("--target-dir").arg(&self.target);
        for setting in SETTINGS {
            command.args(["--config", &format!("profile.{PROFILE}.{setting}")]);
        }
        let mappings = self.mappings();
        let flags = |option: &str| -> Vec<String> {
            let flag = |(from, to): &(PathBuf, String)| format!("{option}={}={to}", from.display());
            mappings.iter().map(flag).collect()
        };
        command
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                flags("--remap-path-prefix").join("\u{1f}"),
            )
            .env(
                "CFLAGS_x86_64_unknown_linux_gnu",
                [
                    C_FLAGS.map(str::to_owned).to_vec(),
                    flags("-ffile-prefix-map"),
                ]
                .concat()
                .join(" "),
            );
        // Directly: what rustup puts in its place would choose anew in each crate's folder.
        command.env("RUSTC", self.toolchain.sysroot.join("bin/rustc"));
        process::run(&mut command, &format!("building {package}"))?;
        Ok(self.target.join(TARGET).join(PROFILE).join(bin))
    }

    /// Folder names would otherwise be in panic messages, and two checkouts would give two images. When several
    /// prefixes match, rustc takes the last one: so the target directory, often inside the root, is last. Crates have
    /// names of their own, so that it does not matter whether they come from a registry, a mirror or a vendor folder.
    fn mappings(&self) -> Vec<(PathBuf, String)> {
        let crates = self.packages.list.iter().filter(|package| !package.own);
        let crates = crates.map(|package| {
            let name = format!("/crates/{}-{}", package.name, package.version);
            (package.folder.clone(), name)
        });
        let library = self.toolchain.sysroot.join("lib/rustlib/src/rust");
        let start = [
            (self.environment.cargo_home(), "/cargo".to_owned()),
            (self.workspace.root().to_owned(), "/cloister".to_owned()),
        ];
        let end = [
            // Only where the component rust-src is installed; elsewhere the name is this one already.
            (library, format!("/rustc/{}", self.toolchain.commit)),
            (self.target.clone(), "/target".to_owned()),
        ];
        start.into_iter().chain(crates).chain(end).collect()
    }
}

/// The flags as `image.json` shows them, without the names of folders; then what compiles C and assembly, and its flags.
pub fn public_flags(toolchain: &Toolchain) -> Vec<String> {
    let mappings = [
        "CARGO_HOME=/cargo",
        "CHECKOUT=/cloister",
        "CRATE=/crates/NAME-VERSION",
        "SYSROOT/lib/rustlib/src/rust=/rustc/COMMIT",
        "TARGET=/target",
    ]
    .map(|mapping| format!("--remap-path-prefix={mapping}"));
    let tools = [
        format!("CC={}", toolchain.cc),
        format!("AS={}", toolchain.assembler),
        format!("CFLAGS={}", C_FLAGS.join(" ")),
    ];
    [&mappings[..], &tools[..]].concat()
}
