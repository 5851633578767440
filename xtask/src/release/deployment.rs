//! A log with its keys and its policy. The demonstration's is made at first use, with two witnesses that are tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cloister_transparency::log::{LogError, LogFolders, TileLog};
use cloister_transparency::policy::{MAX_POLICY_BYTES, PolicyError};
use cloister_transparency::{KeyType, Policy, VerifierKey};
use cloister_verifier::release::LogPolicy;

use super::keys::{self, KeyError, KeyFolder};
use crate::workspace::Workspace;

/// Name of the policy beside the keys.
pub const POLICY: &str = "log-policy.txt";
/// How many witnesses the demonstration has. Both have to cosign: with two, none may be bad.
pub const TEST_WITNESSES: u32 = 2;

/// Where everything of a log is.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The log, which is served, and its state, which is not.
    pub folders: LogFolders,
    /// Keys of releases, of the log, and of witnesses that are served here.
    pub keys: KeyFolder,
    /// State of the witnesses that are served here.
    pub witness_state: PathBuf,
    /// The policy: a file.
    pub policy: PathBuf,
    /// Whether log and witnesses are a demonstration's.
    pub test: bool,
}

/// A log's surroundings are not what they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeploymentError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The log cannot be used.
    #[error("{path}: {source}")]
    Log {
        /// The log's folder.
        path: PathBuf,
        /// Why not.
        source: LogError,
    },
    /// The policy cannot be used.
    #[error("{path}: not a log policy: {source}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Deployment {
    /// The demonstration's.
    pub fn demonstration(workspace: &Workspace) -> Self {
        let keys = workspace.cloister().join("log-keys");
        Self {
            folders: LogFolders {
                log: workspace.log(),
                state: workspace.cloister().join("log-state"),
            },
            policy: keys.join(POLICY),
            keys: KeyFolder::new(&keys, None),
            witness_state: workspace.cloister().join("log-witnesses"),
            test: true,
        }
    }

    /// A log of one's own. `keys` has the policy too, unless it is elsewhere.
    pub fn new(log: &Path, state: &Path, keys: KeyFolder, policy: Option<&Path>) -> Self {
        let own = || keys.folder().join(POLICY);
        Self {
            folders: LogFolders {
                log: log.to_owned(),
                state: state.to_owned(),
            },
            policy: policy.map_or_else(own, Path::to_owned),
            witness_state: state.join("witnesses"),
            keys,
            test: false,
        }
    }

    /// Whether there is a log.
    pub fn exists(&self) -> bool {
        self.folders.state.join("checkpoint").is_file()
    }

    /// Makes what is missing: keys, policy, an empty log. `origin` is the log's name, a host and a path without a scheme;
    /// `test_witnesses` are made beside it.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn create(&self, origin: &str, test_witnesses: u32) -> Result<(), DeploymentError> {
        let release = format!("{origin}/release");
        self.keys
            .generate(keys::RELEASE, &release, KeyType::Ed25519)?;
        let log = self.keys.generate(keys::LOG, origin, KeyType::Ed25519)?;
        let mut witnesses = Vec::new();
        for number in 1..=test_witnesses {
            let role = witness_role(number);
            let name = format!("{origin}/TEST-{role}");
            let key = self.keys.generate(&role, &name, KeyType::CosignatureV1)?;
            witnesses.push((role, key));
        }
        if !self.policy.is_file() {
            let text = policy_text(&log, &witnesses);
            fs::write(&self.policy, text).map_err(at(&self.policy))?;
        }
        if !self.exists() {
            let signer = self.keys.signer(keys::LOG)?;
            TileLog::init(self.folders.clone(), signer).map_err(|source| self.log_error(source))?;
        }
        Ok(())
    }

    /// The policy and its text.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn policy(&self) -> Result<Policy, DeploymentError> {
        read_policy(&self.policy)
    }

    /// The policy as it is written.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn policy_text(&self) -> Result<String, DeploymentError> {
        self.policy()?;
        fs::read_to_string(&self.policy).map_err(at(&self.policy))
    }

    /// What a client asks of a release here.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn client_policy(&self) -> Result<LogPolicy, DeploymentError> {
        let policy = LogPolicy::new(self.policy()?, vec![self.release_key()?]);
        Ok(LogPolicy {
            test: self.test,
            ..policy
        })
    }

    /// The same as a client's arguments, with the log to read for withdrawals.
    pub fn client_arguments(&self, release_key: &VerifierKey) -> String {
        let test = if self.test { " --test-witnesses" } else { "" };
        format!(
            "--log-policy {} --release-key {release_key}{test} --log {}",
            self.policy.display(),
            self.folders.log.display()
        )
    }

    /// The key that releases have to be signed by.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn release_key(&self) -> Result<VerifierKey, DeploymentError> {
        Ok(self.keys.verifier(keys::RELEASE)?)
    }

    pub(crate) fn log_error(&self, source: LogError) -> DeploymentError {
        DeploymentError::Log {
            path: self.folders.log.clone(),
            source,
        }
    }
}

/// Reads a policy from a file.
///
/// # Errors
/// [`DeploymentError`].
pub fn read_policy(path: &Path) -> Result<Policy, DeploymentError> {
    let length = fs::metadata(path).map_err(at(path))?.len();
    // One byte more than allowed is enough for the parser to say so.
    let most = MAX_POLICY_BYTES as u64;
    let bytes = match length > most {
        true => vec![b'#'; MAX_POLICY_BYTES + 1],
        false => fs::read(path).map_err(at(path))?,
    };
    Policy::parse(&bytes).map_err(|source| DeploymentError::Policy {
        path: path.to_owned(),
        source,
    })
}

/// The name of a witness's files.
fn witness_role(number: u32) -> String {
    format!("witness-{number}")
}

/// A policy of this log, under which each of the witnesses has to cosign.
fn policy_text(log: &VerifierKey, witnesses: &[(String, VerifierKey)]) -> String {
    let mut text = format!("log {log}\n");
    for (name, key) in witnesses {
        text += &format!("witness {name} {key}\n");
    }
    if witnesses.is_empty() {
        return text + "quorum none\n";
    }
    let names: Vec<&str> = witnesses.iter().map(|(name, _)| name.as_str()).collect();
    text + &format!(
        "group witnesses all {}\nquorum witnesses\n",
        names.join(" ")
    )
}

fn at(path: &Path) -> impl Fn(io::Error) -> DeploymentError {
    let path = path.to_owned();
    move |source| DeploymentError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_used_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let keys = KeyFolder::new(&path("keys"), None);
        let deployment = Deployment::new(&path("log"), &path("state"), keys, None);
        assert!(!deployment.exists());
        assert!(matches!(
            deployment.release_key(),
            Err(DeploymentError::Key(KeyError::Missing { .. }))
        ));
        deployment
            .create("example.org/log", TEST_WITNESSES)
            .expect("made");
        let (policy, key) = (deployment.policy(), deployment.release_key());
        let (policy, key) = (policy.expect("a policy"), key.expect("a key"));
        assert_eq!(policy.logs()[0].key.name(), "example.org/log");
        assert_eq!(policy.witnesses().len(), 2);
        assert!(!policy.is_quorum(&[true, false]) && policy.is_quorum(&[true, true]));
        deployment
            .create("example.org/log", TEST_WITNESSES)
            .expect("there already");
        assert_eq!(deployment.release_key().expect("a key"), key);
    }

    #[test]
    fn a_policy_that_is_none_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("policy");
        fs::write(&path, "quorum nobody\n").expect("written");
        let text = read_policy(&path).unwrap_err().to_string();
        assert!(text.contains("policy"), "{text}");
        fs::write(&path, "#".repeat(MAX_POLICY_BYTES + 1)).expect("written");
        assert!(read_policy(&path).is_err());
    }
}
