//! llama.cpp: built from the sources inside the source package of `llama-cpp-python`, with a driver of ours.
//!
//! Everything is below `target/cloister/peers/llama-cpp-python-VERSION` and is built once for each state of the driver,
//! compiler and CPU.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::digest;
use crate::install::{self, InstallError};
use crate::models::{Pip, PipError};
use crate::process::{self, ProcessError};
use crate::progress::Phase;

/// The package.
const PACKAGE: &str = "llama-cpp-python";
/// Its pinned version.
const VERSION: &str = "0.3.36";
/// Its source archive.
const ARCHIVE: &str = "llama_cpp_python-0.3.36.tar.gz";
/// SHA-256 of the archive.
const ARCHIVE_SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
/// llama.cpp inside the archive.
const FOLDER_IN_ARCHIVE: &str = "llama_cpp_python-0.3.36/vendor/llama.cpp";
/// Commit of llama.cpp that the package carries.
const COMMIT: &str = "0c1e570";

const DRIVER: &str = include_str!("llama_driver.cpp");
const PROJECT: &str = include_str!("CMakeLists.txt");

/// Compilers of GNU up to this one get the set-up of AMX tiles wrong: llama.cpp then crashes.
const LAST_GCC_WITHOUT_AMX: u32 = 12;

/// llama.cpp could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlamaError {
    /// Pip is missing or failed.
    #[error(transparent)]
    Pip(#[from] PipError),
    /// A tool of the build is missing.
    #[error("building llama.cpp: {0}")]
    Install(#[from] InstallError),
    /// A step of the build failed.
    #[error(
        "building llama.cpp: {0}\nThe build is below target/cloister/peers; remove that folder to begin anew."
    )]
    Build(#[from] ProcessError),
    /// The archive is not the pinned one.
    #[error(
        "{ARCHIVE}: SHA-256 is {found}, but {ARCHIVE_SHA256} is pinned; the package index served something else"
    )]
    Digest {
        /// What was computed.
        found: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A build of llama.cpp and its driver.
#[derive(Clone, Debug)]
pub struct Build {
    /// Which instructions were allowed, as outputs say it.
    pub name: &'static str,
    /// The driver: see the head of `llama_driver.cpp`.
    pub driver: PathBuf,
}

/// All builds that suit this machine.
#[derive(Clone, Debug)]
pub struct Llama {
    /// One, or two where AMX makes a difference.
    pub builds: Vec<Build>,
    /// Package, commit, compiler, and what of the CPU was left out, for people.
    pub description: String,
}

/// Which instructions a build may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// Whatever this CPU has, and it has no AMX.
    Native,
    /// Whatever this CPU has, AMX with it.
    Amx,
    /// Whatever this CPU has but AMX.
    NoAmx,
}

impl Variant {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Amx => "AMX",
            Self::NoAmx => "AMX off",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Amx => "amx",
            Self::NoAmx => "no-amx",
        }
    }

    /// For the C and the C++ compiler, beside `-march=native`.
    fn flags(self) -> &'static str {
        match self {
            Self::Native | Self::Amx => "",
            Self::NoAmx => "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16",
        }
    }
}

/// The builds for a CPU and a compiler, and what is to be said about AMX.
fn variants(cpu_has_amx: bool, gcc: Option<u32>) -> (&'static [Variant], &'static str) {
    match (cpu_has_amx, gcc) {
        (false, _) => (&[Variant::Native], "this CPU offers no AMX"),
        (true, Some(version)) if version <= LAST_GCC_WITHOUT_AMX => (
            &[Variant::NoAmx],
            "AMX off: this GCC gets llama.cpp's tile set-up wrong, with it the program crashes",
        ),
        (true, _) => (&[Variant::Amx, Variant::NoAmx], "with AMX and without"),
    }
}

impl Llama {
    /// The builds below `peers`, made now if they are not there.
    ///
    /// # Errors
    /// [`LlamaError`] when the sources, a compiler or CMake cannot be had, or the build fails.
    pub fn find_or_build(peers: &Path) -> Result<Self, LlamaError> {
        let folder = peers.join(format!("{PACKAGE}-{VERSION}"));
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let compiler = compiler()?;
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has_amx = flags_of(&cpu).any(|flag| flag == "amx_int8");
        let (variants, note) = variants(has_amx, gcc_version(&compiler));
        let source = source(&folder)?;
        let builds = variants.iter().map(|&variant| {
            let driver = build(&folder, &source, variant, &compiler, &cpu)?;
            Ok(Build {
                name: variant.name(),
                driver,
            })
        });
        Ok(Self {
            builds: builds.collect::<Result<_, LlamaError>>()?,
            description: format!("{PACKAGE} {VERSION} (llama.cpp {COMMIT}), {compiler}, {note}"),
        })
    }
}

/// The flags in the text of /proc/cpuinfo, those of the first CPU.
pub fn flags_of(cpuinfo: &str) -> impl Iterator<Item = &str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let flags = line
        .and_then(|line| line.split_once(':'))
        .map(|(_, flags)| flags);
    flags.unwrap_or_default().split_whitespace()
}

/// First line of what the compiler says of itself.
fn compiler() -> Result<String, LlamaError> {
    let version = || process::capture(Command::new("c++").arg("--version"), "c++ --version");
    let text = match version() {
        Err(ProcessError::Missing { .. }) => {
            install::install(&install::CXX)?;
            version()
        }
        other => other,
    };
    Ok(text?
        .lines()
        .next()
        .unwrap_or("an unnamed compiler")
        .to_owned())
}

/// The major version in a line such as `c++ (Debian 12.2.0-14) 12.2.0`; `None` for other compilers.
fn gcc_version(line: &str) -> Option<u32> {
    if line.contains("clang") {
        return None;
    }
    let (_, version) = line.rsplit_once(") ")?;
    version.split('.').next()?.trim().parse().ok()
}

/// The folder of llama.cpp's sources, fetched if they are not there.
fn source(folder: &Path) -> Result<PathBuf, LlamaError> {
    let source = folder.join("source");
    let llama = source.join(FOLDER_IN_ARCHIVE);
    if llama.is_dir() {
        return Ok(llama);
    }
    let phase = Phase::start(format!("Fetch {PACKAGE} {VERSION}, 77 MB (MIT)"));
    let inbox = folder.join("inbox");
    let _ = fs::remove_dir_all(&inbox);
    fs::create_dir_all(&inbox).map_err(at(&inbox))?;
    Pip::find_or_install()?.download_source(PACKAGE, VERSION, &inbox)?;
    let archive = inbox.join(ARCHIVE);
    let found = digest::of_file(&archive).map_err(at(&archive))?;
    if found != ARCHIVE_SHA256 {
        return Err(LlamaError::Digest { found });
    }
    let mut tar = Command::new("tar");
    tar.arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(&inbox)
        .arg(FOLDER_IN_ARCHIVE);
    process::capture(&mut tar, "unpacking the sources")?;
    fs::remove_file(&archive).map_err(at(&archive))?;
    // Complete or not there at all.
    fs::rename(&inbox, &source).map_err(at(&source))?;
    phase.done("digest is the pinned one");
    Ok(llama)
}

/// The driver of one variant.
fn build(
    folder: &Path,
    source: &Path,
    variant: Variant,
    compiler: &str,
    cpu: &str,
) -> Result<PathBuf, LlamaError> {
    let output = folder.join(variant.folder());
    let (driver, stamp) = (output.join("llama_driver"), output.join("stamp"));
    let flags: Vec<&str> = flags_of(cpu).collect();
    let state = [DRIVER, PROJECT, variant.flags(), compiler, &flags.join(" ")].join("\0");
    let state = digest::of_bytes(state.as_bytes());
    if driver.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == state) {
        return Ok(driver);
    }
    if !process::on_path("cmake") {
        install::install(&install::CMAKE)?;
    }
    for (name, text) in [("llama_driver.cpp", DRIVER), ("CMakeLists.txt", PROJECT)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(at(&path))?;
    }
    let phase = Phase::start(format!("Build llama.cpp ({})", variant.name()));
    for (mut command, what) in [
        (configure(folder, &output, source, variant), "cmake"),
        (make(&output), "cmake --build"),
    ] {
        let (status, text) = process::run_with(&mut command, what, |line| phase.note(line))?;
        if !status.success() {
            let (what, tail) = (what.to_owned(), process::last_lines(&text));
            return Err(LlamaError::Build(ProcessError::Failed {
                what,
                status,
                tail,
            }));
        }
    }
    fs::write(&stamp, state).map_err(at(&stamp))?;
    phase.done("");
    Ok(driver)
}

/// A release build of the library alone, with threads of its own: OpenMP's would go on spinning between measurements.
fn configure(folder: &Path, output: &Path, source: &Path, variant: Variant) -> Command {
    let mut command = Command::new("cmake");
    command.arg("-S").arg(folder).arg("-B").arg(output);
    command.arg(format!("-DLLAMA_SOURCE={}", source.display()));
    for language in ["C", "CXX"] {
        command.arg(format!("-DCMAKE_{language}_FLAGS={}", variant.flags()));
    }
    command.args([
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_SHARED_LIBS=OFF",
        "-DGGML_NATIVE=ON",
        "-DGGML_OPENMP=OFF",
        "-DLLAMA_BUILD_COMMON=OFF",
        "-DLLAMA_OPENSSL=OFF",
    ]);
    command
}

fn make(output: &Path) -> Command {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut command = Command::new("cmake");
    command.arg("--build").arg(output);
    command.args(["--target", "llama_driver", "--parallel", &jobs.to_string()]);
    command
}

fn at(path: &Path) -> impl Fn(io::Error) -> LlamaError + use<> {
    let path = path.to_owned();
    move |source| LlamaError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_known_by_its_first_line() {
        assert_eq!(
            gcc_version("c++ (Debian 12.2.0-14+deb12u1) 12.2.0"),
            Some(12)
        );
        assert_eq!(gcc_version("g++ (GCC) 14.1.1 20240607"), Some(14));
        assert_eq!(gcc_version("Debian clang version 14.0.6"), None);
        assert_eq!(gcc_version(""), None);
    }

    #[test]
    fn amx_is_left_out_where_the_compiler_gets_it_wrong() {
        assert_eq!(variants(false, Some(12)).0, [Variant::Native]);
        let (built, note) = variants(true, Some(12));
        assert_eq!(built, [Variant::NoAmx]);
        assert!(note.starts_with("AMX off"), "{note}");
        assert_eq!(variants(true, Some(13)).0, [Variant::Amx, Variant::NoAmx]);
        assert_eq!(variants(true, None).0, [Variant::Amx, Variant::NoAmx]);
    }

    #[test]
    fn flags_are_those_of_the_first_cpu() {
        let cpuinfo =
            "processor\t: 0\nflags\t\t: fpu avx2 amx_int8\n\nprocessor\t: 1\nflags\t\t: fpu\n";
        assert_eq!(
            flags_of(cpuinfo).collect::<Vec<_>>(),
            ["fpu", "avx2", "amx_int8"]
        );
        assert_eq!(flags_of("").count(), 0);
    }

    #[test]
    fn the_archive_belongs_to_the_package() {
        let stem = format!("{}-{VERSION}", PACKAGE.replace('-', "_"));
        assert_eq!(ARCHIVE, format!("{stem}.tar.gz"));
        assert!(FOLDER_IN_ARCHIVE.starts_with(&stem));
    }
}
