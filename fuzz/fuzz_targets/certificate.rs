//! See [`cloister_fuzz::appraisal::certificate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::appraisal::certificate(data);
});
