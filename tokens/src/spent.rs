//! Tokens that were spent, in a memory that never grows.

use alloc::vec;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

/// Bytes of an entry: two different tokens of a million have the same one with a chance of 2^-88.
const ENTRY_BYTES: usize = 16;
type Entry = [u8; ENTRY_BYTES];

/// A place without an entry.
const EMPTY: Entry = [0; ENTRY_BYTES];

/// A set of nonces with a bound. All of its memory is set aside when it is made.
///
/// An entry is the beginning of SHA-256 over a secret and the nonce. Clients choose nonces, but without the secret not
/// the places where they fall, so that nobody can make the search long; and how long it takes says nothing about what
/// others spent.
pub struct SpentSet {
    secret: [u8; 32],
    /// At most half of the places are taken.
    places: Vec<Entry>,
    capacity: usize,
    length: usize,
}

/// What came of adding a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the set now.
    New,
    /// It was in the set before.
    Before,
    /// The set is full; it holds what it held.
    Full,
}

impl SpentSet {
    /// An empty set for so many nonces, with a random secret.
    #[must_use]
    pub fn new(capacity: usize, secret: [u8; 32]) -> Self {
        Self {
            secret,
            places: vec![EMPTY; places(capacity)],
            capacity,
            length: 0,
        }
    }

    /// Bytes of memory that a set for so many nonces takes.
    #[must_use]
    pub const fn memory_bytes(capacity: usize) -> usize {
        places(capacity) * ENTRY_BYTES
    }

    /// Forgets all, and goes on with another secret in the same memory.
    pub fn clear(&mut self, secret: [u8; 32]) {
        self.secret = secret;
        self.places.fill(EMPTY);
        self.length = 0;
    }

    /// Adds a nonce.
    pub fn add(&mut self, nonce: &[u8; 32]) -> Added {
        let entry = self.entry(nonce);
        match self.find(&entry) {
            Err(_) => Added::Before,
            Ok(_) if self.length >= self.capacity => Added::Full,
            Ok(place) => {
                self.places[place] = entry;
                self.length += 1;
                Added::New
            }
        }
    }

    /// Whether a nonce is in the set.
    #[must_use]
    pub fn contains(&self, nonce: &[u8; 32]) -> bool {
        self.find(&self.entry(nonce)).is_err()
    }

    /// Nonces in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The most nonces in the set.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn entry(&self, nonce: &[u8; 32]) -> Entry {
        let digest = Sha256::new()
            .chain_update(self.secret)
            .chain_update(nonce)
            .finalize();
        let mut entry = EMPTY;
        entry.copy_from_slice(&digest[..ENTRY_BYTES]);
        // Never that of an empty place.
        entry[ENTRY_BYTES - 1] |= 1;
        entry
    }

    /// The empty place for an entry, or the one where it is.
    fn find(&self, entry: &Entry) -> Result<usize, usize> {
        let mask = self.places.len() - 1;
        let [a, b, c, d, ..] = *entry;
        let mut place = u32::from_be_bytes([a, b, c, d]) as usize & mask;
        // Half of the places are empty, so that this ends.
        while self.places[place] != EMPTY {
            if self.places[place] == *entry {
                return Err(place);
            }
            place = (place + 1) & mask;
        }
        Ok(place)
    }
}

/// A power of two, at least twice as many as entries.
const fn places(capacity: usize) -> usize {
    (2 * capacity).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: u32) -> [u8; 32] {
        let mut nonce = [0; 32];
        nonce[28..].copy_from_slice(&number.to_be_bytes());
        nonce
    }

    #[test]
    fn each_nonce_once_and_no_more_than_there_is_room_for() {
        for capacity in [1, 2, 3, 1000, 1024] {
            let mut set = SpentSet::new(capacity, [9; 32]);
            for number in 0..capacity as u32 {
                assert!(!set.contains(&nonce(number)));
                assert_eq!(set.add(&nonce(number)), Added::New);
                assert_eq!(set.add(&nonce(number)), Added::Before);
            }
            let one_more = nonce(capacity as u32);
            assert_eq!((set.len(), set.add(&one_more)), (capacity, Added::Full));
            assert!(!set.contains(&one_more));
            assert!((0..capacity as u32).all(|number| set.contains(&nonce(number))));
            set.clear([8; 32]);
            assert!(set.is_empty() && !set.contains(&nonce(0)));
            assert_eq!(set.add(&one_more), Added::New);
        }
    }

    #[test]
    fn the_memory_is_what_was_set_aside() {
        let mut set = SpentSet::new(1 << 12, [1; 32]);
        let before = (set.places.as_ptr(), set.places.capacity());
        for round in 0..3 {
            (0..5000).for_each(|number| {
                assert!(number >= 4096 || set.add(&nonce(number)) == Added::New)
            });
            assert_eq!(set.add(&nonce(5000)), Added::Full);
            assert_eq!((set.places.as_ptr(), set.places.capacity()), before);
            set.clear([round; 32]);
        }
        assert_eq!(before.1 * ENTRY_BYTES, SpentSet::memory_bytes(1 << 12));
        assert_eq!(SpentSet::memory_bytes(1 << 16), 2 << 20);
    }

    #[test]
    fn places_depend_on_the_secret() {
        let first = SpentSet::new(1 << 12, [1; 32]);
        let second = SpentSet::new(1 << 12, [2; 32]);
        let same = (0..1000)
            .filter(|number| {
                first.find(&first.entry(&nonce(*number)))
                    == second.find(&second.entry(&nonce(*number)))
            })
            .count();
        assert!(same < 10, "{same} of 1000");
    }
}
