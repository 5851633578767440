//! See [`cloister_fuzz::transparency::log_policy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::transparency::log_policy(data);
});
