//! Paths. The outer ones are plain HTTP, seen by the host and by relays; the inner ones exist only inside an
//! encapsulated request.

/// Outer, GET: the key config list. Outer, POST: an encapsulated request (RFC 9540, section 5).
pub const OHTTP_GATEWAY: &str = "/.well-known/ohttp-gateway";

/// Outer, GET: evidence, with the optional query parameter [`NONCE_PARAMETER`].
pub const EVIDENCE: &str = "/.well-known/cloister/evidence";

/// Query parameter of [`EVIDENCE`]: 32 bytes in hex.
pub const NONCE_PARAMETER: &str = "nonce";

/// Outer, GET: ready or not.
pub const HEALTH: &str = "/healthz";

/// Outer, GET: counters, none derived from the content of requests.
pub const METRICS: &str = "/metrics";

/// Inner, POST: [`crate::api::summarize::Request`] to [`crate::api::summarize::Response`].
pub const SUMMARIZE: &str = "/v1/summarize";

/// Inner, POST: [`crate::api::rewrite::Request`] to [`crate::api::rewrite::Response`].
pub const REWRITE: &str = "/v1/rewrite";

/// Inner, POST: [`crate::api::chat::Request`] to [`crate::api::chat::Completion`].
pub const CHAT_COMPLETIONS: &str = "/v1/chat/completions";

/// Inner, GET: [`crate::api::models::Models`].
pub const MODELS: &str = "/v1/models";
