//! For build scripts: how a program for a machine without an operating system is linked.

use std::env;

/// Freestanding, at fixed addresses, without anything that a loader would have to do.
const LINK_ARGS: [&str; 7] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,--no-dynamic-linker",
];

/// Has Cargo link the program `bin` by the linker script `script` of the package that is built.
pub(crate) fn link(bin: &str, script: &str) {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for arg in LINK_ARGS {
        println!("cargo:rustc-link-arg-bin={bin}={arg}");
    }
    println!("cargo:rustc-link-arg-bin={bin}=-Wl,-T,{here}/{script}");
}

/// Has Cargo run the build script again when one of these files changes, this one included.
pub(crate) fn rerun_if_changed(here: &str, scripts: &[&str]) {
    for file in ["build.rs", here].iter().chain(scripts) {
        println!("cargo:rerun-if-changed={file}");
    }
}
