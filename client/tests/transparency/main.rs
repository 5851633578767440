//! The transparency log from outside: followed, witnessed and monitored over real sockets and files.

mod fixture;
mod follow;
mod monitor;
mod site;
mod witness;
mod witness_command;
