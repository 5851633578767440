//! A relay on this machine, as `cloister relay` is one: for the demonstration and for measurements.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use cloister_client::relay::{Event, Limits, Origin, Relay, Stop};

/// Serves until it is dropped.
pub struct LocalRelay {
    address: SocketAddr,
    stop: Stop,
    serving: Option<JoinHandle<()>>,
}

impl LocalRelay {
    /// A relay for the server at this address. What goes wrong later is told on standard error.
    ///
    /// # Errors
    /// What is wrong with the address, or that no port is free.
    pub fn start(gateway: &str) -> Result<Self, String> {
        Self::start_with(gateway, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// Those of [`LocalRelay::start`].
    pub fn start_with(gateway: &str, limits: Limits) -> Result<Self, String> {
        let gateway: Origin = gateway.parse().map_err(|error| format!("{error}"))?;
        let no_port = |error| format!("no port of 127.0.0.1 for the relay: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let stop = Stop::new();
        let stopped = stop.clone();
        let serving = thread::spawn(move || {
            let report = |event: &Event| eprintln!("relay: {event}");
            let served = Relay::new(gateway, limits).serve(listener, None, &stopped, report);
            if let Err(error) = served {
                eprintln!("relay: {error}");
            }
        });
        Ok(Self {
            address,
            stop,
            serving: Some(serving),
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LocalRelay {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(serving) = self.serving.take() {
            // Its panic was printed.
            let _ = serving.join();
        }
    }
}
