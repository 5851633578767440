//! See [`cloister_fuzz::protocol::records`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::protocol::records(data);
});
