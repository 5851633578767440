//! Checks of the two guest programs before they go into a ROM: nothing is left for a loader or a
//! dynamic linker to do, and nothing is both writable and executable.
//!
//! A crate that pulls in the C library links without an error, with undefined symbols; only this
//! check notices.

use cloister_boot::address::PhysRange;
use cloister_boot::elf::{ElfError, Program};
use object::{Object, ObjectSymbol};
use std::fmt;

/// Why a program may not go into a ROM.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElfCheckError {
    /// The program headers are not ones that the guest loads; this covers interpreters, dynamic
    /// linking, and segments that are writable and executable.
    Headers(ElfError),
    /// The section headers or symbols cannot be read.
    Sections(String),
    /// These symbols are not defined.
    Undefined(Vec<String>),
}

impl fmt::Display for ElfCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headers(error) => write!(f, "the guest would not load it: {error:?}"),
            Self::Sections(error) => write!(f, "its sections cannot be read: {error}"),
            Self::Undefined(names) => write!(f, "undefined symbols: {}", names.join(", ")),
        }
    }
}

impl std::error::Error for ElfCheckError {}

/// Checks a guest program whose segments must lie inside `window`.
pub fn check(elf: &[u8], window: PhysRange) -> Result<Program, ElfCheckError> {
    let program = Program::parse(elf, window).map_err(ElfCheckError::Headers)?;
    let file = object::File::parse(elf).map_err(|e| ElfCheckError::Sections(e.to_string()))?;
    let undefined: Vec<String> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.is_undefined())
        .map(|symbol| symbol.name().unwrap_or("(unreadable name)").to_owned())
        // The symbol table's first entry is always empty.
        .filter(|name| !name.is_empty())
        .collect();
    if undefined.is_empty() {
        Ok(program)
    } else {
        Err(ElfCheckError::Undefined(undefined))
    }
}

#[cfg(test)]
mod tests;
