//! See [`cloister_fuzz::launch::igvm`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::launch::igvm(data);
});
