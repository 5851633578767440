//! See [`cloister_fuzz::snp::cpuid_page`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::snp::cpuid_page(data);
});
