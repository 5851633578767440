//! See [`cloister_fuzz::host::fw_cfg`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cloister_fuzz::host::fw_cfg(data);
});
