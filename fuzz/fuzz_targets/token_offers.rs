//! See [`cloister_fuzz::tokens::token_offers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::tokens::token_offers(data);
});
