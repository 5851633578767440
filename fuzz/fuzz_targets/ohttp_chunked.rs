//! See [`cloister_fuzz::protocol::ohttp_chunked`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::ohttp_chunked(data);
});
