//! See [`cloister_fuzz::transparency::log_proof`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::transparency::log_proof(data);
});
