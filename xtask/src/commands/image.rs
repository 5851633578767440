//! `cargo xtask image`.

use std::fs;
use std::path::Path;

use cloister_boot::manifest::{ISSUER_MAX_BYTES, LOG_POLICY_MAX_BYTES};
use cloister_tokens::origin::Issuer;
use cloister_transparency::Policy;
use serde_json::json;

use super::{CommandError, model_or_default};
use crate::cli::{ImageArgs, Outcome};
use crate::guest_build::Environment;
use crate::image_build::{self, ImageInputs};
use crate::qemu::Accelerator;
use crate::workspace::Workspace;

/// Builds the image.
pub fn run(workspace: &Workspace, arguments: &ImageArgs) -> Result<Outcome, CommandError> {
    let model = model_or_default(arguments.model.as_ref(), Accelerator::detect());
    let out = arguments.out.clone().unwrap_or_else(|| workspace.image());
    let inputs = ImageInputs {
        model: &model,
        log_policy: arguments
            .log_policy
            .as_deref()
            .map(log_policy)
            .transpose()?,
        token_issuer: arguments
            .token_issuer
            .as_deref()
            .map(token_issuer)
            .transpose()?,
        serving: arguments.serving.into(),
        environment: Environment::of_this_process(),
    };
    let image = image_build::build_from(workspace, &inputs, &out)?;
    let facts = image.facts();
    let mut text = format!("{}\n", out.display());
    let files = [
        &facts.rom,
        &facts.igvm.file,
        &facts.boot_elf,
        &facts.kernel_elf,
        &facts.sbom,
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
    if let Some(policy) = &facts.log_policy {
        text += &format!(
            "  to be published under a log policy of {} bytes, sha256 {}\n",
            policy.bytes, policy.sha256
        );
    }
    if let Some(issuer) = &facts.token_issuer {
        text += &format!(
            "  demands tokens of {}, key {}, for {}\n",
            issuer.name,
            issuer.token_key_id,
            match issuer.origin.as_str() {
                "" => "any origin",
                origin => origin,
            }
        );
    }
    let serving = &facts.serving;
    text += &format!(
        "  serves {}, key epochs of {} s\n",
        if serving.tls { "TLS" } else { "plain HTTP" },
        serving.epoch_s
    );
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

/// The text of a log policy that can be used and fits a manifest.
pub fn log_policy(path: &Path) -> Result<String, CommandError> {
    let text = fs::read_to_string(path).map_err(|source| CommandError::Io {
        path: path.to_owned(),
        source,
    })?;
    let refused = |why: String| CommandError::Failed(format!("{}: {why}", path.display()));
    Policy::parse(text.as_bytes()).map_err(|error| refused(error.to_string()))?;
    match text.len() <= LOG_POLICY_MAX_BYTES {
        true => Ok(text),
        false => Err(refused(format!(
            "{} bytes; a manifest takes {LOG_POLICY_MAX_BYTES}",
            text.len()
        ))),
    }
}

/// The token issuer that a file names, if it fits a manifest.
pub fn token_issuer(path: &Path) -> Result<Issuer, CommandError> {
    let text = fs::read(path).map_err(|source| CommandError::Io {
        path: path.to_owned(),
        source,
    })?;
    let refused = |why: String| CommandError::Failed(format!("{}: {why}", path.display()));
    let issuer = Issuer::from_json(&text).map_err(|error| refused(error.to_string()))?;
    match issuer.origin_info.len() <= ISSUER_MAX_BYTES {
        true => Ok(issuer),
        false => Err(refused(format!(
            "\"origin\" has {} bytes; a manifest takes {ISSUER_MAX_BYTES}",
            issuer.origin_info.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_policy_is_checked_before_anything_is_built() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("policy");
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let good = format!("log {key}\nquorum none\n");
        fs::write(&path, &good).expect("written");
        assert_eq!(log_policy(&path).expect("good"), good);
        fs::write(&path, "log nothing\n").expect("written");
        let text = log_policy(&path).unwrap_err().to_string();
        assert!(text.contains("policy") && text.contains('1'), "{text}");
        let long = good + &"#".repeat(LOG_POLICY_MAX_BYTES) + "\n";
        fs::write(&path, long).expect("written");
        let text = log_policy(&path).unwrap_err().to_string();
        assert!(text.contains("16384"), "{text}");
    }

    #[test]
    fn a_token_issuer_is_checked_before_anything_is_built() {
        use cloister_tokens::TokenKey;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("issuer.json");
        let issuer = Issuer {
            name: "issuer.example".to_owned(),
            token_key: TokenKey::from_modulus(&[0xff; 256]).expect("odd, 2048 bits"),
            origin_info: "cloister.example".to_owned(),
        };
        fs::write(&path, issuer.to_json()).expect("written");
        assert_eq!(token_issuer(&path).expect("good"), issuer);
        let long = issuer
            .to_json()
            .replace("cloister.example", &"o".repeat(256));
        fs::write(&path, long).expect("written");
        let text = token_issuer(&path).unwrap_err().to_string();
        assert!(text.contains("255"), "{text}");
        fs::write(&path, "{}").expect("written");
        let text = token_issuer(&path).unwrap_err().to_string();
        assert!(
            text.contains("issuer.json") && text.contains("token_key"),
            "{text}"
        );
    }
}
