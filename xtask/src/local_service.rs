//! A server of ours in a thread of this program, at any free port of this machine.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use cloister_client::relay::Stop;

/// Serves until it is dropped.
pub(crate) struct LocalService {
    address: SocketAddr,
    stop: Stop,
    serving: Option<JoinHandle<()>>,
}

impl LocalService {
    /// Calls `serve`, which is to end when it is told to stop. What goes wrong later is told on standard error.
    ///
    /// # Errors
    /// That no port is free.
    pub(crate) fn start<E: Display>(
        name: &'static str,
        serve: impl FnOnce(TcpListener, &Stop) -> Result<(), E> + Send + 'static,
    ) -> Result<Self, String> {
        let no_port = |error| format!("no port of 127.0.0.1 for the {name}: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let stop = Stop::new();
        let stopped = stop.clone();
        let serving = thread::spawn(move || {
            if let Err(error) = serve(listener, &stopped) {
                eprintln!("{name}: {error}");
            }
        });
        Ok(Self {
            address,
            stop,
            serving: Some(serving),
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LocalService {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(serving) = self.serving.take() {
            // Its panic was printed.
            let _ = serving.join();
        }
    }
}
