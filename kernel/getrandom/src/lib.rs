//! Stands in for the crate `getrandom` 0.2, which `ring` takes its random bytes from and which would call an operating
//! system. In the guest there is none: the kernel sets the source once, at its start, and without one the guest ends.

#![no_std]
#![forbid(unsafe_code)]

use spin::Once;

static SOURCE: Once<fn(&mut [u8])> = Once::new();

/// No random bytes. Only the operating system's generator can fail so; a source that fails does not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error;

/// Sets where random bytes come from. The first one stays: a later call changes nothing.
pub fn set_source(fill: fn(&mut [u8])) {
    SOURCE.call_once(|| fill);
}

/// Fills `bytes` from the source.
///
/// # Errors
/// [`Error`] if the operating system's generator fails, with the feature `os`.
///
/// # Panics
/// If no source was set, without the feature `os`: what comes instead would be no secret.
pub fn getrandom(bytes: &mut [u8]) -> Result<(), Error> {
    match SOURCE.get() {
        Some(fill) => {
            fill(bytes);
            Ok(())
        }
        None => without_source(bytes),
    }
}

#[cfg(feature = "os")]
fn without_source(bytes: &mut [u8]) -> Result<(), Error> {
    os_random::fill(bytes).map_err(|_| Error)
}

#[cfg(not(feature = "os"))]
fn without_source(_: &mut [u8]) -> Result<(), Error> {
    panic!("random numbers were asked for before there was a source")
}
