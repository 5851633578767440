//! What the tests of this crate share: the vectors, an issuer of certificates and reports.
#![expect(
    dead_code,
    reason = "each test is a crate of its own and uses a part of this"
)]
pub(crate) mod issuer;
pub(crate) mod vectors;
