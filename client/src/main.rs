//! The `cloister` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    cloister_client::command::main()
}
