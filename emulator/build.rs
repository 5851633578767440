//! Links the bare-metal programs; the library needs nothing.

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

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=probe.ld");
    if env::var_os("CARGO_FEATURE_L0").is_none() {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for (bin, script) in [("l0", "link.ld"), ("probe", "probe.ld")] {
        for arg in LINK_ARGS {
            println!("cargo:rustc-link-arg-bin={bin}={arg}");
        }
        println!("cargo:rustc-link-arg-bin={bin}=-Wl,-T,{here}/{script}");
    }
}
