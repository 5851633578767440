//! A local endpoint in the shape of OpenAI's, for clients that know nothing of attestation: it judges the server, keeps the
//! keys that it accepted, seals each request, opens each answer, and streams.

mod command;
mod failure;
mod guard;
mod serve;
mod session;
mod tokens;
mod upstream;

pub(crate) use command::{ProxyArguments, ProxyCommandError, help, run};
