//! An issuer of tokens in this process, on a real socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use cloister_client::issuer::{
    self, Clients, Issuer, Outcome, generate_key, load_key, new_credential,
};
use cloister_client::tokens::IssuerClient;
use cloister_client::witness::Stop;
use cloister_client::{Listener, TlsIdentity};
use cloister_tokens::issuer::IssuerKey;
use cloister_tokens::origin;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The files of an issuer, and its server.
pub(crate) struct Issuing {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) url: String,
    stop: Stop,
    server: Option<JoinHandle<std::io::Result<()>>>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

/// A key takes a while to make: one for all tests.
pub(crate) fn key_file() -> &'static Path {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("issuer.key");
        generate_key(&path, "issuer.example", "cloister.example", None).expect("a key");
        (folder, path)
    });
    &made.1
}

pub(crate) fn named() -> origin::Issuer {
    let text = std::fs::read(issuer::description_path(key_file())).expect("written");
    origin::Issuer::from_json(&text).expect("an issuer")
}

impl Issuing {
    pub(crate) fn start(quota: u32) -> Self {
        Self::with_keys(quota, vec![load_key(key_file(), None).expect("a key")])
    }

    pub(crate) fn with_keys(quota: u32, keys: Vec<IssuerKey>) -> Self {
        Self::with(quota, keys, None)
    }

    /// Speaks TLS, if it has an identity.
    pub(crate) fn with(quota: u32, keys: Vec<IssuerKey>, identity: Option<TlsIdentity>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (clients, credential) = (
            folder.path().join("clients"),
            folder.path().join("credential"),
        );
        new_credential(&clients, "ana", quota, &credential).expect("a client");
        let admission = Clients::open(&clients, 0).expect("clients");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let url = match identity {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let listener = Listener::new(listener, identity);
        let (stop, outcomes) = (Stop::new(), Arc::new(Mutex::new(Vec::new())));
        let (until, report) = (stop.clone(), Arc::clone(&outcomes));
        let server = std::thread::spawn(move || {
            issuer::serve(
                listener,
                Issuer { keys, admission },
                &until,
                move |outcome| {
                    report.lock().expect("no panic").push(outcome.clone());
                },
            )
        });
        Self {
            folder,
            url,
            stop,
            server: Some(server),
            outcomes,
        }
    }

    pub(crate) fn credential(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("credential"));
        text.expect("written").trim().to_owned()
    }

    pub(crate) fn client(&self) -> IssuerClient {
        IssuerClient::new(&self.url, &self.credential(), TIMEOUT).expect("an address")
    }

    pub(crate) fn outcomes(&self) -> Vec<String> {
        let outcomes = self.outcomes.lock().expect("no panic");
        outcomes.iter().map(ToString::to_string).collect()
    }

    /// An HTTP exchange by hand: status and whole answer.
    pub(crate) fn raw(&self, request: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).expect("there");
        let head = format!(
            "{request}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(&[head.as_bytes(), body].concat())
            .expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer[9..12].parse().expect("a status"), answer)
    }
}

impl Drop for Issuing {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(server) = self.server.take() {
            server.join().expect("no panic").expect("it served");
        }
    }
}
