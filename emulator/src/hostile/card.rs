//! Lies of the network card: PCI configuration, virtio's registers and queues (virtio 1.2, 4.1 and 2.7).
//!
//! The registers are at QEMU's places: the structures lie in one region of 16 KiB that is aligned to its size.

/// A lie of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardLie {
    /// A region wants 2 GiB.
    RegionTooLarge,
    /// A structure lies outside its region.
    StructureOutside,
    /// The list of capabilities is a loop.
    CapabilityLoop,
    /// The card does not offer virtio 1.
    NotVersion1,
    /// A queue has no entries.
    QueueEmpty,
    /// A queue has 65,535 entries, as a card may.
    QueueHuge,
    /// A queue is notified outside its structure.
    NotifyOutside,
    /// The hardware address is that of a group.
    GroupAddress,
    /// A buffer is given back that the card does not have.
    UsedUnknown,
    /// A buffer is given back with 4 GiB in it.
    UsedLong,
    /// A buffer is given back with less than a header in it.
    UsedShort,
    /// A thousand buffers are given back at once.
    UsedIndex,
    /// The links of all descriptors lead beyond the queue.
    Links,
}

const QUEUES: usize = 2;
const RECEIVE: u16 = 0;

/// Registers within the region.
mod register {
    pub(super) const FEATURE_SELECT: u64 = 0x00;
    pub(super) const FEATURE: u64 = 0x04;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const NOTIFY_OFFSET: u64 = 0x1e;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    pub(super) const HARDWARE_ADDRESS: u64 = 0x2000;
    pub(super) const NOTIFY: core::ops::Range<u64> = 0x3000..0x4000;
}
const REGION_MASK: u64 = 0x3fff;

/// Registers of configuration space.
const BARS: core::ops::Range<u8> = 0x10..0x28;
const CAPABILITY_POINTER: u8 = 0x34;
const VENDOR_CAPABILITY: u32 = 0x09;
/// A capability that the guest has no use for: message-signalled interrupts.
const OTHER_CAPABILITY: u32 = 0x05;

/// Where a queue lies, as the guest told the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Descriptors.
    pub descriptors: u64,
    /// The ring of used buffers.
    pub used: u64,
    /// Entries.
    pub size: u16,
}

/// What was seen of the guest's way to its card.
#[derive(Clone, Copy, Debug, Default)]
pub struct Card {
    config_register: u8,
    last_written: u32,
    /// The capability that is being read, and the next one.
    capability: (u8, u8),
    feature_select: u64,
    queue_select: u16,
    queues: [Queue; QUEUES],
}

impl Card {
    /// The guest chooses a register of configuration space.
    pub fn select_config(&mut self, address: u32) {
        self.config_register = address as u8 & 0xfc;
    }

    /// The guest writes to it.
    pub fn write_config(&mut self, value: u32) {
        self.last_written = value;
    }

    /// The guest reads it: what is told in place of the true value.
    pub fn read_config(&mut self, lie: CardLie, value: u32) -> Option<u32> {
        const TWO_GIB: u32 = 0x8000_0000;
        const FAR_OUTSIDE: u32 = 0xffff_f000;
        let register = self.config_register;
        let (current, next) = self.capability;
        let is_sizing = BARS.contains(&register) && self.last_written == u32::MAX;
        if is_sizing && lie == CardLie::RegionTooLarge && value & !0xf != 0 && value & 1 == 0 {
            return Some(TWO_GIB | value & 0xf);
        }
        if register == CAPABILITY_POINTER {
            self.capability = (0, value as u8 & 0xfc);
        } else if register == next && next != 0 {
            if lie == CardLie::CapabilityLoop {
                return Some(value & !0xffff | u32::from(next) << 8 | OTHER_CAPABILITY);
            }
            let is_vendors = value & 0xff == VENDOR_CAPABILITY;
            self.capability = (if is_vendors { next } else { 0 }, (value >> 8) as u8 & 0xfc);
        } else if current != 0 && register == current + 8 && lie == CardLie::StructureOutside {
            return Some(FAR_OUTSIDE);
        }
        None
    }

    /// The guest reads so many bytes of a register of the card: what is told in place of the true value.
    pub fn read(&self, lie: CardLie, address: u64, bytes: usize, value: u64) -> Option<u64> {
        const VERSION_1: u64 = 1;
        const GROUP: u64 = 1;
        let told = match (lie, address & REGION_MASK, bytes) {
            (CardLie::NotVersion1, register::FEATURE, 4) if self.feature_select == 1 => {
                value & !VERSION_1
            }
            (CardLie::QueueEmpty, register::QUEUE_SIZE, 2) => 0,
            (CardLie::QueueHuge, register::QUEUE_SIZE, 2) => 0xffff,
            (CardLie::NotifyOutside, register::NOTIFY_OFFSET, 2) => 0xffff,
            (CardLie::GroupAddress, register::HARDWARE_ADDRESS, 1) => value | GROUP,
            _ => return None,
        };
        Some(told)
    }

    /// The guest writes a register of the card. Gives the queue that it notifies.
    pub fn write(&mut self, address: u64, value: u64) -> Option<u16> {
        let place = address & REGION_MASK;
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        match (place, queue) {
            (register::FEATURE_SELECT, _) => self.feature_select = value,
            (register::QUEUE_SELECT, _) => self.queue_select = value as u16,
            (register::QUEUE_SIZE, Some(queue)) => queue.size = value as u16,
            (register::QUEUE_DESCRIPTORS, Some(queue)) => queue.descriptors |= value,
            (0x24, Some(queue)) => queue.descriptors |= value << 32,
            (register::QUEUE_DEVICE, Some(queue)) => queue.used |= value,
            (0x34, Some(queue)) => queue.used |= value << 32,
            _ if register::NOTIFY.contains(&place) => return Some(value as u16),
            _ => {}
        }
        None
    }

    /// The queue of received packets, once the guest has told where it is.
    pub fn receive_queue(&self, notified: u16) -> Option<Queue> {
        let queue = self.queues[usize::from(RECEIVE)];
        (notified == RECEIVE && queue.used != 0).then_some(queue)
    }

    /// Both queues, as far as the guest has told where they are.
    pub fn queues(&self) -> impl Iterator<Item = Queue> {
        self.queues.into_iter().filter(|queue| queue.used != 0)
    }
}

impl CardLie {
    /// What is written to the ring of used buffers that stands at `index`: an element, and the new index.
    pub fn used(self, index: u16) -> Option<([u8; 8], u16)> {
        let (id, bytes, count): (u32, u32, u16) = match self {
            Self::UsedUnknown => (200, 100, 1),
            Self::UsedLong => (0, u32::MAX, 1),
            Self::UsedShort => (0, 4, 1),
            Self::UsedIndex => (0, 100, 1000),
            _ => return None,
        };
        let mut element = [0; 8];
        element[..4].copy_from_slice(&id.to_le_bytes());
        element[4..].copy_from_slice(&bytes.to_le_bytes());
        Some((element, index.wrapping_add(count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: u64 = 0xc000_4000;

    #[test]
    fn a_region_lies_while_it_is_measured() {
        let mut card = Card::default();
        card.select_config(0x8000_1020);
        let lie = CardLie::RegionTooLarge;
        assert_eq!(card.read_config(lie, 0xfebf_000c), None);
        card.write_config(u32::MAX);
        assert_eq!(card.read_config(lie, 0xffff_c00c), Some(0x8000_000c));
        assert_eq!(card.read_config(lie, 0), None);
        assert_eq!(card.read_config(lie, 0xffff_ffe1), None);
    }

    #[test]
    fn the_list_of_capabilities_is_followed() {
        let walk = |lie| {
            let mut card = Card::default();
            let mut read = |register: u32, value| {
                card.select_config(register);
                card.read_config(lie, value)
            };
            [
                read(0x34, 0x98),
                read(0x98, 0x8011),
                read(0xa0, 7),
                read(0x80, 0x0109),
                read(0x80, 0x0109),
                read(0x88, 7),
            ]
        };
        let outside = [None, None, None, None, None, Some(0xffff_f000)];
        assert_eq!(walk(CardLie::StructureOutside), outside);
        assert_eq!(walk(CardLie::CapabilityLoop)[1], Some(0x9805));
        assert_eq!(walk(CardLie::QueueHuge), [None; 6]);
    }

    #[test]
    fn registers_lie_where_they_should() {
        let mut card = Card::default();
        let lie = CardLie::NotVersion1;
        assert_eq!(card.read(lie, REGION + 4, 4, 7), None);
        assert_eq!(card.write(REGION, 1), None);
        assert_eq!(card.read(lie, REGION + 4, 4, 7), Some(6));
        let queue = card.read(CardLie::QueueEmpty, REGION + 0x18, 2, 64);
        assert_eq!(queue, Some(0));
        let group = card.read(CardLie::GroupAddress, REGION + 0x2000, 1, 0x52);
        assert_eq!(group, Some(0x53));
    }

    #[test]
    fn queues_are_found_when_the_guest_tells_them() {
        let mut card = Card::default();
        for (place, value) in [(0x16, 0), (0x18, 64), (0x20, 0x80_0000), (0x30, 0x80_2000)] {
            assert_eq!(card.write(REGION + place, value), None);
        }
        assert_eq!(card.write(REGION + 0x3000, 0), Some(0));
        let queue = Queue {
            descriptors: 0x80_0000,
            used: 0x80_2000,
            size: 64,
        };
        assert_eq!(card.receive_queue(0), Some(queue));
        assert_eq!(card.receive_queue(1), None);
        assert_eq!(card.queues().count(), 1);
        let (element, index) = CardLie::UsedUnknown.used(0xffff).expect("a used buffer");
        assert_eq!((element[0], index), (200, 0));
    }
}
