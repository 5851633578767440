//! Reports and certificates of real machines; `tests/vectors/README.md` says where they are from.

use std::fs;
use std::path::{Path, PathBuf};

/// A report, and every certificate that was published with it.
#[derive(Debug)]
pub(crate) struct Vector {
    /// As the file, without `.bin`: version, product, kind of key, digest.
    pub(crate) name: String,
    pub(crate) report: Vec<u8>,
    /// VCEK or VLEK; more than one where AMD issued it anew, none where it is not known.
    pub(crate) leaves: Vec<Vec<u8>>,
}

impl Vector {
    /// `milan`, `genoa`, `turin`, or `unknown`.
    pub(crate) fn product(&self) -> &str {
        self.name
            .split('-')
            .nth(1)
            .expect("the product is in the name")
    }

    /// The intermediate certificate and the root that belong to it.
    pub(crate) fn chain(&self) -> [Vec<u8>; 2] {
        let intermediate = if self.name.contains("vlek") {
            "asvk"
        } else {
            "ask"
        };
        ["ark", intermediate].map(|name| read(&format!("chains/{}-{name}.der", self.product())))
    }
}

/// Every report, sorted by name.
pub(crate) fn reports() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = names("reports")
        .into_iter()
        .filter_map(|file| Some(file.strip_suffix(".bin")?.to_owned()))
        .map(|name| Vector {
            report: read(&format!("reports/{name}.bin")),
            leaves: [".vcek.der", ".vcek2.der", ".vlek.der"]
                .into_iter()
                .filter_map(|suffix| fs::read(path(&format!("reports/{name}{suffix}"))).ok())
                .collect(),
            name,
        })
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    vectors
}

/// Every certificate: chains, those beside reports, those alone.
pub(crate) fn certificates() -> Vec<(String, Vec<u8>)> {
    ["chains", "certs", "reports"]
        .into_iter()
        .flat_map(|folder| {
            names(folder)
                .into_iter()
                .map(move |file| format!("{folder}/{file}"))
        })
        .filter(|file| file.ends_with(".der"))
        .map(|file| (file.clone(), read(&file)))
        .collect()
}

/// One of the vectors.
pub(crate) fn read(file: &str) -> Vec<u8> {
    let path = path(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(file)
}

fn names(folder: &str) -> Vec<String> {
    fs::read_dir(path(folder))
        .expect("the folder is in the repository")
        .map(|entry| {
            let name = entry.expect("an entry can be read").file_name();
            name.into_string().expect("names are ASCII")
        })
        .collect()
}
