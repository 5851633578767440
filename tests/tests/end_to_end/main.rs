//! The whole path in an emulated machine: from the reset vector to a sealed answer, and what happens when the host,
//! the network or a client does not do as it should.

mod answers;
mod boot;
mod endurance;
mod hostile;
mod http;
mod proxied;
mod relayed;
mod sealed;
mod summaries;
