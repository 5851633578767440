//! Links the bare-metal programs; the library needs nothing.

#[path = "../boot/freestanding.rs"]
mod freestanding;

use std::env;

fn main() {
    freestanding::rerun_if_changed("../boot/freestanding.rs", &["link.ld", "probe.ld"]);
    if env::var_os("CARGO_FEATURE_L0").is_some() {
        for (bin, script) in [("l0", "link.ld"), ("probe", "probe.ld")] {
            freestanding::link(bin, script);
        }
    }
}
