//! How many of something each client has now. Nothing is kept of a client that has none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by address; an IPv6 client is its /64, since it has all of these addresses.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them. Counted until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// At most so many for each client; 0 for any number.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            counts: Mutex::default(),
        })
    }

    /// One more of this client, unless it has too many.
    pub(super) fn enter(self: &Arc<Self>, client: SocketAddr) -> Option<Member> {
        let client = network(client.ip());
        if self.most > 0 {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(client).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        let crowd = Arc::clone(self);
        Some(Member { crowd, client })
    }

    fn leave(&self, client: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.leave(self.client);
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    #[test]
    fn each_client_has_so_many() {
        let crowd = Crowd::new(2);
        let (first, second) = (
            crowd.enter(client("10.0.0.1")),
            crowd.enter(client("10.0.0.1")),
        );
        assert!(first.is_some() && second.is_some());
        assert!(crowd.enter(client("10.0.0.1")).is_none());
        assert!(crowd.enter(client("10.0.0.2")).is_some());
        assert!(crowd.enter(client("::ffff:10.0.0.1")).is_none());
        drop(first);
        assert!(crowd.enter(client("10.0.0.1")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let crowd = Crowd::new(1);
        let held = crowd.enter(client("2001:db8:0:1::1"));
        assert!(held.is_some());
        assert!(crowd.enter(client("2001:db8:0:1:ffff::2")).is_none());
        assert!(crowd.enter(client("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let crowd = Crowd::new(1);
        drop(crowd.enter(client("10.0.0.1")));
        assert!(crowd.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn zero_is_any_number() {
        let crowd = Crowd::new(0);
        let held: Vec<_> = (0..100).map(|_| crowd.enter(client("::1"))).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
