//! Fuzz targets: one function for each parser of bytes that come from the host, the network or a file.
//!
//! A target must return for any input. Where a parser accepts, the target checks what acceptance promises: that the
//! value encodes to bytes which decode to the same value, that it is within its limits, that it can be used. It says
//! whether the bytes were accepted, so that a test can tell that the seeds are.
//!
//! The functions are ordinary ones. `cargo fuzz` runs them in search of new inputs; `cargo test --lib` in this folder
//! runs them on the seeds and on some thousand alterations of each, without a nightly compiler and without making the
//! binaries.

#![forbid(unsafe_code)]

pub mod appraisal;
pub mod engine;
pub mod guest;
pub mod host;
pub mod launch;
pub mod protocol;
pub mod snp;
pub mod tls;
pub mod tokens;
pub mod transparency;

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
pub const TARGETS: [Target; 46] = [
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
    target("records", protocol::records, protocol::records_seeds),
    target("chat_json", protocol::chat_json, protocol::chat_json_seeds),
    target(
        "rewrite_json",
        protocol::rewrite_json,
        protocol::rewrite_json_seeds,
    ),
    target(
        "problem_json",
        protocol::problem_json,
        protocol::problem_json_seeds,
    ),
    target("model_pack", engine::model_pack, engine::model_pack_seeds),
    target("tokenizer", engine::tokenizer, engine::tokenizer_seeds),
    target("tokenize", engine::tokenize, engine::tokenize_seeds),
    target("rom", guest::rom, guest::rom_seeds),
    target("manifest", guest::manifest, guest::manifest_seeds),
    target("elf", guest::elf, guest::elf_seeds),
    target("e820", guest::e820, guest::e820_seeds),
    target("http", guest::http, guest::http_seeds),
    target("tls", tls::tls, tls::tls_seeds),
    target(
        "token_challenge",
        tokens::token_challenge,
        tokens::token_challenge_seeds,
    ),
    target(
        "token_offers",
        tokens::token_offers,
        tokens::token_offers_seeds,
    ),
    target("token", tokens::token, tokens::token_seeds),
    target("token_key", tokens::token_key, tokens::token_key_seeds),
    target(
        "token_directory",
        tokens::token_directory,
        tokens::token_directory_seeds,
    ),
    target(
        "token_issuer",
        tokens::token_issuer,
        tokens::token_issuer_seeds,
    ),
    target(
        "token_request",
        tokens::token_request,
        tokens::token_request_seeds,
    ),
    target(
        "token_response",
        tokens::token_response,
        tokens::token_response_seeds,
    ),
    target("fw_cfg", host::fw_cfg, host::fw_cfg_seeds),
    target("network_card", host::network_card, host::network_card_seeds),
    target("ghcb", snp::ghcb, snp::ghcb_seeds),
    target(
        "guest_message",
        snp::guest_message,
        snp::guest_message_seeds,
    ),
    target("cpuid_page", snp::cpuid_page, snp::cpuid_page_seeds),
    target(
        "certificate_table",
        snp::certificate_table,
        snp::certificate_table_seeds,
    ),
    target(
        "firmware_image",
        launch::firmware_image,
        launch::firmware_image_seeds,
    ),
    target("igvm", launch::igvm, launch::igvm_seeds),
    target("report", appraisal::report, appraisal::report_seeds),
    target(
        "certificate",
        appraisal::certificate,
        appraisal::certificate_seeds,
    ),
    target("carrier", appraisal::carrier, appraisal::carrier_seeds),
    target("crl", appraisal::crl, appraisal::crl_seeds),
    target(
        "appraisal",
        appraisal::appraisal,
        appraisal::appraisal_seeds,
    ),
    target("note", transparency::note, transparency::note_seeds),
    target(
        "log_proof",
        transparency::log_proof,
        transparency::log_proof_seeds,
    ),
    target(
        "release",
        transparency::release,
        transparency::release_seeds,
    ),
    target(
        "log_policy",
        transparency::log_policy,
        transparency::log_policy_seeds,
    ),
    target(
        "add_checkpoint",
        transparency::add_checkpoint,
        transparency::add_checkpoint_seeds,
    ),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

#[cfg(test)]
mod tests;
