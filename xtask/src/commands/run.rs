//! `cargo xtask run`.

use std::time::Duration;

use serde_json::json;

use super::{CommandError, model_or_default, platform};
use crate::attestation;
use crate::cli::{Outcome, RunArgs};
use crate::image_build::{self, Image};
use crate::qemu::{Accelerator, Guest, GuestError, Platform, Qemu};
use crate::workspace::Workspace;

/// A model of several GB takes that long to copy and check under emulation.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Boots an image and serves until the guest or the user ends it.
pub fn run(
    workspace: &Workspace,
    arguments: &RunArgs,
    json_wanted: bool,
) -> Result<Outcome, CommandError> {
    let platform = platform(workspace, arguments.tee)?;
    let accelerator = platform.accelerator();
    let image = open_or_build(workspace, arguments, accelerator)?;
    let qemu = Qemu::find_or_install()?;
    let mut options = image.guest_options(platform.clone());
    options.port = Some(arguments.port);
    options.cpus = arguments.smp;
    options.memory_mib = arguments.memory.unwrap_or(options.memory_mib);
    options.echo = true;
    eprintln!(
        "QEMU {}, platform {}, {}, {} MiB",
        qemu.version(),
        platform.name(),
        accelerator.describe(),
        options.memory_mib
    );
    let mut guest = Guest::start(&qemu, &options)?;
    let ready = guest.wait_ready(READY_TIMEOUT)?;
    let url = guest.url();
    let trust = trust(&platform, &image, options.cpus)?;
    eprintln!("Serving at {url}. Ctrl-C ends it. Ask it with:");
    eprintln!(
        "  cargo run --release -p cloister-client -- ask --server {url} {trust} --messages FILE"
    );
    if json_wanted {
        println!(
            "{}",
            json!({
                "url": url, "platform": platform.name(), "model": ready.model, "times": guest.times(), "trust": trust,
            })
        );
    }
    let status = guest.wait_end().map_err(GuestError::Start)?;
    match guest.wait_stopped(Duration::ZERO) {
        Ok((stop, _)) => Err(GuestError::Stopped(stop).into()),
        Err(_) => Err(CommandError::Failed(format!("QEMU ended ({status})"))),
    }
}

/// What a client has to be told to accept this guest.
fn trust(platform: &Platform, image: &Image, vcpus: u32) -> Result<String, CommandError> {
    match platform {
        Platform::Plain(_) => Ok("--insecure-no-attestation".to_owned()),
        Platform::SnpEmulated(emulated) => Ok(format!(
            "--trust-emulated-root {} --measurement {}",
            emulated.keys().root().display(),
            attestation::emulated_measurement(image, vcpus)?
        )),
    }
}

fn open_or_build(
    workspace: &Workspace,
    arguments: &RunArgs,
    accelerator: Accelerator,
) -> Result<Image, CommandError> {
    match &arguments.image {
        Some(folder) => Ok(Image::open(folder)?),
        None if workspace.image().join(image_build::IMAGE_JSON).is_file() => {
            Ok(Image::open(&workspace.image())?)
        }
        None => {
            let model = model_or_default(None, accelerator);
            Ok(image_build::build(workspace, &model, &workspace.image())?)
        }
    }
}
