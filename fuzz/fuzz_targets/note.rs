//! See [`cloister_fuzz::transparency::note`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::transparency::note(data);
});
