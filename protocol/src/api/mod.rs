//! The service's interface: where it is, what goes in, what comes out.

pub mod chat;
pub mod events;
pub(crate) mod json;
pub mod media;
pub mod models;
pub mod paths;
pub mod problem;
mod request;
pub mod rewrite;
pub mod summarize;

pub use json::JsonError;
pub use request::RequestError;
