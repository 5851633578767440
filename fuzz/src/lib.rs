//! Fuzz targets: one function for each parser of bytes that come from the host, the network or a file.
//!
//! A target must return for any input. Where a parser accepts, the target checks what acceptance promises: that the
//! value encodes to bytes which decode to the same value, that it is within its limits, that it can be used. It says
//! whether the bytes were accepted, so that a test can tell that the seeds are.
//!
//! The functions are ordinary ones. `cargo fuzz` runs them in search of new inputs; `cargo test` in this folder runs
//! them on the seeds and on some thousand alterations of each, without a nightly compiler.

#![forbid(unsafe_code)]

pub mod engine;
pub mod guest;
pub mod host;
pub mod protocol;
mod rng;

pub use rng::Rng;

/// A target: its name (that of the binary), what runs it, and valid inputs to start from.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Runs the parser on some bytes and says whether it accepted them; panics where it finds a fault.
    pub run: fn(&[u8]) -> bool,
    /// Valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 17] = [
    target("keyconfig", protocol::keyconfig, protocol::keyconfig_seeds),
    target(
        "ohttp_request",
        protocol::ohttp_request,
        protocol::ohttp_request_seeds,
    ),
    target(
        "ohttp_response",
        protocol::ohttp_response,
        protocol::ohttp_response_seeds,
    ),
    target(
        "ohttp_chunked",
        protocol::ohttp_chunked,
        protocol::ohttp_chunked_seeds,
    ),
    target("bhttp", protocol::bhttp, protocol::bhttp_seeds),
    target("evidence", protocol::evidence, protocol::evidence_seeds),
    target(
        "summarize_json",
        protocol::summarize_json,
        protocol::summarize_json_seeds,
    ),
    target(
        "problem_json",
        protocol::problem_json,
        protocol::problem_json_seeds,
    ),
    target("model_pack", engine::model_pack, engine::model_pack_seeds),
    target("tokenizer", engine::tokenizer, engine::tokenizer_seeds),
    target("rom", guest::rom, guest::rom_seeds),
    target("manifest", guest::manifest, guest::manifest_seeds),
    target("elf", guest::elf, guest::elf_seeds),
    target("e820", guest::e820, guest::e820_seeds),
    target("http", guest::http, guest::http_seeds),
    target("fw_cfg", host::fw_cfg, host::fw_cfg_seeds),
    target("network_card", host::network_card, host::network_card_seeds),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}
