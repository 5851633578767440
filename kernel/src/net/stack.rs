//! Interface, address and TCP places.

use alloc::vec;
use alloc::vec::Vec;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use virtio_drivers::transport::Transport;

use super::card::Card;
use super::{PORT, SocketState, Sockets};
use crate::device::virtio::{DeviceFault, NetDevice};

/// Buffers of one place.
const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// Frames that are taken in one turn: the engine gets its turn too.
const FRAMES_PER_TURN: usize = 128;
/// A client that does not acknowledge for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A silent client is asked this often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why the network is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkError {
    /// The card broke the rules.
    Card(DeviceFault),
}

/// Everything between the card and the bytes of connections.
pub struct Stack<T: Transport> {
    card: Card<T>,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    places: Vec<SocketHandle>,
}

impl<T: Transport> Stack<T> {
    /// A stack over `device` with so many places; it asks for an address as soon as it is polled. `seed` must be
    /// unpredictable: initial sequence numbers come from it.
    pub fn new(device: NetDevice<T>, places: usize, seed: u64, now_us: u64) -> Self {
        let mut card = Card::new(device);
        let address = EthernetAddress(card.hardware_address());
        let mut config = Config::new(HardwareAddress::Ethernet(address));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut card, instant(now_us));
        let mut sockets = SocketSet::new(Vec::with_capacity(places + 1));
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let places = (0..places).map(|_| sockets.add(new_place())).collect();
        Self {
            card,
            interface,
            sockets,
            dhcp,
            places,
        }
    }

    /// Moves frames in and out. Bounded work.
    ///
    /// # Errors
    /// [`NetworkError`]: the stack is then of no more use.
    pub fn poll(&mut self, now_us: u64) -> Result<(), NetworkError> {
        let now = instant(now_us);
        let Self {
            card,
            interface,
            sockets,
            ..
        } = self;
        interface.poll_maintenance(now);
        for _ in 0..FRAMES_PER_TURN {
            if interface.poll_ingress_single(now, card, sockets) == PollIngressSingleResult::None {
                break;
            }
        }
        interface.poll_egress(now, card, sockets);
        self.follow_dhcp();
        match self.card.fault() {
            Some(fault) => Err(NetworkError::Card(fault)),
            None => Ok(()),
        }
    }

    /// The address, once there is one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Address> {
        self.interface.ipv4_addr()
    }

    /// Takes over what DHCP says: an address that is new, renewed or lost.
    fn follow_dhcp(&mut self) {
        let event = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll();
        let (address, router) = match event {
            None => return,
            Some(dhcpv4::Event::Configured(config)) => (Some(config.address), config.router),
            Some(dhcpv4::Event::Deconfigured) => (None, None),
        };
        self.set_address(address, router);
    }

    /// Sets the one address, or none, and the way out.
    pub(super) fn set_address(&mut self, address: Option<Ipv4Cidr>, router: Option<Ipv4Address>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.extend(address.map(IpCidr::Ipv4));
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            // The table has just lost its only entry.
            let _ = self.interface.routes_mut().add_default_ipv4_route(router);
        }
    }

    fn socket(&self, place: usize) -> &tcp::Socket<'static> {
        self.sockets.get(self.places[place])
    }

    fn socket_mut(&mut self, place: usize) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.places[place])
    }
}

fn new_place() -> tcp::Socket<'static> {
    let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
    let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER_BYTES), buffer(SEND_BUFFER_BYTES));
    listen(&mut socket);
    socket
}

fn listen(socket: &mut tcp::Socket<'_>) {
    socket
        .listen(PORT)
        .expect("a closed socket can listen on a port that is not 0");
    socket.set_timeout(Some(SILENCE));
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_nagle_enabled(false);
}

impl<T: Transport> Sockets for Stack<T> {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn state(&self, place: usize) -> SocketState {
        let socket = self.socket(place);
        match socket.state() {
            tcp::State::Listen | tcp::State::SynReceived => SocketState::Free,
            tcp::State::Closed | tcp::State::TimeWait => SocketState::Ended,
            state => SocketState::Open {
                peer_finished: matches!(
                    state,
                    tcp::State::CloseWait | tcp::State::LastAck | tcp::State::Closing
                ),
                has_unread: socket.can_recv(),
                all_sent: socket.send_queue() == 0,
            },
        }
    }

    fn receive(&mut self, place: usize, take: &mut dyn FnMut(&[u8]) -> usize) {
        let socket = self.socket_mut(place);
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let taken = take(bytes);
                (taken, taken)
            });
            if !matches!(taken, Ok(1..)) {
                return;
            }
        }
    }

    fn send(&mut self, place: usize, bytes: &[u8]) -> usize {
        self.socket_mut(place).send_slice(bytes).unwrap_or(0)
    }

    fn close_write(&mut self, place: usize) {
        self.socket_mut(place).close();
    }

    fn release(&mut self, place: usize) {
        let socket = self.socket_mut(place);
        match socket.state() {
            tcp::State::Closed | tcp::State::TimeWait => listen(socket),
            tcp::State::Listen | tcp::State::SynReceived => {}
            // The reset goes out with the next poll; then the place is `Ended`, and is released for good.
            _ => socket.abort(),
        }
    }
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_us).unwrap_or(i64::MAX))
}
