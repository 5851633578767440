//! See [`cloister_fuzz::guest::http`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::guest::http(data);
});
