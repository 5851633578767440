//! The commands, one module each.

pub mod audit;
pub mod bench;
pub mod demo;
pub mod fuzz;
pub mod image;
pub mod log;
pub mod measure;
pub mod publish;
pub mod reproduce;
pub mod run;
pub mod tcb;
pub mod test;

use crate::attestation::ReferenceError;
use crate::audit::AuditError;
use crate::cli::Tee;
use crate::image_build::ImageError;
use crate::install::InstallError;
use crate::models::{self, ModelChoice};
use crate::process::ProcessError;
use crate::qemu::{
    Accelerator, EmulatedPlatform, GuestError, Platform, PlatformError, SnpHostError,
};
use crate::release::publish::PublishError;
use crate::tcb::TcbError;
use crate::workspace::{Workspace, WorkspaceError};

/// A command could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The checkout was not found.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The image was not built.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image was not built twice, or two images could not be compared.
    #[error(transparent)]
    Reproduce(#[from] crate::reproduce::ReproduceError),
    /// A tool is missing.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The guest did not get where it should.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The emulated platform cannot be had.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// This host cannot launch an SEV-SNP guest.
    #[error(transparent)]
    SnpHost(#[from] SnpHostError),
    /// There is nothing that the guest's evidence could be judged by.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The guest did not answer.
    #[error(transparent)]
    Client(#[from] cloister_client::ClientError),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The guest could not be counted.
    #[error(transparent)]
    Tcb(#[from] TcbError),
    /// A model could not be fetched.
    #[error(transparent)]
    Model(#[from] models::FetchError),
    /// llama.cpp could not be built.
    #[error(transparent)]
    Llama(#[from] crate::peers::llama::LlamaError),
    /// A release is not in the log, or not provably.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// An audit could not be made.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A result could not be written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Arguments that do not go together, or name what is not there.
    #[error("{0}")]
    Usage(String),
    /// Something else went wrong.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// The exit status: 1 failed, 2 wrong usage, 3 refused by policy.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Client(cloister_client::ClientError::Refused(_)) => 3,
            _ => 1,
        }
    }
}

/// The machine that was asked for.
fn platform(workspace: &Workspace, tee: Tee) -> Result<Platform, CommandError> {
    match tee {
        Tee::Plain => Ok(Platform::Plain(Accelerator::detect())),
        Tee::SnpEmulated => Ok(Platform::SnpEmulated(EmulatedPlatform::prepare(workspace)?)),
        Tee::Snp => {
            let advice = "--tee snp is for `cargo xtask run`, on an SEV-SNP host";
            Err(CommandError::Usage(advice.to_owned()))
        }
    }
}

/// The model that was asked for, else the one that suits how fast the guest's CPU will be.
fn model_or_default(model: Option<&ModelChoice>, accelerator: Accelerator) -> ModelChoice {
    let suitable = match accelerator {
        Accelerator::Kvm => &models::STANDARD,
        Accelerator::Tcg => &models::SMALL,
    };
    model.cloned().unwrap_or(ModelChoice::Named(suitable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_follows_the_cpu_unless_it_is_named() {
        let chosen =
            |model: Option<&ModelChoice>, accelerator| model_or_default(model, accelerator).name();
        assert_eq!(chosen(None, Accelerator::Tcg), "small");
        assert_eq!(chosen(None, Accelerator::Kvm), "standard");
        assert_eq!(
            chosen(
                Some(&ModelChoice::Named(&models::STANDARD)),
                Accelerator::Tcg
            ),
            "standard"
        );
    }
}
