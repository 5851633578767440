//! The service: takes encapsulated requests from the network, has the engine do the work, and forgets them.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | places of the network and the HTTP connections in them; one turn of the loop |
//! | [`outer`] | what a path outside the encapsulation answers |
//! | [`keys`] | the private keys of this hour and the last, and the evidence that names them |
//! | [`gate`] | whether a request has the token that it needs |
//! | [`inner`] | what a path inside the encapsulation answers |
//! | [`jobs`] | jobs that wait, and those at work |
//! | [`reply`] | what a job says, in the shape that was asked for |
//! | [`stream`] | answers that leave in records of one size at ticks of the clock |
//! | [`generator`] | what the service needs of the engine |
//! | [`engine`] | the engine as the service sees it |
//! | [`guest`] | the loop on the machine |
//! | [`metrics`] | counters |
//!
//! One direction: bytes come in through [`server`], a request becomes a job, the job's answer is sealed and goes out, as a
//! whole or in records while it is made.
//! Whatever was decrypted lives in types that wipe themselves, and is dropped when its answer is sealed or its client
//! has left. The engine advances by one bounded step a turn, for all jobs together, so that the network never waits for
//! it.

pub mod engine;
pub mod gate;
pub mod generator;
pub mod guest;
pub mod inner;
pub mod jobs;
pub mod keys;
pub mod metrics;
pub mod outer;
pub mod reply;
pub mod server;
pub mod stream;

pub use guest::{Machine, run};

#[cfg(test)]
mod epoch_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
