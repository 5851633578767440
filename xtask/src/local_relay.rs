//! A relay on this machine, as `cloister relay` is one: for the demonstration and for measurements.

use cloister_client::relay::{Event, Limits, Origin, Relay};

use crate::local_service::LocalService;

/// Serves until it is dropped.
pub struct LocalRelay(LocalService);

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
        let service = LocalService::start("relay", move |listener, stop| {
            let report = |event: &Event| eprintln!("relay: {event}");
            Relay::new(gateway, limits).serve(listener, None, stop, report)
        });
        service.map(Self)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.0.url()
    }
}
