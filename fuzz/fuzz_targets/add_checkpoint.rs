//! See [`cloister_fuzz::transparency::add_checkpoint`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::transparency::add_checkpoint(data);
});
