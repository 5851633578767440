//! See [`cloister_fuzz::protocol::ohttp_response`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::ohttp_response(data);
});
