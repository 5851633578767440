//! The service on the machine: finds the card, gets an address, says that it is ready, and turns for ever.

use alloc::boxed::Box;
use alloc::vec::Vec;
use cloister_boot::manifest::Manifest;
use cloister_protocol::api::summarize;
use cloister_protocol::evidence::Enclosures;
use cloister_tokens::origin;
use rand_core::TryRng;

use super::engine::Engine;
use super::gate::Gate;
use super::keys::{Attester, Lifetime};
use super::server::{OVERFLOW_PLACES, Server, Settings};
use crate::arch::cpu;
use crate::device::rtc;
use crate::device::virtio::{self, PciTransport};
use crate::entropy::{self, Drbg};
use crate::http;
use crate::log;
use crate::memory::{PhysRange, heap};
use crate::net::{NetworkError, PORT, Stack};
use crate::platform::{self, Platform};
use crate::stop::{self, Reason};
use crate::time::Clock;
use crate::tls::{self, Tls};

/// How long an address is waited for.
const ADDRESS_WAIT_US: u64 = 30_000_000;

/// How long the engine may go on in one turn after its first step; a step is not interrupted.
const ENGINE_SHARE_US: u64 = 5_000;

/// Heap that the engine leaves to the service, beside the bodies of requests: sockets, headers, jobs.
const SERVICE_BYTES: u64 = 16 << 20;

/// What the kernel has made ready.
pub struct Machine {
    /// The way to ports, device memory and evidence.
    pub platform: &'static dyn Platform,
    /// Time since the start.
    pub clock: Clock,
    /// The stack that the service runs on.
    pub stack: PhysRange,
    /// What the image fixes.
    pub manifest: Manifest,
    /// The model pack, checked against the manifest; present if the manifest names one.
    pub model_pack: Option<&'static [u8]>,
    /// What the host handed the guest to go with the evidence.
    pub enclosures: Enclosures,
}

/// Serves until the machine is switched off, or something breaks that the service cannot do without.
pub fn run(machine: Machine) -> ! {
    let Machine {
        platform,
        clock,
        stack: own_stack,
        manifest,
        model_pack,
        enclosures,
    } = machine;
    let connections = manifest.limits.connections as usize;
    let mut stack = start_network(platform, &clock, connections + OVERFLOW_PLACES);
    let gate = open_gate(&manifest, &mut entropy::fork(), &clock);
    // What is left of the memory is the engine's.
    let engine = model_pack.and_then(|pack| open_model(pack, &manifest));
    wait_for_address(&mut stack, &clock);
    let identity = manifest.serving.tls.then(make_identity);
    let attester = Attester {
        attest: |report_data| platform::current().attest(report_data),
        tls_public_key: identity
            .as_ref()
            .map_or(Vec::new(), |identity| identity.public_key().to_vec()),
        enclosures,
    };
    let settings = settings(platform, &clock, &manifest, attester, gate);
    let places = connections + OVERFLOW_PLACES;
    let handshake_ms = settings.http.header_ms;
    let mut tls = identity.map(|identity| Tls::new(&identity, places, handshake_ms));
    let mut server = start_server(settings, engine, places, clock.now_ms());
    announce(&stack, &manifest, &clock);
    loop {
        turn(&mut stack, tls.as_mut(), &mut server, &clock);
        let has_traces = tls.as_mut().is_some_and(Tls::take_traces);
        if server.take_traces() | has_traces {
            cpu::wipe_traces(own_stack);
        }
    }
}

/// Serves the network once, and lets the engine go on for a while. In a frame of its own, which is wiped.
#[inline(never)]
fn turn(
    stack: &mut Stack<PciTransport>,
    tls: Option<&mut Tls>,
    server: &mut Server<Engine>,
    clock: &Clock,
) {
    poll(stack, clock);
    server.network_served(clock.now_us());
    let now_ms = clock.now_ms();
    let mut is_working = match tls {
        Some(tls) => server.turn(&mut tls.over(stack, now_ms), now_ms),
        None => server.turn(stack, now_ms),
    };
    if !is_working {
        core::hint::spin_loop();
    }
    let until_us = clock.now_us() + ENGINE_SHARE_US;
    while is_working && clock.now_us() < until_us {
        is_working = server.advance(clock.now_ms());
    }
}

/// The server with its keys. In a frame of its own, which is wiped, and on the heap: moves leave copies behind.
#[inline(never)]
fn start_server(
    settings: Settings,
    engine: Option<Engine>,
    places: usize,
    now_ms: u64,
) -> Box<Server<Engine>> {
    Box::new(Server::new(
        settings,
        engine,
        entropy::fork(),
        places,
        now_ms,
    ))
}

fn start_network(
    platform: &'static dyn Platform,
    clock: &Clock,
    places: usize,
) -> Stack<PciTransport> {
    let card = virtio::find_net_card(platform).unwrap_or_else(|error| {
        stop::stop(
            Reason::NoNetwork,
            format_args!(
                "no usable network card: {error:?}; the machine needs a virtio-net-pci with disable-legacy=on"
            ),
        )
    });
    let Ok(seed) = entropy::with(Drbg::try_next_u64);
    Stack::new(card, places, seed, clock.now_us())
}

fn open_model(pack: &'static [u8], manifest: &Manifest) -> Option<Engine> {
    let reference = manifest.model.clone()?;
    let limits = &manifest.limits;
    let bodies = 2 * u64::from(limits.connections) * u64::from(limits.request_bytes);
    let memory_bytes = (heap::free_bytes() as u64).saturating_sub(bodies + SERVICE_BYTES);
    match Engine::open(pack, reference, limits, memory_bytes) {
        Ok(engine) => Some(engine),
        Err(error) => stop::stop(
            Reason::ModelInvalid,
            format_args!("the model pack has the right digest but cannot be used: {error:?}"),
        ),
    }
}

fn open_gate(manifest: &Manifest, drbg: &mut Drbg, clock: &Clock) -> Gate {
    let issuer = manifest.token_issuer.as_ref();
    let gate = Gate::new(issuer, origin::Limits::DEFAULT, drbg, clock.now_ms());
    gate.unwrap_or_else(|error| {
        stop::stop(
            Reason::BadManifest,
            format_args!("the manifest's token issuer: {error}"),
        )
    })
}

fn make_identity() -> tls::Identity {
    tls::Identity::generate().unwrap_or_else(|error| {
        stop::stop(
            Reason::Service,
            format_args!("the TLS key cannot be made: {error:?}"),
        )
    })
}

fn wait_for_address(stack: &mut Stack<PciTransport>, clock: &Clock) {
    let until_us = clock.now_us() + ADDRESS_WAIT_US;
    while stack.address().is_none() {
        if clock.now_us() > until_us {
            stop::stop(
                Reason::NoNetwork,
                format_args!(
                    "no address by DHCP within {} s",
                    ADDRESS_WAIT_US / 1_000_000
                ),
            );
        }
        poll(stack, clock);
        core::hint::spin_loop();
    }
}

fn poll(stack: &mut Stack<PciTransport>, clock: &Clock) {
    if let Err(NetworkError::Card(fault)) = stack.poll(clock.now_us()) {
        stop::stop(
            Reason::Network,
            format_args!("the network card broke the rules: {fault:?}"),
        );
    }
}

fn settings(
    platform: &'static dyn Platform,
    clock: &Clock,
    manifest: &Manifest,
    attester: Attester,
    gate: Gate,
) -> Settings {
    let limits = &manifest.limits;
    let now_s = rtc::unix_time_s(platform).unwrap_or(0);
    Settings {
        connections: limits.connections as usize,
        request_bytes: limits.request_bytes as usize,
        http: http::Limits {
            header_bytes: limits.header_bytes as usize,
            idle_ms: u64::from(limits.idle_ms),
            ..http::Limits::default()
        },
        summarize: summarize::Limits {
            output_tokens: limits.output_tokens,
            ..summarize::Limits::DEFAULT
        },
        start_s: now_s.saturating_sub(clock.now_ms() / 1000),
        keys: Lifetime::of_epoch(manifest.serving.epoch_s),
        attester,
        gate,
        heap_used: heap::used_bytes,
    }
}

fn announce(stack: &Stack<PciTransport>, manifest: &Manifest, clock: &Clock) {
    let model = manifest
        .model
        .as_ref()
        .map_or("none", |model| model.name.as_str());
    if let Some(address) = stack.address() {
        log!(
            "ready port={PORT} ip={address} model={model} boot_ms={}",
            clock.now_ms()
        );
    }
}
