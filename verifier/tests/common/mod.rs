//! What the tests of this crate share: the vectors, an issuer of certificates and reports, random numbers that repeat.
#![expect(
    dead_code,
    reason = "each test is a crate of its own and uses a part of this"
)]
#![expect(
    unreachable_pub,
    reason = "items of a module that several crates include"
)]

pub mod issuer;
pub mod rng;
pub mod vectors;
