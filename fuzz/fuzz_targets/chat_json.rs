//! See [`cloister_fuzz::protocol::chat_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::chat_json(data);
});
