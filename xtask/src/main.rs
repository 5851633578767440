//! The one front door; everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    xtask::cli::main()
}
