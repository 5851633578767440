//! See [`cloister_fuzz::host::network_card`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::host::network_card(data);
});
