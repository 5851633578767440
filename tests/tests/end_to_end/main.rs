//! The whole path in an emulated machine: from the reset vector to a sealed answer, and what happens when the host,
//! the network or a client does not do as it should.

mod boot;
mod endurance;
mod http;
mod sealed;
mod summaries;
mod tokens;
