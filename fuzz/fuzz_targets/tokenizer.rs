//! See [`cloister_fuzz::engine::tokenizer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::engine::tokenizer(data);
});
