//! See [`cloister_fuzz::engine::tokenize`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::engine::tokenize(data);
});
