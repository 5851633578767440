//! A virtio network card in software, for tests on the host: well-behaved unless a test makes it lie.
//!
//! Physical addresses are ordinary pointers here, because the pool of tests maps them so.

use spin::{Mutex, Once};
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

use crate::memory::shared::{self, POOL_MAX_PAGES, SharedPool};
use crate::memory::{PAGE_BYTES, PhysAddr, PhysRange};
use crate::platform::{CpuStart, CpuStartError, Cpuid, Evidence, PageStateError, Platform};
use crate::stop::Reason;

/// Slot of the card on the bus.
const SLOT: u32 = 3;
const COMMON: u64 = 0;
const NOTIFY: u64 = 0x1000;
const CONFIG: u64 = 0x2000;
const BAR_BYTES: u32 = 0x4000;

pub(crate) const RECEIVE: usize = 0;
pub(crate) const TRANSMIT: usize = 1;

#[derive(Default, Clone)]
pub(crate) struct Queue {
    pub(crate) size: u16,
    pub(crate) notify_off: u16,
    pub(crate) enabled: u16,
    pub(crate) descriptors: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    taken: u16,
    pub(crate) used: u16,
}

/// Everything that a test may bend.
pub(crate) struct State {
    config_address: u32,
    pub(crate) config: [u8; 256],
    /// What each base address register answers to the size question.
    pub(crate) bar_masks: [u32; 6],
    bars: [u32; 6],
    pub(crate) features: u64,
    pub(crate) driver_features: u64,
    feature_select: u32,
    pub(crate) status: u8,
    /// Bits of the status that never stick.
    pub(crate) status_refused: u8,
    pub(crate) reset_works: bool,
    pub(crate) generation_runs: bool,
    generation: u8,
    queue_select: u16,
    pub(crate) queues: Vec<Queue>,
    pub(crate) address: [u8; 6],
    /// Frames that the guest sent.
    pub(crate) sent: VecDeque<Vec<u8>>,
    /// Whether sent frames are taken as soon as the guest notifies.
    pub(crate) takes_frames: bool,
}

pub(crate) struct FakeCard {
    pub(crate) state: Mutex<State>,
}

impl FakeCard {
    /// A card that works.
    pub(crate) fn new() -> &'static Self {
        install_pool();
        let queue = |notify_off| Queue {
            size: 256,
            notify_off,
            ..Queue::default()
        };
        let mut state = State {
            config_address: 0,
            config: [0; 256],
            bar_masks: [0, 0, 0, 0, !(BAR_BYTES - 1) | 0b1100, u32::MAX],
            bars: [0; 6],
            features: 1 << 33 | 1 << 32 | 1 << 29 | 1 << 28 | 1 << 16 | 1 << 5 | 1,
            driver_features: 0,
            feature_select: 0,
            status: 0,
            status_refused: 0,
            reset_works: true,
            generation_runs: false,
            generation: 0,
            queue_select: 0,
            queues: [queue(0), queue(1)].to_vec(),
            address: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            sent: VecDeque::new(),
            takes_frames: true,
        };
        state.config[0..4].copy_from_slice(&[0xf4, 0x1a, 0x41, 0x10]);
        state.config[6] = 0x10;
        state.config[0x34] = 0x40;
        state.set_capability(0x40, 0x50, 1, 4, COMMON as u32, 0x1000);
        state.set_capability(0x50, 0x64, 2, 4, NOTIFY as u32, 0x1000);
        state.config[0x60..0x64].copy_from_slice(&4_u32.to_le_bytes());
        state.set_capability(0x64, 0, 4, 4, CONFIG as u32, 0x1000);
        Box::leak(Box::new(Self {
            state: Mutex::new(state),
        }))
    }

    /// Puts a frame into the guest's next receive buffer, as a device should; false if it has none.
    pub(crate) fn deliver(&self, frame: &[u8]) -> bool {
        let mut state = self.state.lock();
        let Some((id, address, length)) = state.take_available(RECEIVE) else {
            return false;
        };
        assert!(length as usize >= 12 + frame.len());
        write(address, &[0; 12]);
        write(address + 12, frame);
        state.give_back(RECEIVE, u32::from(id), 12 + frame.len() as u32);
        true
    }

    /// Puts an arbitrary element into a used ring.
    pub(crate) fn claim_used(&self, queue: usize, id: u32, length: u32) {
        self.state.lock().give_back(queue, id, length);
    }
}

impl State {
    pub(crate) fn set_capability(
        &mut self,
        at: usize,
        next: u8,
        kind: u8,
        bar: u8,
        offset: u32,
        length: u32,
    ) {
        self.config[at..at + 5].copy_from_slice(&[0x09, next, 20, kind, bar]);
        self.config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        self.config[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
    }

    /// The next available buffer: descriptor, address, length.
    fn take_available(&mut self, queue: usize) -> Option<(u16, u64, u32)> {
        let queue = &mut self.queues[queue];
        if queue.enabled == 0 || u16::from_le_bytes(read(queue.driver + 2)) == queue.taken {
            return None;
        }
        let slot = u64::from(queue.taken % queue.size);
        queue.taken = queue.taken.wrapping_add(1);
        let id = u16::from_le_bytes(read(queue.driver + 4 + 2 * slot));
        let descriptor = queue.descriptors + 16 * u64::from(id);
        let address = u64::from_le_bytes(read(descriptor));
        Some((id, address, u32::from_le_bytes(read(descriptor + 8))))
    }

    fn give_back(&mut self, queue: usize, id: u32, length: u32) {
        let queue = &mut self.queues[queue];
        let element = queue.device + 4 + 8 * u64::from(queue.used % queue.size);
        write(element, &id.to_le_bytes());
        write(element + 4, &length.to_le_bytes());
        queue.used = queue.used.wrapping_add(1);
        write(queue.device + 2, &queue.used.to_le_bytes());
    }

    fn take_sent_frames(&mut self) {
        while let Some((id, address, length)) = self.take_available(TRANSMIT) {
            let frame = (12..u64::from(length))
                .map(|at| read::<1>(address + at)[0])
                .collect();
            self.sent.push_back(frame);
            self.give_back(TRANSMIT, u32::from(id), 0);
        }
    }

    fn read_register(&mut self, offset: u64) -> u64 {
        let queue = self
            .queues
            .get(usize::from(self.queue_select))
            .cloned()
            .unwrap_or_default();
        match offset {
            0x04 => self.features >> (32 * self.feature_select) & 0xffff_ffff,
            0x14 => u64::from(self.status),
            0x15 => {
                self.generation = self.generation.wrapping_add(u8::from(self.generation_runs));
                u64::from(self.generation)
            }
            0x18 => u64::from(queue.size),
            0x1c => u64::from(queue.enabled),
            0x1e => u64::from(queue.notify_off),
            CONFIG..=0x2005 => u64::from(self.address[(offset - CONFIG) as usize]),
            0x2006 => 1,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u64) {
        if (NOTIFY..CONFIG).contains(&offset) {
            if self.takes_frames && value == TRANSMIT as u64 {
                self.take_sent_frames();
            }
            return;
        }
        match offset {
            0x00 | 0x08 => self.feature_select = value as u32,
            0x0c if self.feature_select == 0 => self.driver_features = value,
            0x0c => self.driver_features |= value << 32,
            0x14 if value == 0 && !self.reset_works => {}
            0x14 => self.status = value as u8 & !self.status_refused,
            0x16 => self.queue_select = value as u16,
            _ => self.write_queue_register(offset, value),
        }
    }

    fn write_queue_register(&mut self, offset: u64, value: u64) {
        let queue = &mut self.queues[usize::from(self.queue_select)];
        match offset {
            0x18 => queue.size = value as u16,
            0x1c => queue.enabled = value as u16,
            0x20 => queue.descriptors = value,
            0x24 => queue.descriptors |= value << 32,
            0x28 => queue.driver = value,
            0x2c => queue.driver |= value << 32,
            0x30 => queue.device = value,
            0x34 => queue.device |= value << 32,
            _ => {}
        }
    }

    fn bar_offset(&self, address: PhysAddr) -> u64 {
        assert_eq!(
            self.config[4] & 0b110,
            0b110,
            "memory decoding and bus mastering are on"
        );
        let base = u64::from(self.bars[4] & !0xf);
        let offset = address
            .as_u64()
            .checked_sub(base)
            .expect("above the register's base");
        assert!(
            base >= 0xe000_0000 && offset < u64::from(BAR_BYTES),
            "{address}"
        );
        offset
    }

    fn config_read(&self) -> u32 {
        let (slot, offset) = (
            self.config_address >> 11 & 0x1f,
            self.config_address as usize & 0xfc,
        );
        if self.config_address >> 16 != 0x8000 || slot != SLOT || self.config_address & 0x700 != 0 {
            return u32::MAX;
        }
        match offset {
            0x10..=0x24 => self.bars[(offset - 0x10) / 4],
            _ => u32::from_le_bytes(self.config[offset..offset + 4].try_into().expect("4 bytes")),
        }
    }

    fn config_write(&mut self, value: u32) {
        let offset = self.config_address as usize & 0xfc;
        match offset {
            0x10..=0x24 => {
                let bar = (offset - 0x10) / 4;
                let mask = self.bar_masks[bar];
                let flags = if bar == 5 { 0 } else { 0xf };
                self.bars[bar] = value & mask & !flags | mask & flags;
            }
            0x04 => self.config[4..6].copy_from_slice(&value.to_le_bytes()[..2]),
            _ => {}
        }
    }
}

/// Bytes of the guest's memory.
pub(crate) fn read<const N: usize>(address: u64) -> [u8; N] {
    assert_in_pool(address, N);
    let pointer = core::ptr::with_exposed_provenance::<[u8; N]>(address as usize);
    // SAFETY: the address lies in the pool, whose memory is leaked and reached by volatile accesses alone.
    unsafe { pointer.read_volatile() }
}

/// Writes into the guest's memory.
pub(crate) fn write(address: u64, bytes: &[u8]) {
    assert_in_pool(address, bytes.len());
    for (index, byte) in bytes.iter().enumerate() {
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(address as usize + index);
        // SAFETY: as in `read`.
        unsafe { pointer.write_volatile(*byte) }
    }
}

/// The device is handed nothing but pool addresses.
fn assert_in_pool(address: u64, bytes: usize) {
    let range = PhysRange::from_len(PhysAddr::new(address), bytes as u64).expect("no wrap");
    assert!(
        shared::pool().range().contains(range),
        "{range:?} is private memory"
    );
}

/// One pool for all tests: they run at the same time, and each leaks what its device still holds.
pub(crate) fn install_pool() {
    static ONCE: Once<()> = Once::new();
    ONCE.call_once(|| {
        let bytes = POOL_MAX_PAGES * PAGE_BYTES as usize;
        let memory = std::vec![0_u8; bytes + PAGE_BYTES as usize].leak();
        let start = (memory.as_mut_ptr().expose_provenance() as u64).next_multiple_of(PAGE_BYTES);
        let range = PhysRange::from_len(PhysAddr::new(start), bytes as u64).expect("no wrap");
        let base = core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut(start as usize));
        // SAFETY: the leaked vector is valid for ever, holds the aligned range, and is used by nothing else.
        shared::install(unsafe { SharedPool::new(base.expect("not null"), range) });
    });
}

impl Platform for FakeCard {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn in_u32(&self, port: u16) -> u32 {
        assert_eq!(port, 0xcfc);
        self.state.lock().config_read()
    }

    fn out_u32(&self, port: u16, value: u32) {
        match port {
            0xcf8 => self.state.lock().config_address = value,
            0xcfc => self.state.lock().config_write(value),
            other => panic!("port {other:#x}"),
        }
    }

    fn mmio_read_u8(&self, address: PhysAddr) -> u8 {
        let mut state = self.state.lock();
        let offset = state.bar_offset(address);
        state.read_register(offset) as u8
    }

    fn mmio_read_u16(&self, address: PhysAddr) -> u16 {
        let mut state = self.state.lock();
        let offset = state.bar_offset(address);
        state.read_register(offset) as u16
    }

    fn mmio_read_u32(&self, address: PhysAddr) -> u32 {
        let mut state = self.state.lock();
        let offset = state.bar_offset(address);
        state.read_register(offset) as u32
    }

    fn mmio_write_u8(&self, address: PhysAddr, value: u8) {
        self.mmio_write_u32(address, u32::from(value));
    }

    fn mmio_write_u16(&self, address: PhysAddr, value: u16) {
        self.mmio_write_u32(address, u32::from(value));
    }

    fn mmio_write_u32(&self, address: PhysAddr, value: u32) {
        let mut state = self.state.lock();
        let offset = state.bar_offset(address);
        state.write_register(offset, u64::from(value));
    }

    fn in_u8(&self, _port: u16) -> u8 {
        unimplemented!()
    }

    fn in_u16(&self, _port: u16) -> u16 {
        unimplemented!()
    }

    fn out_u8(&self, _port: u16, _value: u8) {
        unimplemented!()
    }

    fn out_u16(&self, _port: u16, _value: u16) {
        unimplemented!()
    }

    fn mmio_read_u64(&self, _address: PhysAddr) -> u64 {
        unimplemented!()
    }

    fn mmio_write_u64(&self, _address: PhysAddr, _value: u64) {
        unimplemented!()
    }

    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> Cpuid {
        unimplemented!()
    }

    fn read_msr(&self, _register: u32) -> u64 {
        unimplemented!()
    }

    fn write_msr(&self, _register: u32, _value: u64) {
        unimplemented!()
    }

    fn validate(&self, _pages: PhysRange) -> Result<(), PageStateError> {
        unimplemented!()
    }

    fn share(&self, _pages: PhysRange) -> Result<(), PageStateError> {
        unimplemented!()
    }

    fn hardware_random(&self) -> Option<u64> {
        unimplemented!()
    }

    fn attest(&self, _report_data: &[u8; 64]) -> Evidence {
        unimplemented!()
    }

    fn start_cpu(&self, _: &CpuStart<'_>) -> Result<(), CpuStartError> {
        unimplemented!()
    }

    fn stop(&self, reason: Reason) -> ! {
        panic!("stopped: {}", reason.name())
    }
}
