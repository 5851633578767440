//! What only x86-64 instructions can do.

pub mod cpu;
pub mod port;

#[cfg(feature = "guest")]
pub mod entry;
#[cfg(feature = "guest")]
pub mod exceptions;
#[cfg(feature = "guest")]
pub mod processor;
#[cfg(feature = "guest")]
pub mod tables;
