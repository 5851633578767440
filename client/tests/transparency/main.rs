//! The transparency log from outside: followed, witnessed and monitored over real sockets and files.

mod fixture;
mod follow;
mod monitor;
#[path = "../common/running.rs"]
mod running;
mod site;
mod witness;
mod witness_command;
