//! Builds the committed code twice: once as it is asked for here, once in surroundings that are as different as this
//! machine allows.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloister_boot::manifest::Serving;
use tempfile::TempDir;

use super::{Difference, ReproduceError, at, compare};
use crate::guest_build::{Environment, Toolchain};
use crate::image_build::{self, Image, ImageInputs};
use crate::models::{self, ModelChoice};
use crate::process;
use crate::workspace::Workspace;

/// The second build's user, where root asks for it: `nobody`.
const OTHER_USER: u32 = 65534;
/// Source of a library that gives programs another date.
const OTHER_CLOCK: &str = include_str!("other_clock.c");
/// What a user may have set, and what must not matter.
const HOSTILE: [(&str, &str); 22] = [
    ("RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_ENCODED_RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_BUILD_RUSTFLAGS", "-Copt-level=1"),
    ("CARGO_BUILD_TARGET", "wasm32-unknown-unknown"),
    ("CARGO_INCREMENTAL", "1"),
    ("CARGO_PROFILE_GUEST_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_GUEST_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "false"),
    (
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-Copt-level=1",
    ),
    ("CC", "false"),
    ("CFLAGS", "-O0"),
    ("CC_x86_64_unknown_linux_gnu", "false"),
    ("RUSTC_BOOTSTRAP", "1"),
    ("RUSTC_WRAPPER", "false"),
    ("RUSTC_WORKSPACE_WRAPPER", "false"),
    ("RUSTUP_TOOLCHAIN", "nightly"),
    ("SOURCE_DATE_EPOCH", "1"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("TZ", "Pacific/Kiritimati"),
    ("USER", "somebody-else"),
];
/// A configuration file of Cargo's above the second checkout.
const HOSTILE_CONFIG: &str = "\
[build]
incremental = true
rustc-wrapper = \"false\"
rustflags = [\"-Copt-level=1\"]
[env]
SOURCE_DATE_EPOCH = \"2\"
[profile.guest]
codegen-units = 16
opt-level = 1
[target.x86_64-unknown-linux-gnu]
linker = \"false\"
rustflags = [\"-Copt-level=1\"]
";

/// Two builds and what came of them.
#[derive(Debug)]
pub struct Reproduction {
    /// The commit that was built.
    pub commit: String,
    /// Whether the checkout has changes that were not built.
    pub modified: bool,
    /// What was different for the second build.
    pub varied: Vec<String>,
    /// What could not be made different here, and why.
    pub not_varied: Vec<String>,
    /// Where the images differ.
    pub differences: Vec<Difference>,
    /// The two images; gone unless they are kept.
    pub images: [PathBuf; 2],
    /// Digest of the first ROM.
    pub rom_sha256: String,
    /// How long each build took.
    pub took: [Duration; 2],
}

/// Builds what is committed twice, with `model`, and compares.
pub fn twice(
    workspace: &Workspace,
    model: &ModelChoice,
    keep: bool,
) -> Result<Reproduction, ReproduceError> {
    let folder = tempfile::Builder::new()
        .prefix("cloister-reproduce-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .map_err(at(&std::env::temp_dir()))?;
    // Fetched and checked once; a copy of the file serves both.
    models::obtain(model, &workspace.models())?;
    let here = Environment::of_this_process();
    let first = Place::first(folder.path());
    let second = Place::second(folder.path());
    for place in [&first, &second] {
        place.fill(workspace)?;
    }
    let elsewhere = Elsewhere::prepare(workspace, &second, folder.path(), &here)?;
    let (one, took_first) = first.build("first", model, here)?;
    let (_, took_second) = second.build("second", model, elsewhere.environment)?;
    let differences = compare(&first.image, &second.image)?;
    release(folder, keep);
    Ok(Reproduction {
        commit: one.facts().source.commit.clone(),
        modified: is_modified(workspace),
        varied: elsewhere.varied,
        not_varied: elsewhere.not_varied,
        differences,
        rom_sha256: one.facts().rom.sha256.clone(),
        images: [first.image, second.image],
        took: [took_first, took_second],
    })
}

fn release(folder: TempDir, keep: bool) {
    match keep {
        true => drop(folder.keep()),
        false => drop(folder),
    }
}

fn is_modified(workspace: &Workspace) -> bool {
    let mut git = Command::new("git");
    git.current_dir(workspace.root());
    git.args(["status", "--porcelain", "--untracked-files=no"]);
    process::capture(&mut git, "git status").is_ok_and(|text| !text.trim().is_empty())
}

/// Where one of the two builds takes place.
struct Place {
    workspace: Workspace,
    image: PathBuf,
}

impl Place {
    fn first(base: &Path) -> Self {
        let folder = base.join("a");
        Self {
            workspace: Workspace::at(&folder.join("src"), &folder.join("out")),
            image: folder.join("image"),
        }
    }

    /// Deeper, under other names, with the target directory inside of the checkout.
    fn second(base: &Path) -> Self {
        let folder = base.join("another/place/for/it");
        let root = folder.join("cloister-checkout");
        Self {
            workspace: Workspace::at(&root, &root.join("target")),
            image: folder.join("result"),
        }
    }

    /// A clone of what is committed, and the models that were fetched before.
    fn fill(&self, original: &Workspace) -> Result<(), ReproduceError> {
        let root = self.workspace.root();
        fs::create_dir_all(root).map_err(at(root))?;
        // Another user must be able to read it, whatever mask this one has.
        let mut git = Command::new("sh");
        git.args(["-c", "umask 022; exec git \"$@\"", "sh"]);
        git.args(["clone", "--quiet", "--local"]);
        git.arg(original.root()).arg(root);
        process::capture(&mut git, "git clone").map_err(ReproduceError::Clone)?;
        if original.models().is_dir() {
            copy_tree(&original.models(), &self.workspace.models(), &|_| true)?;
        }
        Ok(())
    }

    fn build(
        &self,
        which: &'static str,
        model: &ModelChoice,
        environment: Environment,
    ) -> Result<(Image, Duration), ReproduceError> {
        let started = Instant::now();
        let inputs = ImageInputs {
            model,
            log_policy: None,
            token_issuer: None,
            serving: Serving::default(),
            environment,
        };
        let image = image_build::build_from(&self.workspace, &inputs, &self.image);
        let image = image.map_err(|source| ReproduceError::Build {
            which,
            source: Box::new(source),
        })?;
        Ok((image, started.elapsed()))
    }
}

/// The second build's surroundings.
struct Elsewhere {
    environment: Environment,
    varied: Vec<String>,
    not_varied: Vec<String>,
}

impl Elsewhere {
    fn prepare(
        workspace: &Workspace,
        place: &Place,
        base: &Path,
        here: &Environment,
    ) -> Result<Self, ReproduceError> {
        let tools = base.join("toolchain");
        let cargo_home = base.join("crates/of/another-user");
        let temporary = base.join("temporary");
        let build = place.workspace.cloister().join("build");
        for folder in [&build, &temporary] {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        copy_toolchain(&Toolchain::find(workspace, here)?.sysroot, &tools)?;
        copy_crates(workspace, &here.cargo_home(), &cargo_home)?;
        let config = base.join("another/.cargo/config.toml");
        let folder = base.join("another/.cargo");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        fs::write(&config, HOSTILE_CONFIG).map_err(at(&config))?;

        let mut path = tools.join("bin").into_os_string();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        let environment = HOSTILE
            .iter()
            .fold(here.clone(), |all, (name, value)| all.with(*name, *value));
        let environment = environment
            .with("CARGO", tools.join("bin/cargo"))
            .with("CARGO_HOME", &cargo_home)
            .with("CARGO_NET_OFFLINE", "true")
            .with("HOME", &temporary)
            .with("PATH", path)
            .with("TMPDIR", &temporary);
        let mut elsewhere = Self {
            environment,
            varied: vec![
                "checkout, target directory, CARGO_HOME, HOME, TMPDIR".to_owned(),
                "folder of the toolchain".to_owned(),
                format!(
                    "{} variables, locale and time zone among them",
                    HOSTILE.len()
                ),
                "a configuration file of Cargo's above the checkout".to_owned(),
            ],
            not_varied: Vec::new(),
        };
        elsewhere.change_user(base, &[&build, &temporary, &cargo_home])?;
        elsewhere.change_clock(base)?;
        elsewhere.change_mask();
        Ok(elsewhere)
    }

    fn change_user(&mut self, base: &Path, folders: &[&PathBuf]) -> Result<(), ReproduceError> {
        let user = format!("--reuid={OTHER_USER}");
        let group = format!("--regid={OTHER_USER}");
        let words = ["setpriv", &user, &group, "--clear-groups"].map(OsString::from);
        let mut test = Command::new("setpriv");
        test.args(&words[1..]).args(["test", "-x"]).arg(base);
        if process::capture(&mut test, "setpriv").is_err() {
            let why = "user: needs root, setpriv and a temporary folder that others can enter";
            self.not_varied.push(why.to_owned());
            return Ok(());
        }
        for folder in folders {
            give_away(folder)?;
        }
        self.varied.push(format!("user ({OTHER_USER})"));
        self.environment = std::mem::take(&mut self.environment).through(words);
        Ok(())
    }

    fn change_clock(&mut self, base: &Path) -> Result<(), ReproduceError> {
        let (source, library) = (base.join("other_clock.c"), base.join("other_clock.so"));
        fs::write(&source, OTHER_CLOCK).map_err(at(&source))?;
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-fPIC", "-shared", "-o"])
            .args([&library, &source]);
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(&library);
        let words = [OsString::from("env"), preload];
        let changed = self.environment.clone().through(words);
        let year = |environment: &Environment| {
            let mut date = environment.command("date");
            process::capture(date.arg("+%Y"), "date")
        };
        match process::capture(&mut cc, "cc").and_then(|_| year(&changed)) {
            Ok(other) if year(&self.environment).is_ok_and(|year| year != other) => {
                self.varied
                    .push(format!("clock (in the year {})", other.trim()));
                self.environment = changed;
            }
            _ => {
                let why = "clock: needs cc, and a system with LD_PRELOAD";
                self.not_varied.push(why.to_owned());
            }
        }
        Ok(())
    }

    fn change_mask(&mut self) {
        self.varied.push("umask (077)".to_owned());
        let words = ["sh", "-c", "umask 077; exec \"$@\"", "sh"].map(OsString::from);
        self.environment = std::mem::take(&mut self.environment).through(words);
    }
}

/// Programs and libraries; the documentation beside them is large.
fn copy_toolchain(from: &Path, to: &Path) -> Result<(), ReproduceError> {
    for part in ["bin", "lib"] {
        copy_tree(&from.join(part), &to.join(part), &|_| true)?;
    }
    Ok(())
}

/// What Cargo fetched before of the crates in `Cargo.lock`, so that nothing is fetched twice; it unpacks them again.
fn copy_crates(workspace: &Workspace, from: &Path, to: &Path) -> Result<(), ReproduceError> {
    let lock = workspace.root().join("Cargo.lock");
    let text = fs::read_to_string(&lock).map_err(at(&lock))?;
    let wanted = crate_files(&text);
    let registry = |home: &Path, part: &str| home.join("registry").join(part);
    fs::create_dir_all(to).map_err(at(to))?;
    if registry(from, "cache").is_dir() {
        let (from, to) = (registry(from, "cache"), registry(to, "cache"));
        copy_tree(&from, &to, &|name| wanted.contains(name))?;
    }
    // Cargo writes to the index: so these are copies. Where there is none, crates are in a vendor folder.
    let index = registry(from, "index");
    if index.is_dir() {
        duplicate_tree(&index, &registry(to, "index"))?;
    }
    for name in ["config.toml", "config"] {
        let file = from.join(name);
        if file.is_file() {
            fs::copy(&file, to.join(name)).map_err(at(&file))?;
        }
    }
    Ok(())
}

/// `NAME-VERSION.crate` of every package in a `Cargo.lock`.
fn crate_files(lock: &str) -> BTreeSet<String> {
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(rest.strip_suffix('"')?.to_owned())
    };
    let (mut files, mut name) = (BTreeSet::new(), String::new());
    for line in lock.lines() {
        if let Some(found) = value(line, "name") {
            name = found;
        } else if let Some(version) = value(line, "version") {
            files.insert(format!("{name}-{version}.crate"));
        }
    }
    files
}

/// Links files from one folder into another one, or copies them where links do not work.
fn copy_tree(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), ReproduceError> {
    each_file(from, to, &|file, copy| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match wanted(&name) && fs::hard_link(file, copy).is_err() {
            true => fs::copy(file, copy).map(drop),
            false => Ok(()),
        }
    })
}

fn duplicate_tree(from: &Path, to: &Path) -> Result<(), ReproduceError> {
    each_file(from, to, &|file, copy| fs::copy(file, copy).map(drop))
}

/// Makes the folders of `from` below `to` too, and its symbolic links, and does `work` for each file and its twin.
fn each_file(
    from: &Path,
    to: &Path,
    work: &dyn Fn(&Path, &Path) -> std::io::Result<()>,
) -> Result<(), ReproduceError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (file, twin) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(at(&file))?;
        if kind.is_dir() {
            each_file(&file, &twin, work)?;
        } else if kind.is_symlink() {
            let goal = fs::read_link(&file).map_err(at(&file))?;
            symlink(goal, &twin).map_err(at(&twin))?;
        } else {
            work(&file, &twin).map_err(at(&twin))?;
        }
    }
    Ok(())
}

/// Gives folders to the other user, and files that are not links to somebody else's.
fn give_away(folder: &Path) -> Result<(), ReproduceError> {
    use std::os::unix::fs::MetadataExt as _;
    let give = |path: &Path| chown(path, Some(OTHER_USER), Some(OTHER_USER)).map_err(at(path));
    give(folder)?;
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let (path, about) = (entry.path(), entry.metadata().map_err(at(folder))?);
        if about.is_dir() {
            give_away(&path)?;
        } else if about.is_file() && about.nlink() == 1 {
            give(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_fetched_files() {
        let lock = "version = 4\n[[package]]\nname = \"spin\"\nversion = \"0.12.3\"\n\n\
                    [[package]]\nname = \"libm\"\nversion = \"0.2.16\"\n";
        let files = crate_files(lock);
        assert!(files.contains("spin-0.12.3.crate") && files.contains("libm-0.2.16.crate"));
    }

    #[test]
    fn a_tree_is_linked_and_a_part_of_it_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("sub")).expect("made");
        fs::write(from.join("sub/a"), "1").expect("written");
        fs::write(from.join("b"), "2").expect("written");
        symlink("b", from.join("link")).expect("linked");
        copy_tree(&from, &to, &|name| name != "b").expect("linked");
        assert_eq!(fs::read_to_string(to.join("sub/a")).expect("there"), "1");
        assert!(!to.join("b").exists());
        assert_eq!(
            fs::read_link(to.join("link")).expect("there"),
            Path::new("b")
        );
    }

    #[test]
    fn the_hostile_configuration_is_one() {
        let table: toml::Table = HOSTILE_CONFIG.parse().expect("TOML");
        assert!(table["profile"]["guest"]["opt-level"].is_integer());
    }
}
