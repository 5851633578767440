//! Missing tools: installed when root on Debian, else named with the command to run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, ProcessError};
use crate::progress::Phase;

/// A tool that comes in a Debian package.
pub struct Tool {
    /// What people call it.
    pub name: &'static str,
    /// The Debian package.
    pub package: &'static str,
    /// Whether the release's own package can conflict with newer ones that are installed, so that backports are tried.
    pub backports: bool,
}

/// The emulator.
pub const QEMU: Tool = Tool {
    name: "qemu-system-x86_64",
    package: "qemu-system-x86",
    backports: true,
};
/// Debian's build of OVMF: a guest of another make for the emulated SNP platform.
pub const OVMF: Tool = Tool {
    name: "OVMF",
    package: "ovmf",
    backports: false,
};
/// The package index's client.
pub const PIP: Tool = Tool {
    name: "pip",
    package: "python3-pip",
    backports: false,
};
/// What makes a Python environment of its own.
pub const VENV: Tool = Tool {
    name: "python3 with venv",
    package: "python3-venv",
    backports: false,
};
/// What configures and starts the build of llama.cpp.
pub const CMAKE: Tool = Tool {
    name: "cmake",
    package: "cmake",
    backports: false,
};
/// A C++ compiler, and make and the C library's headers with it.
pub const CXX: Tool = Tool {
    name: "a C++ compiler",
    package: "build-essential",
    backports: false,
};

/// A tool is missing and was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not Debian, or not root.
    #[error("{tool} is not installed. {advice}")]
    Advice {
        /// The tool.
        tool: &'static str,
        /// What to run.
        advice: String,
    },
    /// apt-get failed.
    #[error("installing {tool}: {source}")]
    Apt {
        /// The tool.
        tool: &'static str,
        /// What apt-get said.
        source: ProcessError,
    },
    /// The backports suite could not be added.
    #[error("installing {tool}: {reason}")]
    Backports {
        /// The tool.
        tool: &'static str,
        /// Why not.
        reason: String,
    },
    /// apt-get succeeded, and the tool is still not there.
    #[error("{0} was installed, but does not run")]
    StillMissing(&'static str),
}

/// Installs `tool` if this is Debian and we are root.
pub fn install(tool: &Tool) -> Result<(), InstallError> {
    let system = System::detect();
    if !(system.debian && system.root) {
        return Err(InstallError::Advice {
            tool: tool.name,
            advice: system.advice(tool),
        });
    }
    let phase = Phase::start(format!("Install {}", tool.package));
    // The package lists may be missing or old; when they cannot be refreshed the install itself says what is wrong.
    let refreshed = apt(&["update"]).is_ok();
    let plain = apt(&install_words(tool, None));
    if plain.is_ok() || !tool.backports {
        phase.done(if refreshed {
            ""
        } else {
            "package lists could not be refreshed"
        });
        return plain.map_err(|source| InstallError::Apt {
            tool: tool.name,
            source,
        });
    }
    phase.note("the release's package conflicts with what is installed: trying backports");
    let suite = add_backports(tool, &system)?;
    apt(&install_words(tool, Some(&suite))).map_err(|source| InstallError::Apt {
        tool: tool.name,
        source,
    })?;
    phase.done(&format!("from {suite}"));
    Ok(())
}

fn install_words<'a>(tool: &Tool, suite: Option<&'a str>) -> Vec<&'a str>
where
    'static: 'a,
{
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    if let Some(suite) = suite {
        words.extend(["--target-release", suite]);
    }
    words.push(tool.package);
    words
}

fn apt(words: &[&str]) -> Result<(), ProcessError> {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(words);
    process::capture(&mut command, &format!("apt-get {}", words[0])).map(drop)
}

/// What matters about this machine.
struct System {
    debian: bool,
    root: bool,
    codename: Option<String>,
}

impl System {
    fn detect() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let root =
            process::capture(Command::new("id").arg("-u"), "id").is_ok_and(|id| id.trim() == "0");
        Self {
            debian: process::on_path("apt-get"),
            root,
            codename: codename(&release),
        }
    }

    fn advice(&self, tool: &Tool) -> String {
        match self.debian {
            true => format!("Run: sudo apt-get install {}", tool.package),
            false => format!(
                "Install it with this system's package manager (the Debian package is called {}) and run the command again.",
                tool.package
            ),
        }
    }
}

/// `VERSION_CODENAME` of an os-release file.
fn codename(release: &str) -> Option<String> {
    let value = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned())
}

/// Adds the backports suite beside the sources that are there, unless one of them has it, and returns its name.
fn add_backports(tool: &Tool, system: &System) -> Result<String, InstallError> {
    let fail = |reason: String| InstallError::Backports {
        tool: tool.name,
        reason,
    };
    let codename = system
        .codename
        .as_deref()
        .ok_or_else(|| fail("/etc/os-release names no release".to_owned()))?;
    let suite = format!("{codename}-backports");
    let sources = read_sources(Path::new("/etc/apt"));
    if let Some(line) = backports_source(&sources, codename).map_err(fail)? {
        let path = Path::new("/etc/apt/sources.list.d/cloister-backports.list");
        fs::write(path, line).map_err(|error| fail(format!("{}: {error}", path.display())))?;
    }
    apt(&["update"]).map_err(|source| InstallError::Apt {
        tool: tool.name,
        source,
    })?;
    Ok(suite)
}

/// Every line of apt's source files; stanzas of the newer format are turned into one-line form.
fn read_sources(folder: &Path) -> Vec<Source> {
    let listed = fs::read_dir(folder.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.push(folder.join("sources.list"));
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(text.split("\n\n").filter_map(Source::from_stanza)),
            Some("list") => sources.extend(text.lines().filter_map(Source::from_line)),
            _ => {}
        }
    }
    sources
}

/// One entry of apt's sources.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    signed_by: Option<String>,
}

impl Source {
    /// `deb [options] URI suite components...`
    fn from_line(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?.to_owned();
        let suites = vec![words.next()?.to_owned()];
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        Some(Self {
            uri,
            suites,
            signed_by: signed_by.map(str::to_owned),
        })
    }

    /// The `Types:`, `URIs:`, `Suites:` form.
    fn from_stanza(stanza: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut values = stanza.lines().filter_map(|line| line.split_once(':'));
            values
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        if !field("Types")?.split_whitespace().any(|word| word == "deb") {
            return None;
        }
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        let suites = field("Suites")?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        Some(Self {
            uri,
            suites,
            signed_by: field("Signed-By").map(str::to_owned),
        })
    }
}

/// The source line to add for the backports of `codename`; `None` when a source has them already.
fn backports_source(sources: &[Source], codename: &str) -> Result<Option<String>, String> {
    let backports = format!("{codename}-backports");
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for source in sources {
        seen.extend(source.suites.iter().map(String::as_str));
        if source.suites.contains(&backports) {
            return Ok(None);
        }
    }
    let base = sources
        .iter()
        .find(|source| source.suites.iter().any(|suite| suite == codename));
    let Some(base) = base else {
        return Err(format!(
            "no package source for {codename} to derive {backports} from (found: {seen:?})"
        ));
    };
    let options = base
        .signed_by
        .as_ref()
        .map(|key| format!("[signed-by={key}] "))
        .unwrap_or_default();
    Ok(Some(format!(
        "deb {options}{} {backports} main\n",
        base.uri
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
                          Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";

    #[test]
    fn backports_are_derived_from_the_sources_that_are_there() {
        let stanza = Source::from_stanza(STANZA).expect("a stanza");
        let line = backports_source(&[stanza], "bookworm")
            .expect("derived")
            .expect("a line");
        let expected = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                        http://mirror.test/debian bookworm-backports main\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn one_line_sources_are_read_too() {
        let line =
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian trixie main contrib";
        let source = Source::from_line(line).expect("a source");
        assert_eq!(
            (source.uri.as_str(), source.signed_by.as_deref()),
            ("http://mirror.test/debian", Some("/k.gpg"))
        );
        assert_eq!(source.suites, ["trixie"]);
        assert_eq!(
            Source::from_line("# deb http://mirror.test trixie main"),
            None
        );
        assert_eq!(
            Source::from_line("deb-src http://mirror.test trixie main"),
            None
        );
    }

    #[test]
    fn nothing_is_added_when_backports_are_there() {
        let sources = [
            Source::from_stanza(STANZA).expect("a stanza"),
            Source::from_line("deb http://mirror.test/debian bookworm-backports main")
                .expect("a line"),
        ];
        assert_eq!(backports_source(&sources, "bookworm"), Ok(None));
    }

    #[test]
    fn an_unknown_release_is_an_error_that_names_it() {
        let sources = [Source::from_stanza(STANZA).expect("a stanza")];
        let reason = backports_source(&sources, "trixie").unwrap_err();
        assert!(
            reason.contains("trixie") && reason.contains("bookworm"),
            "{reason}"
        );
    }

    #[test]
    fn the_release_is_read_from_os_release() {
        assert_eq!(
            codename("NAME=x\nVERSION_CODENAME=bookworm\n").as_deref(),
            Some("bookworm")
        );
        assert_eq!(codename("NAME=x\n"), None);
    }

    #[test]
    fn the_words_for_apt() {
        let words = install_words(&QEMU, Some("bookworm-backports"));
        let expected = "install --yes --no-install-recommends --target-release bookworm-backports qemu-system-x86";
        assert_eq!(words.join(" "), expected);
        assert_eq!(
            install_words(&PIP, None).join(" "),
            "install --yes --no-install-recommends python3-pip"
        );
    }

    #[test]
    fn without_root_the_command_is_named() {
        let advice = |debian| {
            System {
                debian,
                root: false,
                codename: None,
            }
            .advice(&QEMU)
        };
        assert_eq!(advice(true), "Run: sudo apt-get install qemu-system-x86");
        assert!(advice(false).contains("qemu-system-x86"));
    }
}
