//! `cargo xtask publish`.

use serde_json::json;

use super::CommandError;
use crate::cli::Outcome;
use crate::image_build::{Image, RELEASE_NOTE, RELEASE_PROOF};
use crate::release::arguments::PublishArgs;
use crate::release::deployment::Deployment;
use crate::release::publish::{self, PublishError, Published};
use crate::workspace::Workspace;

/// What every output about the demonstration's log says.
pub const TEST_WITNESSES: &str = "TEST WITNESSES: log, witnesses and release key are a demonstration's, made on this machine. They show that the checks \
     work, and vouch for nothing.";

/// Publishes an image in a log.
pub fn run(workspace: &Workspace, arguments: &PublishArgs) -> Result<Outcome, CommandError> {
    let folder = arguments.image.clone().unwrap_or_else(|| workspace.image());
    let image = Image::open(&folder)?;
    if image.facts().source.modified && !arguments.allow_modified {
        return Err(CommandError::Usage(format!(
            "{}: the image was built from changes that are in no commit, so that nobody can build it again; commit them \
             and build it again, or add --allow-modified",
            folder.display()
        )));
    }
    let deployment = arguments.deployment.open(workspace)?;
    let published = publish::image(&deployment, &image, arguments.days * 86_400)?;
    let mut text = describe(&published);
    text += &format!(
        "  {RELEASE_NOTE} and {RELEASE_PROOF} are in {}\n",
        folder.display()
    );
    let key = deployment.release_key().map_err(PublishError::from)?;
    text += &format!(
        "\nClients need:\n  {}\nCheck it all with: cargo xtask audit\n",
        deployment.client_arguments(&key)
    );
    if deployment.test {
        text += &format!("\n{TEST_WITNESSES}\n");
    }
    Ok(Outcome {
        text,
        json: document(&deployment, &published),
        success: true,
    })
}

/// Where the entry is and who saw it.
pub(super) fn describe(published: &Published) -> String {
    let logged = &published.logged;
    let names: Vec<_> = logged
        .witnesses
        .iter()
        .map(|one| String::from_utf8_lossy(&one.witness))
        .collect();
    let again = match published.duplicate {
        true => ", where it was before",
        false => "",
    };
    let mut text = format!(
        "Entry {} of {}{again}\n  tree of {} entries, cosigned by {}\n",
        logged.index,
        logged.checkpoint.origin,
        logged.checkpoint.size,
        match names.is_empty() {
            true => "nobody, as the policy has it".to_owned(),
            false => names.join(", "),
        }
    );
    for problem in &published.without {
        text += &format!("  without {problem}\n");
    }
    text
}

pub(super) fn document(deployment: &Deployment, published: &Published) -> serde_json::Value {
    let logged = &published.logged;
    let witnesses = logged
        .witnesses
        .iter()
        .map(|one| json!({ "name": String::from_utf8_lossy(&one.witness), "time_s": one.time_s }));
    json!({
        "origin": logged.checkpoint.origin,
        "index": logged.index,
        "tree_size": logged.checkpoint.size,
        "leaf": logged.leaf.to_string(),
        "duplicate": published.duplicate,
        "witnesses": witnesses.collect::<Vec<_>>(),
        "without": published.without.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "note": published.note,
        "proof": published.proof,
        "log": deployment.folders.log,
        "policy": deployment.policy,
        "test_witnesses": deployment.test,
    })
}
