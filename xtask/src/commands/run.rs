//! `cargo xtask run`.

use std::time::Duration;

use serde_json::json;

use super::{CommandError, model_or_default, require_plain};
use crate::cli::{Outcome, RunArgs};
use crate::image_build::{self, Image};
use crate::qemu::{Accelerator, Guest, GuestError, Qemu};
use crate::workspace::Workspace;

/// A model of several GB takes that long to copy and check under emulation.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Boots an image and serves until the guest or the user ends it.
pub fn run(
    workspace: &Workspace,
    arguments: &RunArgs,
    json_wanted: bool,
) -> Result<Outcome, CommandError> {
    require_plain(arguments.tee)?;
    let accelerator = Accelerator::detect();
    let image = open_or_build(workspace, arguments, accelerator)?;
    let qemu = Qemu::find_or_install()?;
    let mut options = image.guest_options(accelerator);
    options.port = Some(arguments.port);
    options.cpus = arguments.smp;
    options.memory_mib = arguments.memory.unwrap_or(options.memory_mib);
    options.echo = true;
    eprintln!(
        "QEMU {}, {}, {} MiB",
        qemu.version(),
        accelerator.describe(),
        options.memory_mib
    );
    let mut guest = Guest::start(&qemu, &options)?;
    let ready = guest.wait_ready(READY_TIMEOUT)?;
    let url = guest.url();
    eprintln!("Serving at {url} (platform plain: NOT ATTESTED). Ctrl-C ends it. Ask it with:");
    eprintln!(
        "  cargo run --release -p cloister-client -- ask --server {url} --insecure-no-attestation --messages FILE"
    );
    if json_wanted {
        println!(
            "{}",
            json!({ "url": url, "model": ready.model, "times": guest.times() })
        );
    }
    let status = guest.wait_end().map_err(GuestError::Start)?;
    match guest.wait_stopped(Duration::ZERO) {
        Ok((stop, _)) => Err(GuestError::Stopped(stop).into()),
        Err(_) => Err(CommandError::Failed(format!("QEMU ended ({status})"))),
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
