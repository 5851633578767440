//! See [`cloister_fuzz::protocol::evidence`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::evidence(data);
});
