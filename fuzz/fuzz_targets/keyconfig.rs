//! See [`cloister_fuzz::protocol::keyconfig`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::keyconfig(data);
});
