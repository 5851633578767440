//! See [`cloister_fuzz::transparency::release`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::transparency::release(data);
});
