//! `sbom.cdx.json`: what is in the guest, as a CycloneDX 1.5 document. The same image gives the same bytes: there is no
//! time and no serial number in it.

use cloister_image::image_json::{BuildEntry, ModelEntry, SourceEntry};
use cyclonedx_bom::external_models::normalized_string::NormalizedString;
use cyclonedx_bom::external_models::spdx::SpdxExpression;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::{Bom, SpecVersion};
use cyclonedx_bom::models::component::{Classification, Component, Components, Scope};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::models::property::{Properties, Property};
use cyclonedx_bom::models::tool::Tools;
use cyclonedx_bom::validation::Validate;

use crate::packages::{GuestPackages, Package, PackageId};

/// The document would not be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SbomError {
    /// A name or version makes no package URL.
    #[error("package URL of {name} {version}: {reason}")]
    Purl {
        /// The crate.
        name: String,
        /// Its version.
        version: String,
        /// What is wrong.
        reason: String,
    },
    /// The schema's rules are broken.
    #[error("the SBOM is not valid CycloneDX 1.5: {0}")]
    Invalid(String),
    /// It cannot be written as JSON.
    #[error("the SBOM cannot be written: {0}")]
    Json(String),
}

/// What an SBOM is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Version of Cloister.
    pub version: &'a str,
    /// SHA-256 of the ROM, lower-case hex.
    pub rom_sha256: &'a str,
    /// The crates in the guest.
    pub packages: &'a GuestPackages,
    /// The model, if the image has one.
    pub model: Option<&'a ModelEntry>,
    /// Where the code came from.
    pub source: &'a SourceEntry,
    /// What compiled it.
    pub build: &'a BuildEntry,
}

/// Reference of the image itself inside the document.
const IMAGE: &str = "cloister";
/// Reference of what the compiler brings into the guest.
const LIBRARY: &str = "rust-library";
/// Reference of the weights.
const WEIGHTS: &str = "model";
/// Licence of the compiler and its libraries.
const RUST_LICENCE: &str = "MIT OR Apache-2.0";

/// The document's text.
pub fn text(subject: &Subject<'_>) -> Result<String, SbomError> {
    let bom = bom(subject)?;
    let verdict = bom.validate_version(SpecVersion::V1_5);
    if !verdict.passed() {
        return Err(SbomError::Invalid(format!("{verdict:?}")));
    }
    let mut bytes = Vec::new();
    bom.output_as_json(&mut bytes, SpecVersion::V1_5)
        .map_err(|error| SbomError::Json(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| SbomError::Json(error.to_string()))?;
    Ok(text.trim_end().to_owned() + "\n")
}

fn bom(subject: &Subject<'_>) -> Result<Bom, SbomError> {
    let crates = subject.packages.list.iter().map(package);
    let mut components: Vec<Component> = crates.collect::<Result<_, _>>()?;
    components.push(library(subject.build));
    components.extend(subject.model.map(weights));
    Ok(Bom {
        version: 1,
        serial_number: None,
        metadata: Some(metadata(subject)),
        components: Some(Components(components)),
        services: None,
        external_references: None,
        dependencies: Some(dependencies(subject)),
        compositions: None,
        properties: None,
        vulnerabilities: None,
        signature: None,
        annotations: None,
        formulation: None,
        spec_version: SpecVersion::V1_5,
    })
}

fn metadata(subject: &Subject<'_>) -> Metadata {
    let mut image = component(Classification::Firmware, "cloister", subject.version, IMAGE);
    image.hashes = Some(sha256(subject.rom_sha256));
    image.properties = Some(properties(&[
        ("cloister:git-commit", &subject.source.commit),
        ("cloister:git-tree", &subject.source.tree),
        (
            "cloister:cargo-lock-sha256",
            &subject.source.cargo_lock_sha256,
        ),
    ]));
    let version = rustc_version(subject.build);
    let mut rustc = component(Classification::Application, "rustc", version, "rustc");
    rustc.licenses = Some(licence(RUST_LICENCE));
    rustc.properties = Some(properties(&[
        ("cloister:rustc-commit", &subject.build.rustc.commit),
        ("cloister:llvm", &subject.build.rustc.llvm),
        ("cloister:linker", &subject.build.linker),
    ]));
    Metadata {
        component: Some(image),
        tools: Some(Tools::Object {
            services: None,
            components: Some(Components(vec![rustc])),
        }),
        ..Metadata::default()
    }
}

/// Crates of the checkout have no package URL: nothing of these names comes from the registry.
fn package(package: &Package) -> Result<Component, SbomError> {
    let (name, version) = (&package.name, &package.version);
    let id = reference(&(name.clone(), version.clone()));
    let mut entry = component(Classification::Library, name, version, &id);
    entry.licenses = package.licence.as_deref().map(licence);
    entry.hashes = package.checksum.as_deref().map(sha256);
    if !package.own {
        let purl = Purl::new("cargo", name, version).map_err(|error| SbomError::Purl {
            name: name.clone(),
            version: version.clone(),
            reason: error.to_string(),
        })?;
        entry.purl = Some(purl);
    }
    Ok(entry)
}

/// `core`, `alloc` and `compiler_builtins`, which come compiled with the compiler.
fn library(build: &BuildEntry) -> Component {
    let name = "rust core, alloc, compiler_builtins";
    let mut entry = component(Classification::Library, name, rustc_version(build), LIBRARY);
    entry.licenses = Some(licence(RUST_LICENCE));
    entry.properties = Some(properties(&[(
        "cloister:rustc-commit",
        &build.rustc.commit,
    )]));
    entry
}

/// `1.95.0` of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc_version(build: &BuildEntry) -> &str {
    let mut words = build.rustc.version.split(' ');
    words.nth(1).unwrap_or(&build.rustc.version)
}

fn weights(model: &ModelEntry) -> Component {
    let kind = Classification::MachineLearningModel;
    let mut entry = component(kind, &model.name, "", WEIGHTS);
    // What is pinned is a file, by its digest.
    entry.version = None;
    entry.hashes = Some(sha256(&model.pack.sha256));
    entry.licenses = model.licence.as_deref().map(licence);
    entry.properties = Some(properties(&[
        ("cloister:gguf-sha256", &model.gguf_sha256),
        ("cloister:pack-root", &model.root),
    ]));
    entry
}

fn component(kind: Classification, name: &str, version: &str, id: &str) -> Component {
    Component {
        scope: Some(Scope::Required),
        ..Component::new(kind, name, version, Some(id.to_owned()))
    }
}

fn sha256(hex: &str) -> Hashes {
    Hashes(vec![Hash {
        alg: HashAlgorithm::SHA_256,
        content: HashValue(hex.to_owned()),
    }])
}

/// An SPDX expression where it is one (old crates write `/` for OR), else the words as they are.
fn licence(text: &str) -> Licenses {
    let choice = match SpdxExpression::parse_lax(text.to_owned()) {
        Ok(expression) => LicenseChoice::Expression(expression),
        Err(_) => LicenseChoice::license(text),
    };
    Licenses(vec![choice])
}

fn properties(pairs: &[(&str, &String)]) -> Properties {
    let property = |(name, value): &(&str, &String)| Property {
        name: (*name).to_owned(),
        value: NormalizedString::new(value),
    };
    Properties(pairs.iter().map(property).collect())
}

fn reference((name, version): &PackageId) -> String {
    format!("crate:{name}@{version}")
}

/// The image uses the two programs and the weights; every crate uses the compiler's library.
fn dependencies(subject: &Subject<'_>) -> Dependencies {
    let uses = &subject.packages.uses;
    let entry = |(id, of): (&PackageId, &std::collections::BTreeSet<PackageId>)| {
        let crates = of.iter().map(reference);
        Dependency {
            dependency_ref: reference(id),
            dependencies: crates.chain([LIBRARY.to_owned()]).collect(),
        }
    };
    let programs = uses.keys().filter(|id| {
        let used_by_another = uses.values().any(|of| of.contains(*id));
        id.0 == "cloister-boot" || !used_by_another
    });
    let weights = subject.model.map(|_| WEIGHTS.to_owned());
    let image = Dependency {
        dependency_ref: IMAGE.to_owned(),
        dependencies: programs.map(reference).chain(weights).collect(),
    };
    Dependencies([image].into_iter().chain(uses.iter().map(entry)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_image::image_json::{FileEntry, RustcEntry};
    use std::collections::BTreeSet;

    fn guest() -> GuestPackages {
        let crate_of = |name: &str, own: bool, licence: &str| Package {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            folder: "/somewhere".into(),
            own,
            licence: Some(licence.to_owned()),
            checksum: (!own).then(|| "ab".repeat(32)),
        };
        let id = |name: &str| (name.to_owned(), "1.2.3".to_owned());
        GuestPackages {
            list: vec![
                crate_of("cloister-kernel", true, "MIT OR Apache-2.0"),
                crate_of("managed", false, "0BSD"),
                crate_of("old", false, "MIT/Apache-2.0"),
            ],
            uses: [
                (id("cloister-kernel"), [id("managed"), id("old")].into()),
                (id("managed"), BTreeSet::new()),
                (id("old"), BTreeSet::new()),
            ]
            .into(),
        }
    }

    fn model() -> ModelEntry {
        ModelEntry {
            name: "small".to_owned(),
            pack: FileEntry {
                file: "model.pack".to_owned(),
                bytes: 1,
                sha256: "cd".repeat(32),
            },
            root: "00".repeat(32),
            context_tokens: 1,
            working_bytes: 1,
            gguf_sha256: "ef".repeat(32),
            licence: Some("Apache-2.0".to_owned()),
        }
    }

    fn written(model: Option<&ModelEntry>) -> String {
        let source = SourceEntry {
            repository: String::new(),
            commit: "11".repeat(20),
            tree: "22".repeat(20),
            modified: false,
            cargo_lock_sha256: "33".repeat(32),
        };
        let build = BuildEntry {
            rustc: RustcEntry {
                version: "rustc 1.95.0 (59807616e 2026-04-14)".to_owned(),
                commit: "44".repeat(20),
                llvm: "22.1.2".to_owned(),
            },
            cargo: "cargo 1.95.0".to_owned(),
            linker: "LLD 22.1.2".to_owned(),
            target: "x86_64-unknown-linux-gnu".to_owned(),
            profile: "guest".to_owned(),
            settings: vec![],
            flags: vec![],
        };
        text(&Subject {
            version: "0.1.0",
            rom_sha256: &"55".repeat(32),
            packages: &guest(),
            model,
            source: &source,
            build: &build,
        })
        .expect("valid")
    }

    #[test]
    fn the_document_is_valid_and_always_the_same() {
        let text = written(Some(&model()));
        assert_eq!(text, written(Some(&model())));
        let bom = Bom::parse_from_json(text.as_bytes()).expect("CycloneDX");
        let verdict = bom.validate_version(SpecVersion::V1_5);
        assert!(verdict.passed(), "{verdict:?}");
        assert!(
            !text.contains("timestamp") && !text.contains("serialNumber"),
            "{text}"
        );
    }

    #[test]
    fn every_part_is_named_with_digest_and_licence() {
        let value: serde_json::Value =
            serde_json::from_str(&written(Some(&model()))).expect("JSON");
        assert_eq!(value["specVersion"], "1.5");
        let of = |name: &str| {
            let list = value["components"].as_array().expect("a list");
            let found = list.iter().find(|component| component["name"] == name);
            found.unwrap_or_else(|| panic!("{name}")).clone()
        };
        let managed = of("managed");
        assert_eq!(managed["purl"], "pkg:cargo/managed@1.2.3");
        assert_eq!(managed["hashes"][0]["content"], "ab".repeat(32));
        assert_eq!(managed["licenses"][0]["expression"], "0BSD");
        assert_eq!(of("old")["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let own = of("cloister-kernel");
        assert!(own["purl"].is_null() && own["hashes"].is_null());
        let weights = of("small");
        assert_eq!(weights["type"], "machine-learning-model");
        assert_eq!(weights["hashes"][0]["content"], "cd".repeat(32));
        assert_eq!(
            value["metadata"]["tools"]["components"][0]["version"],
            "1.95.0"
        );
        let image = &value["dependencies"][0];
        assert_eq!(
            image["dependsOn"],
            serde_json::json!(["crate:cloister-kernel@1.2.3", "model"])
        );
        assert!(!written(None).contains("machine-learning-model"));
    }
}
