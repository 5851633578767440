//! See [`cloister_fuzz::guest::rom`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::guest::rom(data);
});
