//! See [`cloister_fuzz::guest::e820`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::guest::e820(data);
});
