//! See [`cloister_fuzz::snp::guest_message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::snp::guest_message(data);
});
