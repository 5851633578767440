//! `cargo xtask image`.

use serde_json::json;

use super::{CommandError, model_or_default};
use crate::cli::{ImageArgs, Outcome};
use crate::image_build;
use crate::qemu::Accelerator;
use crate::workspace::Workspace;

/// Builds the image.
pub fn run(workspace: &Workspace, arguments: &ImageArgs) -> Result<Outcome, CommandError> {
    let model = model_or_default(arguments.model.as_ref(), Accelerator::detect());
    let out = arguments.out.clone().unwrap_or_else(|| workspace.image());
    let image = image_build::build(workspace, &model, &out)?;
    let facts = image.facts();
    let mut text = format!("{}\n", out.display());
    let files = [
        &facts.rom,
        &facts.igvm.file,
        &facts.boot_elf,
        &facts.kernel_elf,
    ];
    for file in files
        .into_iter()
        .chain(facts.model.as_ref().map(|model| &model.pack))
    {
        text += &format!(
            "  {:13} {:>13} bytes  sha256 {}\n",
            file.file, file.bytes, file.sha256
        );
    }
    match &facts.model {
        None => text += "  no model: summaries will answer 503\n",
        Some(model) => {
            let licence = model
                .licence
                .as_deref()
                .unwrap_or("not known to this program");
            text += &format!(
                "  model {}, licence of the weights: {licence}\n",
                model.name
            );
        }
    }
    text += &format!(
        "  needs {} MiB of RAM; boot it with: cargo xtask run\n",
        facts.memory_mib
    );
    Ok(Outcome {
        text,
        json: json!({ "folder": out, "image": facts }),
        success: true,
    })
}
