//! See [`cloister_fuzz::engine::model_pack`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::engine::model_pack(data);
});
