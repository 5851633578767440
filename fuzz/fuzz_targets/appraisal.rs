//! See [`cloister_fuzz::appraisal::appraisal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::appraisal::appraisal(data);
});
