//! A deployment and an image in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::deployment::Deployment;
use super::keys::KeyFolder;
use crate::digest;
use crate::image_build::{IMAGE_JSON, Image};

/// A log of its own with two witnesses, and an image beside it.
pub(crate) struct Setup {
    pub(crate) root: TempDir,
    pub(crate) deployment: Deployment,
}

/// Seconds that releases of these tests are valid for.
pub(crate) const VALID_S: u64 = 86_400;

impl Setup {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| root.path().join(name);
        let keys = KeyFolder::new(&path("keys"), None);
        let deployment = Deployment::new(&path("log"), &path("state"), keys, None);
        deployment.create("example.org/log", 2).expect("made");
        Self { root, deployment }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// An image whose ROM has these bytes.
    pub(crate) fn image(&self, rom: &[u8]) -> Image {
        let folder = self.path("image");
        write_image(&folder, rom);
        Image::open(&folder).expect("just written")
    }
}

fn write_image(folder: &Path, rom: &[u8]) {
    fs::create_dir_all(folder).expect("made");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).expect("written");
        let sha256 = digest::of_bytes(bytes);
        format!(
            r#""file":"{name}","bytes":{},"sha256":"{sha256}""#,
            bytes.len()
        )
    };
    let (zeros, measured) = ("0".repeat(64), "5a".repeat(48));
    let json = format!(
        r#"{{"format":3,"version":"0.1.0","rom":{{{rom}}},"igvm":{{{igvm},"digest":"{measured}"}},
        "boot_elf":{{{boot}}},"kernel_elf":{{{kernel}}},"model":null,"log_policy":null,
        "serving":{{"tls":false,"epoch_s":3600}},"sbom":{{{sbom}}},"memory_mib":128,
        "source":{{"repository":"","commit":"{commit}","tree":"{commit}","modified":false,"cargo_lock_sha256":"{zeros}"}},
        "build":{{"rustc":{{"version":"rustc 1.95.0","commit":"5","llvm":"22"}},"cargo":"cargo","linker":"lld",
        "target":"x86_64","profile":"guest","settings":[],"flags":[]}},
        "measurements":[{{"cpu":"EPYC-Genoa","vcpus":1,"digest":"{measured}"}}]}}"#,
        rom = file("rom.bin", rom),
        igvm = file("cloister.igvm", b"igvm"),
        boot = file("boot.elf", b"boot"),
        kernel = file("kernel.elf", b"kernel"),
        sbom = file("sbom.cdx.json", b"{}"),
        commit = "c".repeat(40),
    );
    fs::write(folder.join(IMAGE_JSON), json).expect("written");
}
