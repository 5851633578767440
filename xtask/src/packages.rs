//! The crates that are linked into the guest, as Cargo lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::guest_build::{Environment, TARGET};
use crate::process::{self, ProcessError};
use crate::workspace::Workspace;

/// The crates could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Cargo failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Cargo's answer has another shape than expected.
    #[error("cargo metadata: {0}")]
    Metadata(String),
    /// `Cargo.lock` cannot be read.
    #[error("{path}: {reason}")]
    Lock {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Name and version.
pub type PackageId = (String, String);

/// A crate in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where its `Cargo.toml` is.
    pub folder: PathBuf,
    /// Whether it is part of the checkout.
    pub own: bool,
    /// Its licence as its `Cargo.toml` says.
    pub licence: Option<String>,
    /// SHA-256 of the package file in `Cargo.lock`, lower-case hex. Crates of the checkout have none.
    pub checksum: Option<String>,
}

/// The crates in the guest, sorted by name and version, and what each uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestPackages {
    /// The crates.
    pub list: Vec<Package>,
    /// Direct dependencies inside the guest.
    pub uses: BTreeMap<PackageId, BTreeSet<PackageId>>,
}

/// Lists the crates that are linked into the guest: no build scripts' dependencies, no macros.
pub fn of_guest(
    workspace: &Workspace,
    environment: &Environment,
) -> Result<GuestPackages, PackageError> {
    let uses = read_tree(&tree(workspace, environment)?);
    let known = metadata(workspace, environment)?;
    let checksums = checksums(&workspace.root().join("Cargo.lock"))?;
    let find = |id: &PackageId| {
        let found = known
            .iter()
            .find(|package| (&package.name, &package.version) == (&id.0, &id.1));
        let package =
            found.ok_or_else(|| PackageError::Metadata(format!("no package {} {}", id.0, id.1)))?;
        Ok(Package {
            checksum: checksums.get(id).cloned(),
            ..package.clone()
        })
    };
    let list: Result<Vec<Package>, PackageError> = uses.keys().map(find).collect();
    Ok(GuestPackages { list: list?, uses })
}

fn tree(workspace: &Workspace, environment: &Environment) -> Result<String, ProcessError> {
    let mut command = environment.cargo();
    command
        .current_dir(workspace.root())
        .args(["tree", "--locked", "--target", TARGET])
        .args(["--package", "cloister-boot", "--package", "cloister-kernel"])
        .args(["--features", "guest", "--edges", "normal,no-proc-macro"])
        .args(["--prefix", "depth", "--format", " {p}"]);
    process::capture(&mut command, "cargo tree")
}

/// Reads lines like `2 spin v0.12.3`: depth, name, version. What a crate uses stands below its first line.
fn read_tree(text: &str) -> BTreeMap<PackageId, BTreeSet<PackageId>> {
    let mut uses: BTreeMap<PackageId, BTreeSet<PackageId>> = BTreeMap::new();
    let mut path: Vec<PackageId> = Vec::new();
    for (depth, id) in text.lines().filter_map(depth_and_id) {
        path.truncate(depth);
        if let Some(user) = path.last() {
            uses.entry(user.clone()).or_default().insert(id.clone());
        }
        uses.entry(id.clone()).or_default();
        path.push(id);
    }
    uses
}

/// Reads `2 spin v0.12.3` or `0 cloister-boot v0.1.0 (/path)`; a repetition has ` (*)` behind it.
fn depth_and_id(line: &str) -> Option<(usize, PackageId)> {
    let mut words = line.split_whitespace();
    let depth = words.next()?.parse().ok()?;
    let name = words.next()?.to_owned();
    let version = words.next()?.strip_prefix('v')?.to_owned();
    Some((depth, (name, version)))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

fn metadata(
    workspace: &Workspace,
    environment: &Environment,
) -> Result<Vec<Package>, PackageError> {
    let mut command = environment.cargo();
    command
        .current_dir(workspace.root())
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", TARGET]);
    let text = process::capture(&mut command, "cargo metadata")?;
    let metadata: Metadata =
        serde_json::from_str(&text).map_err(|error| PackageError::Metadata(error.to_string()))?;
    let read = |package: MetadataPackage| Package {
        name: package.name,
        version: package.version,
        folder: package
            .manifest_path
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
        own: package.source.is_none(),
        licence: package.license,
        checksum: None,
    };
    Ok(metadata.packages.into_iter().map(read).collect())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<LockPackage>,
}

#[derive(Deserialize)]
struct LockPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

fn checksums(path: &Path) -> Result<BTreeMap<PackageId, String>, PackageError> {
    let error = |reason: String| PackageError::Lock {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|source| error(source.to_string()))?;
    let lock: Lock = toml::from_str(&text).map_err(|source| error(source.to_string()))?;
    let entry = |package: LockPackage| Some(((package.name, package.version), package.checksum?));
    Ok(lock.package.into_iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, version: &str) -> PackageId {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn reads_the_lines_of_cargo_tree() {
        let text = "0 boot v0.1.0 (/somewhere)\n1 spin v0.12.3\n2 lock_api v0.4.14\n1 libm v0.2.16\n\n\
                    0 kernel v0.1.0 (/elsewhere)\n1 boot v0.1.0 (/somewhere) (*)\n";
        let uses = read_tree(text);
        assert_eq!(uses.len(), 5);
        let of = |name: &str, version: &str| uses[&id(name, version)].clone();
        assert_eq!(
            of("boot", "0.1.0"),
            [id("libm", "0.2.16"), id("spin", "0.12.3")].into()
        );
        assert_eq!(of("spin", "0.12.3"), [id("lock_api", "0.4.14")].into());
        assert_eq!(of("kernel", "0.1.0"), [id("boot", "0.1.0")].into());
        assert!(of("libm", "0.2.16").is_empty());
    }

    #[test]
    fn the_guest_has_its_own_crates_and_others_with_checksums() {
        let workspace = Workspace::find().expect("the tests run in the checkout");
        let guest = of_guest(&workspace, &Environment::of_this_process()).expect("listed");
        let own = |package: &&Package| package.own;
        assert!(
            guest
                .list
                .iter()
                .any(|package| package.name == "cloister-kernel" && package.own)
        );
        for package in guest.list.iter().filter(own) {
            assert!(package.checksum.is_none() && package.folder.starts_with(workspace.root()));
        }
        for package in guest.list.iter().filter(|package| !package.own) {
            let checksum = package.checksum.as_deref().unwrap_or_default();
            assert_eq!(checksum.len(), 64, "{}", package.name);
            assert!(package.licence.is_some(), "{}", package.name);
        }
    }
}
