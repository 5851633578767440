//! A web server for the files of a folder, as small as can be.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a path answers instead of its file: status, bytes of the body.
type Override = (String, u16, usize);

/// Serves until the process ends.
pub(crate) struct Site {
    pub(crate) url: String,
    requested: Arc<Mutex<Vec<String>>>,
}

impl Site {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::with(folder, None)
    }

    pub(crate) fn with(folder: &Path, instead: Option<Override>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requested = Arc::new(Mutex::new(Vec::new()));
        let (folder, log) = (folder.to_owned(), Arc::clone(&requested));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, instead, log) = (folder.clone(), instead.clone(), Arc::clone(&log));
                thread::spawn(move || answer(&stream, &folder, instead, &log));
            }
        });
        Self { url, requested }
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        let requested = self.requested.lock().expect("no panic");
        requested.iter().filter(|one| *one == path).count()
    }
}

fn answer(
    mut stream: &TcpStream,
    folder: &Path,
    instead: Option<Override>,
    log: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let path = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    log.lock().ok()?.push(path.clone());
    let file: PathBuf = folder.join(&path);
    let (status, body) = match instead {
        Some((of, status, bytes)) if of == path => (status, vec![b'x'; bytes]),
        _ => match fs::read(file) {
            Ok(bytes) => (200, bytes),
            Err(_) => (404, b"none".to_vec()),
        },
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}
