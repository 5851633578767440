//! See [`cloister_fuzz::snp::ghcb`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::snp::ghcb(data);
});
