//! See [`cloister_fuzz::protocol::summarize_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::summarize_json(data);
});
