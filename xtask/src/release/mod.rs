//! Releases: what a log says of an image, who signs it, how it gets there.
//!
//! | module | what |
//! |---|---|
//! | [`arguments`] | arguments of the commands |
//! | [`statement`] | an image's folder as a statement |
//! | [`keys`] | the keys of a release, a log and witnesses in one folder |
//! | [`deployment`] | a log with its keys and its policy; the demonstration's, made at first use |
//! | [`publish`] | from a statement to `release.note` and `release.tlog-proof` |
//! | [`witnesses`] | asking the policy's witnesses, and serving those whose keys are here |

pub mod arguments;
pub mod deployment;
pub mod keys;
pub mod publish;
pub mod statement;
pub mod witnesses;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
