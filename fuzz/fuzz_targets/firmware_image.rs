//! See [`cloister_fuzz::launch::firmware_image`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::launch::firmware_image(data);
});
