//! Asking the witnesses of a policy to cosign, over HTTP: those with an address there, those whose keys are here as
//! servers of this process.

use std::fmt;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use cloister_client::witness::{Stop, ask_witness, serve};
use cloister_transparency::Policy;
use cloister_transparency::log::TileLog;
use cloister_transparency::note::Signature;
use cloister_transparency::policy::PolicyWitness;
use cloister_transparency::witness::{DirectoryStore, Witness};

use super::deployment::Deployment;

/// How long a witness may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What came of asking every witness.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Signature lines that hold.
    pub cosignatures: Vec<Signature>,
    /// Witnesses that did not cosign.
    pub problems: Vec<WitnessProblem>,
}

/// A witness that did not cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessProblem {
    /// What the policy calls it.
    pub witness: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for WitnessProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.witness, self.reason)
    }
}

/// Asks every witness of the policy for a cosignature on the log's last signed checkpoint. One that does not answer is
/// no error here: whether the others are enough is for the policy to say.
pub fn ask_all(deployment: &Deployment, policy: &Policy, log: &TileLog) -> Asked {
    let mut asked = Asked::default();
    for witness in policy.witnesses() {
        match ask_one(deployment, policy, witness, log) {
            Ok(lines) => asked.cosignatures.extend(lines),
            Err(reason) => asked.problems.push(WitnessProblem {
                witness: name(witness),
                reason,
            }),
        }
    }
    asked
}

fn name(witness: &PolicyWitness) -> String {
    String::from_utf8_lossy(&witness.name).into_owned()
}

fn ask_one(
    deployment: &Deployment,
    policy: &Policy,
    witness: &PolicyWitness,
    log: &TileLog,
) -> Result<Vec<Signature>, String> {
    let over = |url: &str| {
        let mut request = |old_size| log.witness_request(old_size);
        ask_witness(url, &witness.key, TIMEOUT, known_size(log), &mut request)
            .map_err(|error| error.to_string())
    };
    if let Some(url) = &witness.url {
        let url = std::str::from_utf8(url).map_err(|_| "its address is not UTF-8".to_owned())?;
        return over(url);
    }
    let role = name(witness);
    if !deployment.keys.has_key(&role) {
        return Err("the policy has no address for it, and its key is not here".to_owned());
    }
    with_local(deployment, policy, &role, over)
}

/// The size that a witness has probably seen last: that of the checkpoint which is published.
fn known_size(log: &TileLog) -> u64 {
    let published = log.reader().checkpoint();
    published.map_or(0, |checkpoint| checkpoint.checkpoint().size)
}

/// Serves a witness of this deployment on a port of this machine while `work` asks it.
fn with_local<T>(
    deployment: &Deployment,
    policy: &Policy,
    role: &str,
    work: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, String> {
    let key = deployment.keys.signing_key(role);
    let key = key.map_err(|error| error.to_string())?;
    // A role is the name of a file here, so it has no separators that could lead elsewhere.
    let folder = deployment.witness_state.join(role);
    let store = DirectoryStore::open(&folder).map_err(|error| error.to_string())?;
    let logs = policy.logs().iter().map(|log| log.key.clone());
    let witness = Witness::new(key, logs, store).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stop = Stop::new();
    let served = stop.clone();
    let server = thread::spawn(move || serve(listener, witness, &served, |_| {}));
    let outcome = work(&format!("http://{address}"));
    stop.stop();
    match server.join() {
        Ok(Ok(())) => outcome,
        Ok(Err(error)) => outcome.map_err(|why| format!("{why}; its server: {error}")),
        Err(_) => Err("its server panicked".to_owned()),
    }
}
