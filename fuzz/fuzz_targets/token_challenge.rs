//! See [`cloister_fuzz::tokens::token_challenge`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::tokens::token_challenge(data);
});
