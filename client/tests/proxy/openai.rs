//! OpenAI's own clients, unchanged. `cargo xtask test` installs them and says where they are.

use std::path::Path;
use std::process::Command;

use super::process::Proxy;
use super::server::Server;

/// A Python that has the package `openai`.
const PYTHON: &str = "CLOISTER_OPENAI_PYTHON";
/// A folder whose `node_modules` has the package `openai`.
const NODE: &str = "CLOISTER_OPENAI_NODE";

fn run(mut command: Command) {
    let server = Server::start();
    let refused = Server::start();
    let proxy = Proxy::start(&server.url(), &["--api-key", "secret"]);
    let refusing = Proxy::start(&refused.url(), &[]);
    refused.spoil_evidence();
    refused.rotate();
    command
        .arg(proxy.base_url())
        .arg(refusing.base_url())
        .env("NO_PROXY", "127.0.0.1");
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.trim_end().ends_with("all as expected"), "{text}");
    server.wait_for_cancellation();
    assert!(
        refused.inner().is_empty(),
        "nothing went to the server that was refused"
    );
    eprintln!("{text}");
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/proxy")
        .join(name)
}

#[test]
#[ignore = "needs the package openai of PyPI, which cargo xtask test installs"]
fn the_python_package() {
    let python =
        std::env::var(PYTHON).expect("a Python with the package openai in CLOISTER_OPENAI_PYTHON");
    let mut command = Command::new(python);
    command.arg(script("openai_client.py"));
    run(command);
}

#[test]
#[ignore = "needs the package openai of npm, which cargo xtask test installs"]
fn the_node_package() {
    let folder =
        std::env::var(NODE).expect("a folder with node_modules/openai in CLOISTER_OPENAI_NODE");
    // A module is looked for beside the script.
    let copy = Path::new(&folder).join("openai_client.mjs");
    std::fs::copy(script("openai_client.mjs"), &copy).expect("copied");
    let mut command = Command::new("node");
    command.arg(copy).current_dir(&folder);
    run(command);
}
