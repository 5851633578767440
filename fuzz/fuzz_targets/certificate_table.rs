//! See [`cloister_fuzz::snp::certificate_table`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::snp::certificate_table(data);
});
