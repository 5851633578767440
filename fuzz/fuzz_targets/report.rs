//! See [`cloister_fuzz::appraisal::report`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::appraisal::report(data);
});
