//! The service's interface: where it is, what goes in, what comes out.

pub(crate) mod json;
pub mod media;
pub mod models;
pub mod paths;
pub mod problem;
pub mod summarize;

pub use json::JsonError;
