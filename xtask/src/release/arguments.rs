//! Arguments of the commands about releases and logs.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::deployment::{Deployment, DeploymentError};
use super::keys::KeyFolder;
use crate::commands::CommandError;
use crate::workspace::Workspace;

/// Longest validity of a release, in days.
const MAX_DAYS: u64 = cloister_transparency::release::MAX_VALIDITY_S / 86_400;
/// Longest passphrase, in bytes.
const MAX_PASSPHRASE_BYTES: usize = 1024;

/// Which log, by which keys.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which log")]
pub struct DeploymentArgs {
    /// Folder of the log, which a web server can serve. Default: target/cloister/log, with test keys and two test
    /// witnesses, made at first use.
    #[arg(long, value_name = "DIR", requires = "keys", requires = "log_state")]
    pub log: Option<PathBuf>,
    /// Folder of the log's state, outside the log: the last checkpoint that was signed.
    #[arg(long, value_name = "DIR", requires = "log")]
    pub log_state: Option<PathBuf>,
    /// Folder of the keys: release.key and log.key, or release.command and log.command where something else signs.
    #[arg(long, value_name = "DIR", requires = "log")]
    pub keys: Option<PathBuf>,
    /// Log policy: which log, which witnesses with their addresses, how many of them (C2SP tlog-policy). Default:
    /// log-policy.txt beside the keys.
    #[arg(long, value_name = "FILE", requires = "log")]
    pub log_policy: Option<PathBuf>,
    /// File whose first line is the passphrase of the keys.
    #[arg(long, value_name = "FILE", requires = "log")]
    pub passphrase_file: Option<PathBuf>,
}

impl DeploymentArgs {
    /// The log that is meant; the demonstration's is made if it is not there.
    pub fn open(&self, workspace: &Workspace) -> Result<Deployment, CommandError> {
        let deployment = self.locate(workspace)?;
        if deployment.test && !deployment.exists() {
            deployment
                .create(DEMONSTRATION, super::deployment::TEST_WITNESSES)
                .map_err(failed)?;
        }
        if !deployment.exists() {
            return Err(CommandError::Usage(format!(
                "{}: there is no log; make one with: cargo xtask log init",
                deployment.folders.log.display()
            )));
        }
        Ok(deployment)
    }

    /// The log that is meant, whether it is there or not.
    pub fn locate(&self, workspace: &Workspace) -> Result<Deployment, CommandError> {
        let (Some(log), Some(state), Some(keys)) = (&self.log, &self.log_state, &self.keys) else {
            return Ok(Deployment::demonstration(workspace));
        };
        let keys = KeyFolder::new(keys, self.passphrase()?);
        Ok(Deployment::new(
            log,
            state,
            keys,
            self.log_policy.as_deref(),
        ))
    }

    fn passphrase(&self) -> Result<Option<Zeroizing<String>>, CommandError> {
        let Some(path) = &self.passphrase_file else {
            return Ok(None);
        };
        let text = fs::read_to_string(path).map_err(|source| CommandError::Io {
            path: path.clone(),
            source,
        })?;
        let text = Zeroizing::new(text);
        let line = text.lines().next().unwrap_or_default();
        match line.len() {
            1..=MAX_PASSPHRASE_BYTES => Ok(Some(Zeroizing::new(line.to_owned()))),
            _ => Err(CommandError::Usage(format!(
                "{}: the first line has to be a passphrase of 1 to {MAX_PASSPHRASE_BYTES} bytes",
                path.display()
            ))),
        }
    }
}

/// The name of the demonstration's log.
const DEMONSTRATION: &str = "localhost/cloister-demonstration";

fn failed(error: DeploymentError) -> CommandError {
    CommandError::Publish(error.into())
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Folder of the image. Default: target/cloister/image.
    #[arg(long, value_name = "DIR")]
    pub image: Option<PathBuf>,
    /// How many days the release is valid.
    #[arg(long, value_name = "DAYS", default_value_t = MAX_DAYS, value_parser = clap::value_parser!(u64).range(1..=MAX_DAYS))]
    pub days: u64,
    /// Publish an image of a checkout with changes that are in no commit: nobody can build it again, and an audit says so.
    #[arg(long)]
    pub allow_modified: bool,
    /// Which log.
    #[command(flatten)]
    pub deployment: DeploymentArgs,
}

/// Arguments of `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: LogCommand,
}

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Make keys, a policy and an empty log.
    #[command(
        after_help = "Example:\n  cargo xtask log init --log log --log-state state --keys keys --origin log.example.org/cloister"
    )]
    Init {
        /// The log's name: a host and a path, without a scheme.
        #[arg(long, value_name = "NAME")]
        origin: String,
        /// Which log.
        #[command(flatten)]
        deployment: DeploymentArgs,
    },
    /// List the entries of a log, and check all of it.
    #[command(after_help = "Example:\n  cargo xtask log list")]
    List {
        /// Which log.
        #[command(flatten)]
        deployment: DeploymentArgs,
    },
    /// Publish that an entry does not count any more.
    #[command(
        after_help = "Example:\n  cargo xtask log withdraw 3 --reason 'messages were cut at 4 KiB'"
    )]
    Withdraw {
        /// Index of the entry; `log list` shows them.
        index: u64,
        /// Why, for people.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Which log.
        #[command(flatten)]
        deployment: DeploymentArgs,
    },
    /// Follow a log: print each new release, and raise the alarm when something is wrong.
    #[command(after_help = "Example:\n  cargo xtask log watch --once")]
    Watch {
        /// Look once, and end.
        #[arg(long)]
        once: bool,
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        every: u64,
        /// Which log.
        #[command(flatten)]
        deployment: DeploymentArgs,
    },
}

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The log: a folder or https://HOST/PATH (http:// too). Default: target/cloister/log, the demonstration's.
    #[arg(
        long,
        value_name = "DIR|URL",
        requires = "log_policy",
        requires = "release_key"
    )]
    pub log: Option<cloister_client::remote_log::LogLocation>,
    /// Log policy: which log, which witnesses, how many of them (C2SP tlog-policy). It has to come from somebody whom you
    /// trust, not from the log.
    #[arg(long, value_name = "FILE", requires = "log")]
    pub log_policy: Option<PathBuf>,
    /// Key that releases have to be signed by; may be repeated.
    #[arg(long, value_name = "VKEY", requires = "log", value_parser = parse_key)]
    pub release_key: Vec<cloister_transparency::VerifierKey>,
    /// Index of the release in the log. Default: the newest release of this checkout's commit.
    #[arg(long, value_name = "INDEX")]
    pub entry: Option<u64>,
    /// Folder of the image as its publisher hands it out: compared byte for byte with what is built here, so that a
    /// difference is named by file and section.
    #[arg(long, value_name = "DIR")]
    pub image: Option<PathBuf>,
    /// The model's GGUF file, where it is none of small, standard and tiny.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The file that names the token issuer of an image that has one, for releases that do not say how their image serves.
    #[arg(long, value_name = "FILE")]
    pub token_issuer: Option<PathBuf>,
    /// Check the log alone, and build nothing.
    #[arg(long)]
    pub no_rebuild: bool,
    /// File with the last checkpoint seen: the log has to go on from there. Default: one for each log in target/cloister/audit.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// The most days since the witnesses cosigned.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub max_age_days: u64,
    /// Write the report as one page for a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// How the release's image serves its port, where the release does not say.
    #[command(flatten)]
    pub serving: crate::cli::ServingArgs,
}

fn parse_key(text: &str) -> Result<cloister_transparency::VerifierKey, String> {
    cloister_transparency::VerifierKey::parse(text).map_err(|error| error.to_string())
}
