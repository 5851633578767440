//! See [`cloister_fuzz::guest::elf`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::guest::elf(data);
});
