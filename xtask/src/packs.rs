//! Model packs that were made before: one for each GGUF and each state of the code that makes them.

use std::fs;
use std::path::{Path, PathBuf};

use cloister_boot::manifest::{Limits, ModelRef, NAME_MAX_BYTES};
use cloister_image::fixture::{self, FixtureError};
use cloister_image::model_pack;
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::models::{GgufFile, ModelChoice};
use crate::progress::Phase;
use crate::workspace::Workspace;

/// A model pack on disk and what an image says about it.
#[derive(Clone, Debug)]
pub struct PackFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// What the manifest names.
    pub reference: ModelRef,
    /// SHA-256 of the GGUF that it was made from, lower-case hex.
    pub gguf_sha256: String,
    /// Licence of the weights, where it is known.
    pub licence: Option<String>,
}

/// A pack could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The GGUF cannot be packed.
    #[error("{path}: {source}")]
    Build {
        /// The GGUF.
        path: PathBuf,
        /// Why not.
        source: model_pack::Error,
    },
    /// The generated model could not be written.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// What is kept beside a pack.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    name: String,
    root: [u8; 32],
    head_bytes: u32,
    pack_bytes: u64,
    working_bytes: u64,
    context_tokens: u32,
    sha256: String,
}

/// The pack of the generated model.
pub fn of_fixture(workspace: &Workspace) -> Result<PackFile, PackError> {
    let path = workspace
        .models()
        .join(format!("fixture-{}.gguf", std::process::id()));
    fs::create_dir_all(workspace.models()).map_err(at(&path))?;
    fixture::write(&path)?;
    let io = at(&path);
    let gguf = GgufFile {
        sha256: digest::of_file(&path).map_err(&io)?,
        bytes: path.metadata().map_err(&io)?.len(),
        path: path.clone(),
    };
    let pack = of_gguf(workspace, &ModelChoice::Fixture, &gguf, None);
    fs::remove_file(&path).map_err(io)?;
    pack
}

/// The pack of a GGUF: an earlier one if it is there and whole, else made now.
pub fn of_gguf(
    workspace: &Workspace,
    model: &ModelChoice,
    gguf: &GgufFile,
    licence: Option<&str>,
) -> Result<PackFile, PackError> {
    let folder = workspace.packs();
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    // The code is part of the name: a change of the format makes a new pack, without a version to remember.
    let code = digest::of_trees(&[
        workspace.root().join("engine/src"),
        workspace.root().join("image/src"),
    ]);
    let code = code.map_err(at(workspace.root()))?;
    let stem = format!("{}-{}", &gguf.sha256[..16], &code[..16]);
    let path = folder.join(format!("{stem}.pack"));
    let sidecar = match read_sidecar(&path) {
        Some(sidecar) => sidecar,
        None => {
            remove_older(&folder, &gguf.sha256[..16])?;
            make(model, gguf, &path)?
        }
    };
    let Sidecar {
        name,
        root,
        head_bytes,
        pack_bytes,
        working_bytes,
        context_tokens,
        sha256,
    } = sidecar;
    Ok(PackFile {
        path,
        sha256,
        reference: ModelRef {
            name,
            root,
            head_bytes,
            pack_bytes,
            working_bytes,
            context_tokens,
        },
        gguf_sha256: gguf.sha256.clone(),
        licence: licence.map(str::to_owned),
    })
}

/// What is known about the pack at `path`, if its bytes are still the ones that were written.
fn read_sidecar(path: &Path) -> Option<Sidecar> {
    let text = fs::read_to_string(path.with_extension("json")).ok()?;
    let sidecar: Sidecar = serde_json::from_str(&text).ok()?;
    (digest::of_file(path).ok()? == sidecar.sha256).then_some(sidecar)
}

fn make(model: &ModelChoice, gguf: &GgufFile, path: &Path) -> Result<Sidecar, PackError> {
    let mut phase = Phase::of_bytes(format!("Pack model {}", model.name()), gguf.bytes);
    let build = |source| PackError::Build {
        path: gguf.path.clone(),
        source,
    };
    let info = model_pack::build(&gguf.path, path, &mut |done, all| {
        // The pack's length is not the GGUF's: what is shown is the share that is done.
        phase.advance_to(
            u128::from(gguf.bytes)
                .saturating_mul(done.into())
                .checked_div(all.into())
                .unwrap_or(0) as u64,
        );
    })
    .map_err(build)?;
    let limits = Limits::default();
    let context_tokens = info
        .context_tokens
        .min(limits.prompt_tokens + limits.output_tokens);
    let sidecar = Sidecar {
        name: manifest_name(&info.name),
        root: info.root,
        head_bytes: info.head_bytes,
        pack_bytes: info.pack_bytes,
        working_bytes: info.working_bytes(context_tokens as usize),
        context_tokens,
        sha256: digest::of_file(path).map_err(at(path))?,
    };
    let text = serde_json::to_string(&sidecar).expect("strings and numbers are JSON");
    fs::write(path.with_extension("json"), text).map_err(at(path))?;
    phase.done(&format!("{} MB", info.pack_bytes / 1_000_000));
    Ok(sidecar)
}

/// Packs of the same GGUF by older code are of no use any more.
fn remove_older(folder: &Path, gguf: &str) -> Result<(), PackError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_name().to_string_lossy().starts_with(gguf) {
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// The manifest takes letters, digits and `.`, `_`, `-` only.
pub fn manifest_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(NAME_MAX_BYTES)
        .collect()
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> PackError + use<> {
    let path = path.to_owned();
    move |source| PackError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_manifest() {
        assert_eq!(
            manifest_name("Qwen2.5 Coder (0.5B)"),
            "Qwen2.5-Coder--0.5B-"
        );
        assert_eq!(manifest_name(&"é".repeat(100)), "-".repeat(NAME_MAX_BYTES));
    }

    #[test]
    fn an_altered_pack_is_not_taken_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.pack");
        let sidecar = Sidecar {
            name: "m".to_owned(),
            root: [0; 32],
            head_bytes: 1,
            pack_bytes: 3,
            working_bytes: 1,
            context_tokens: 1,
            sha256: digest::of_bytes(b"abc"),
        };
        let text = serde_json::to_string(&sidecar).expect("JSON");
        fs::write(path.with_extension("json"), text).expect("written");
        assert!(read_sidecar(&path).is_none());
        fs::write(&path, "abc").expect("written");
        assert!(read_sidecar(&path).is_some());
        fs::write(&path, "abd").expect("written");
        assert!(read_sidecar(&path).is_none());
    }
}
