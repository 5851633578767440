//! Links the kernel for the addresses that boot loads it to; the library needs nothing.

#[path = "../boot/freestanding.rs"]
mod freestanding;

use std::env;

fn main() {
    freestanding::rerun_if_changed("../boot/freestanding.rs", &["link.ld"]);
    if env::var_os("CARGO_FEATURE_GUEST").is_some() {
        for bin in ["kernel", "kernel-selftest"] {
            freestanding::link(bin, "link.ld");
        }
    }
}
