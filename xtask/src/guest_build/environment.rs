//! What the build of the guest programs sees of its surroundings: where tools are and how to reach a registry, and
//! nothing that changes bytes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that are passed on as they are.
const KEPT: [&str; 16] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_AUTO_INSTALL",
    "RUSTUP_DIST_SERVER",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// And those that begin so: the way to a registry.
const KEPT_PREFIXES: [&str; 4] = [
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRY_",
    "CARGO_REGISTRIES_",
];
/// The same for everybody. What is set here also wins over Cargo's configuration files.
const FIXED: [(&str, &str); 9] = [
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("CARGO_INCREMENTAL", "0"),
    ("RUSTC_WRAPPER", ""),
    ("RUSTC_WORKSPACE_WRAPPER", ""),
    // It only passes on the words of rustc to the linker that comes with rustc.
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "cc"),
    // For the C and assembly of ring.
    ("CC_x86_64_unknown_linux_gnu", "cc"),
    ("AR_x86_64_unknown_linux_gnu", "ar"),
    ("SOURCE_DATE_EPOCH", "0"),
];

/// A caller's environment, of which the build sees a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    wrapper: Vec<OsString>,
}

impl Environment {
    /// The environment that this program was started in.
    pub fn of_this_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            wrapper: Vec::new(),
        }
    }

    /// The same with another variable, as if the caller had set it.
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same with every tool started through another program: `words`, then the tool.
    pub fn through(mut self, words: impl IntoIterator<Item = OsString>) -> Self {
        self.wrapper.extend(words);
        self
    }

    /// Cargo's folder with fetched crates.
    pub fn cargo_home(&self) -> PathBuf {
        let home = || Path::new(self.get("HOME").unwrap_or_default()).join(".cargo");
        self.get("CARGO_HOME").map_or_else(home, PathBuf::from)
    }

    /// Cargo: the one that started us, else the one on the path.
    pub fn cargo(&self) -> Command {
        self.command(self.get("CARGO").unwrap_or(OsStr::new("cargo")))
    }

    /// A tool in this environment.
    pub fn command(&self, tool: impl AsRef<OsStr>) -> Command {
        let words = self.wrapper.iter().map(OsString::as_os_str);
        let mut words = words.chain([tool.as_ref()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear();
        let kept = self.variables.iter().filter(|(name, _)| is_kept(name));
        command.envs(kept).envs(FIXED);
        command
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        Some(value.as_os_str())
    }
}

fn is_kept(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    KEPT.contains(&&*name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(environment: &Environment) -> BTreeMap<OsString, Option<OsString>> {
        let command = environment.cargo();
        let owned =
            |(name, value): (&OsStr, Option<&OsStr>)| (name.to_owned(), value.map(OsStr::to_owned));
        command.get_envs().map(owned).collect()
    }

    #[test]
    fn what_changes_bytes_does_not_reach_the_build() {
        let plain = Environment::default()
            .with("PATH", "/bin")
            .with("CARGO_NET_OFFLINE", "true");
        let mut hostile = plain.clone();
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_GUEST_OPT_LEVEL",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "RUSTUP_TOOLCHAIN",
            "CC",
            "CFLAGS",
            "CC_x86_64_unknown_linux_gnu",
            "SOURCE_DATE_EPOCH",
            "LANG",
            "LC_ALL",
            "TZ",
        ] {
            hostile = hostile.with(name, "hostile");
        }
        assert_eq!(seen(&hostile), seen(&plain));
        let seen = seen(&plain);
        assert_eq!(seen.len(), 2 + FIXED.len());
        assert_eq!(seen[OsStr::new("PATH")], Some("/bin".into()));
    }

    #[test]
    fn a_wrapper_comes_first() {
        let words = ["nice", "-n", "5"].map(OsString::from);
        let command = Environment::default().through(words).command("rustc");
        assert_eq!(command.get_program(), "nice");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["-n", "5", "rustc"]);
    }

    #[test]
    fn cargo_home_is_below_the_home_folder_unless_it_is_named() {
        let environment = Environment::default().with("HOME", "/home/ana");
        assert_eq!(environment.cargo_home(), Path::new("/home/ana/.cargo"));
        let environment = environment.with("CARGO_HOME", "/crates");
        assert_eq!(environment.cargo_home(), Path::new("/crates"));
    }
}
