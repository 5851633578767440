//! An issuer of anonymous tokens on this machine, as `cloister issuer` is one: for the demonstration and for measurements.
//!
//! Its files are those of the command, so that the command can take its place: `key`, `key.issuer.json`, `clients`, and
//! the credential of one client. They are made once, so that the images that name it stay the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloister_client::issuer::{self, Clients, Issuer, Outcome};
use cloister_client::tokens::{IssuerClient, IssuerError, Purse};
use cloister_tokens::origin;
use zeroize::Zeroizing;

use crate::local_service::LocalService;
use crate::release::publish::now_s;

/// The issuer's name in challenges.
const NAME: &str = "issuer.localhost";
/// What its tokens are for.
const ORIGIN: &str = "cloister.localhost";
/// Its only client.
const CLIENT: &str = "local";
/// How long it may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The files of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerFiles {
    /// Its private key.
    pub key: PathBuf,
    /// Who may have tokens.
    pub clients: PathBuf,
    /// What its only client shows.
    pub credential: PathBuf,
}

impl IssuerFiles {
    /// Those in this folder.
    pub fn below(folder: &Path) -> Self {
        let [key, clients, credential] =
            ["key", "clients", "credential"].map(|name| folder.join(name));
        Self {
            key,
            clients,
            credential,
        }
    }

    /// The file that says who the issuer is, for images.
    pub fn description(&self) -> PathBuf {
        issuer::description_path(&self.key)
    }

    /// Makes those that are not there, with `quota` tokens a day for the client.
    fn make(&self, quota: u32) -> Result<(), String> {
        if !self.key.exists() {
            issuer::generate_key(&self.key, NAME, ORIGIN, None).map_err(told)?;
        }
        if !self.credential.exists() {
            issuer::new_credential(&self.clients, CLIENT, quota, &self.credential).map_err(told)?;
        }
        Ok(())
    }
}

/// Serves until it is dropped.
pub struct LocalIssuer {
    service: LocalService,
    named: origin::Issuer,
    credential: Zeroizing<String>,
    issued: Arc<AtomicUsize>,
}

impl LocalIssuer {
    /// The issuer with its files in `folder`; those that are not there are made, with `quota` tokens a day for its client.
    ///
    /// # Errors
    /// What is wrong with a file, or that no port is free.
    pub fn start(folder: &Path, quota: u32) -> Result<Self, String> {
        let files = IssuerFiles::below(folder);
        fs::create_dir_all(folder).map_err(at(folder))?;
        files.make(quota)?;
        let description = files.description();
        let text = fs::read(&description).map_err(at(&description))?;
        let named = origin::Issuer::from_json(&text).map_err(at(&description))?;
        let secret = fs::read_to_string(&files.credential).map_err(at(&files.credential))?;
        let secret = Zeroizing::new(secret);
        let issuer = Issuer {
            keys: vec![issuer::load_key(&files.key, None).map_err(told)?],
            admission: Clients::open(&files.clients, now_s()).map_err(told)?,
        };
        let issued = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&issued);
        let service = LocalService::start("issuer", move |listener, stop| {
            issuer::serve(
                listener,
                issuer,
                stop,
                move |outcome: &Outcome| match outcome.status {
                    200 => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    _ => eprintln!("issuer: {outcome}"),
                },
            )
        })?;
        Ok(Self {
            service,
            named,
            credential: Zeroizing::new(secret.trim_end().to_owned()),
            issued,
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.service.url()
    }

    /// Who it is, for images.
    pub fn named(&self) -> &origin::Issuer {
        &self.named
    }

    /// For a client: it gets so many tokens at a time, and keeps those that it does not need yet in memory.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn purse(&self, batch: usize) -> Result<Purse, IssuerError> {
        let issuer = IssuerClient::new(&self.url(), &self.credential, TIMEOUT)?;
        Ok(Purse::new(None, Some(issuer), batch))
    }

    /// Tokens that were issued so far.
    pub fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn at<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_protocol::api::media;
    use cloister_protocol::api::problem::{Problem, TOKEN_REQUIRED};
    use cloister_protocol::bhttp;
    use cloister_tokens::origin::{Limits, Origin};
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    /// What a server answers that takes this issuer's tokens.
    fn refusal(origin: &Origin) -> bhttp::Response {
        let problem = Problem::new(401, TOKEN_REQUIRED, "a token is needed");
        bhttp::Response::new(401)
            .with_content(media::PROBLEM_JSON, problem.to_json())
            .and_then(|answer| answer.with_header("www-authenticate", origin.offer(0).to_field()))
            .expect("fields")
    }

    #[test]
    fn its_tokens_are_taken_once_and_its_key_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = LocalIssuer::start(folder.path(), 3).expect("it starts");
        let mut rng = UnwrapErr(SysRng);
        let limits = Limits {
            period_ms: 1000,
            capacity: 8,
        };
        let mut origin =
            Origin::new(issuer.named().clone(), limits, &mut rng, 0).expect("good names");
        let mut purse = issuer.purse(2).expect("an address");
        let token = purse.meet("server", &refusal(&origin), None);
        let token = token.expect("issued").expect("asked for");
        let field = cloister_tokens::field::write_token(&token);
        let unspent = origin.check(Some(field.as_bytes())).expect("good");
        assert!(origin.spend(unspent).is_ok());
        assert!(origin.check(Some(field.as_bytes())).is_err(), "spent");
        assert_eq!(issuer.issued(), 2, "one is kept");
        assert!(purse.take("server").expect("no wallet").is_some());
        let named = issuer.named().clone();
        drop(issuer);
        let issuer = LocalIssuer::start(folder.path(), 3).expect("it starts again");
        assert_eq!(*issuer.named(), named);
        let mut purse = issuer.purse(1).expect("an address");
        assert!(purse.meet("server", &refusal(&origin), None).is_ok());
        let error = purse.meet("server", &refusal(&origin), None).unwrap_err();
        assert!(error.to_string().contains("429"), "{error}");
        assert_eq!(issuer.issued(), 1);
    }
}
