//! See [`cloister_fuzz::protocol::bhttp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::bhttp(data);
});
