//! Requests to one other server over connections that are used again: the relay's way to its gateway, the proxy's to a
//! relay or a server.

mod bounded;
mod origin;
mod pool;

pub(crate) use bounded::Bounded;
pub use origin::{Origin, OriginError};
pub(crate) use pool::{Lease, Pool, PoolLimits, PoolNews, UpstreamError};

#[cfg(test)]
mod tests;
