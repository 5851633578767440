//! See [`cloister_fuzz::tls::tls`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::tls::tls(data);
});
