//! Links the boot program as firmware; the library needs nothing.

mod freestanding;

use std::env;

fn main() {
    freestanding::rerun_if_changed("freestanding.rs", &["link.ld"]);
    if env::var_os("CARGO_FEATURE_GUEST").is_some() {
        freestanding::link("boot", "link.ld");
    }
}
