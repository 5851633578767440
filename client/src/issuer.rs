//! The issuer of anonymous tokens as a server (RFC 9578, sections 4 and 6.2).
//!
//! It sees who asks, and signs what it cannot see: which token it was is known to the client alone. Who may ask, and how
//! often, is decided by an [`Admission`]; [`Clients`] is one, with a file of credentials and a quota a day.

mod clients;
mod command;
mod key;
mod serve;

pub use clients::{Clients, ClientsError, new_credential};
pub(crate) use command::{IssuerArguments, IssuerCommandError, help, run};
pub use key::{description_path, generate_key, load_key};
pub use serve::{Admission, Denied, Issuer, Outcome, REQUEST_PATH, serve};
