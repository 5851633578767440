//! `cargo xtask audit`.

use cloister_client::remote_log::LogLocation;
use cloister_transparency::Freshness;
use cloister_verifier::policy::CLOCK_SKEW_S;

use super::CommandError;
use super::publish::TEST_WITNESSES;
use crate::audit::{self, Request};
use crate::cli::Outcome;
use crate::release::arguments::{AuditArgs, DeploymentArgs};
use crate::release::deployment;
use crate::release::publish::{PublishError, now_s};
use crate::workspace::Workspace;

/// Audits a release.
pub fn run(workspace: &Workspace, arguments: &AuditArgs) -> Result<Outcome, CommandError> {
    let request = request(workspace, arguments)?;
    let (report, audited) = audit::run(workspace, &request)?;
    let mut text = report.to_string();
    if request.test {
        text = format!("{TEST_WITNESSES}\n\n{text}");
    }
    if let Some(path) = &arguments.html {
        audit::write_page(path, &report, &audited).map_err(|source| CommandError::Io {
            path: path.clone(),
            source,
        })?;
        text += &format!("The report as a page: {}\n", path.display());
    }
    let mut json = report.to_json();
    json["test_witnesses"] = request.test.into();
    json["differences"] = audited.differences.clone().into();
    Ok(Outcome {
        text,
        json,
        success: report.is_passed(),
    })
}

fn request(workspace: &Workspace, arguments: &AuditArgs) -> Result<Request, CommandError> {
    let failed = |error: deployment::DeploymentError| CommandError::Publish(error.into());
    let (log, policy, release_keys, test) = match (&arguments.log, &arguments.log_policy) {
        (Some(log), Some(policy)) => (
            log.clone(),
            policy.clone(),
            arguments.release_key.clone(),
            false,
        ),
        _ => {
            let own = DeploymentArgs::default().locate(workspace)?;
            if !own.exists() {
                return Err(CommandError::Usage(
                    "there is no log here; give one with --log, --log-policy and --release-key, or publish in the \
                     demonstration's: cargo xtask publish"
                        .to_owned(),
                ));
            }
            let key = own.release_key().map_err(failed)?;
            let log = LogLocation::Directory(own.folders.log);
            (log, own.policy, vec![key], true)
        }
    };
    let read = deployment::read_policy(&policy)
        .map_err(|error| CommandError::Publish(PublishError::from(error)))?;
    let state = arguments.state.clone();
    let state = state.unwrap_or_else(|| audit::default_state(workspace, &read));
    Ok(Request {
        log,
        policy: (policy, read),
        release_keys,
        test,
        entry: arguments.entry,
        freshness: Freshness {
            now_s: now_s(),
            max_age_s: Some(arguments.max_age_days * 86_400),
            clock_skew_s: CLOCK_SKEW_S,
        },
        state,
        rebuild: !arguments.no_rebuild,
        published: arguments.image.clone(),
        model: arguments.model.clone(),
        token_issuer: arguments
            .token_issuer
            .as_deref()
            .map(super::image::token_issuer)
            .transpose()?,
        serving: arguments.serving.into(),
    })
}
