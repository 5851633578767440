//! A small network on the host, for tests: the guest's stack over the card in software, and beside it a machine that
//! gives out an address and connects to the guest. Time passes only when a test lets it.

use std::vec;
use std::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, HardwareAddress, IpAddress, IpCidr,
    IpEndpoint, Ipv4Address,
};

use super::{PORT, Stack};
use crate::device::fake_card::FakeCard;
use crate::device::virtio::{PciTransport, find_net_card};

pub(crate) const GUEST: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

/// The machine at the other end of the cable.
pub(crate) struct Lan {
    pub(crate) card: &'static FakeCard,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    next_port: u16,
    pub(crate) now_us: u64,
    pub(crate) gives_addresses: bool,
    pub(crate) lease_s: u32,
    /// Address requests that were granted.
    pub(crate) granted: usize,
}

/// A connection of the other machine to the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(SocketHandle);

impl Lan {
    /// The network and the guest's stack in it, which has no address yet.
    pub(crate) fn new(places: usize) -> (Self, Stack<PciTransport>) {
        let card = FakeCard::new();
        let stack = Stack::new(find_net_card(card).unwrap(), places, 1, 0);
        let address = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut config = Config::new(address);
        config.random_seed = 2;
        let mut interface = Interface::new(config, &mut Cable(card), Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(HOST.into(), 24)).unwrap();
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut dhcp = udp::Socket::new(buffer(), buffer());
        dhcp.bind(67).unwrap();
        let dhcp = sockets.add(dhcp);
        let lan = Self {
            card,
            interface,
            sockets,
            dhcp,
            next_port: 50_000,
            now_us: 0,
            gives_addresses: true,
            lease_s: 600,
            granted: 0,
        };
        (lan, stack)
    }

    /// The network once the guest has its address.
    pub(crate) fn with_address(places: usize) -> (Self, Stack<PciTransport>) {
        let (mut lan, mut stack) = Self::new(places);
        lan.run_until(&mut stack, |stack| stack.address().is_some());
        (lan, stack)
    }

    /// Lets a millisecond pass on both sides.
    pub(crate) fn turn(&mut self, stack: &mut Stack<PciTransport>) {
        self.turn_host();
        stack.poll(self.now_us).unwrap();
    }

    /// The other machine's half of [`Lan::turn`].
    pub(crate) fn turn_host(&mut self) {
        self.now_us += 1_000;
        let now = Instant::from_micros(self.now_us as i64);
        self.interface
            .poll(now, &mut Cable(self.card), &mut self.sockets);
        self.answer_dhcp();
    }

    /// Turns until something is so; fails after a minute.
    pub(crate) fn run_until(
        &mut self,
        stack: &mut Stack<PciTransport>,
        is_so: impl Fn(&Stack<PciTransport>) -> bool,
    ) {
        for _ in 0..60_000 {
            if is_so(stack) {
                return;
            }
            self.turn(stack);
        }
        panic!("not within a minute");
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self) -> Client {
        self.connect_with(16 * 1024)
    }

    /// Begins to connect, with room for so many bytes that nobody has taken.
    pub(crate) fn connect_with(&mut self, receive_bytes: usize) -> Client {
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(receive_bytes), buffer(16 * 1024));
        self.next_port += 1;
        let remote = IpEndpoint::new(IpAddress::Ipv4(GUEST), PORT);
        socket
            .connect(self.interface.context(), remote, self.next_port)
            .unwrap();
        Client(self.sockets.add(socket))
    }

    pub(crate) fn socket(&mut self, client: Client) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(client.0)
    }

    /// What has arrived for a client.
    pub(crate) fn received(&mut self, client: Client) -> Vec<u8> {
        let mut bytes = Vec::new();
        let socket = self.socket(client);
        while socket.can_recv() {
            socket
                .recv(|part| (part.len(), bytes.extend_from_slice(part)))
                .unwrap();
        }
        bytes
    }

    /// Forgets a client without a word on the wire, as a machine that loses power does.
    pub(crate) fn vanish(&mut self, client: Client) {
        self.sockets.remove(client.0);
    }

    fn answer_dhcp(&mut self) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.dhcp);
        while let Ok((bytes, _)) = socket.recv() {
            let packet = DhcpPacket::new_unchecked(bytes);
            let request = DhcpRepr::parse(&packet).unwrap();
            let answer = match request.message_type {
                DhcpMessageType::Discover => DhcpMessageType::Offer,
                DhcpMessageType::Request => DhcpMessageType::Ack,
                other => panic!("{other:?}"),
            };
            if !self.gives_addresses {
                continue;
            }
            self.granted += usize::from(answer == DhcpMessageType::Ack);
            let answer = DhcpRepr {
                message_type: answer,
                your_ip: GUEST,
                server_ip: HOST,
                server_identifier: Some(HOST),
                router: Some(HOST),
                subnet_mask: Some(Ipv4Address::new(255, 255, 255, 0)),
                lease_duration: Some(self.lease_s),
                requested_ip: None,
                client_identifier: None,
                parameter_request_list: None,
                max_size: None,
                client_ip: Ipv4Address::UNSPECIFIED,
                ..request
            };
            let mut packet = vec![0; answer.buffer_len()];
            answer
                .emit(&mut DhcpPacket::new_unchecked(&mut packet))
                .unwrap();
            let everyone = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::BROADCAST), 68);
            socket.send_slice(&packet, everyone).unwrap();
        }
    }
}

/// The other machine's end of the cable.
struct Cable(&'static FakeCard);

impl phy::Device for Cable {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Cable;

    fn receive(&mut self, _now: Instant) -> Option<(Frame, Cable)> {
        let frame = self.0.state.lock().sent.pop_front()?;
        Some((Frame(frame), Cable(self.0)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Cable> {
        Some(Cable(self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Frame(Vec<u8>);

impl phy::RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Cable {
    /// A frame for which the guest has no buffer is lost, as on a real wire.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.deliver(&frame);
        result
    }
}
