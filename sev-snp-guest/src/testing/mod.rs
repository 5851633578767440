//! A host for tests: memory that both sides see, an exit that a script answers, an honest hypervisor with a security
//! processor behind it to begin from, and a model of the RMP.

mod host;
mod psp;
mod rmp;

pub(crate) use host::Host;
pub(crate) use psp::{Psp, REFUSED, report_template, seal, unseal};
pub(crate) use rmp::ModelRmp;

use crate::address::Gfn;
use crate::hypervisor::{Hypervisor, SharedMemory};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::vec::Vec;

/// A seeded generator (SplitMix64): the same numbers in each run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next() as u8);
    }

    /// Changes one byte, most often by one bit.
    pub(crate) fn alter(&mut self, bytes: &mut [u8]) {
        let place = self.below(bytes.len());
        bytes[place] ^= match self.below(4) {
            0 => self.next() as u8 | 1,
            _ => 1 << self.below(8),
        };
    }
}

pub(crate) fn gfn(number: u64) -> Gfn {
    Gfn::new(number).unwrap()
}

/// Guest memory as the host sees it, by frame number.
#[derive(Default)]
pub(crate) struct HostMemory {
    pages: RefCell<BTreeMap<u64, Box<[u64; 512]>>>,
    /// What the guest has read since the last exit.
    loads: RefCell<BTreeSet<(u64, usize)>>,
}

impl HostMemory {
    pub(crate) fn get(&self, frame: u64, index: usize) -> u64 {
        let pages = self.pages.borrow();
        pages.get(&frame).map_or(0, |page| page[index])
    }

    pub(crate) fn set(&self, frame: u64, index: usize, value: u64) {
        let mut pages = self.pages.borrow_mut();
        pages.entry(frame).or_insert_with(|| Box::new([0; 512]))[index] = value;
    }

    pub(crate) fn read_page(&self, frame: u64) -> Vec<u8> {
        (0..512)
            .flat_map(|index| self.get(frame, index).to_le_bytes())
            .collect()
    }

    pub(crate) fn write_page(&self, frame: u64, bytes: &[u8]) {
        for (index, part) in bytes.chunks(8).enumerate() {
            let mut quadword = [0; 8];
            quadword[..part.len()].copy_from_slice(part);
            self.set(frame, index, u64::from_le_bytes(quadword));
        }
    }
}

/// Pages that guest and host see. A second read of a quadword between two exits fails the test: the value could be
/// another one by then.
pub(crate) struct TestMemory {
    memory: Rc<HostMemory>,
    first: Gfn,
    pages: usize,
}

impl SharedMemory for TestMemory {
    fn gfn(&self) -> Gfn {
        self.first
    }

    fn pages(&self) -> usize {
        self.pages
    }

    fn load(&self, index: usize) -> u64 {
        assert!(index < self.pages * 512);
        let frame = self.first.number() + (index / 512) as u64;
        let first_time = self.memory.loads.borrow_mut().insert((frame, index % 512));
        assert!(
            first_time,
            "quadword {index} of page {frame:#x} is read twice"
        );
        let value = self.memory.get(frame, index % 512);
        self.memory.set(frame, index % 512, !value);
        value
    }

    fn store(&mut self, index: usize, value: u64) {
        assert!(index < self.pages * 512);
        let frame = self.first.number() + (index / 512) as u64;
        self.memory.set(frame, index % 512, value);
    }
}

type Script = Box<dyn FnMut(u64, &HostMemory) -> u64>;

/// Answers exits as a script says.
pub(crate) struct TestHypervisor {
    pub(crate) memory: Rc<HostMemory>,
    script: Script,
    pub(crate) exits: Vec<u64>,
    pub(crate) pauses: u32,
}

impl TestHypervisor {
    pub(crate) fn new(script: impl FnMut(u64, &HostMemory) -> u64 + 'static) -> Self {
        Self {
            memory: Rc::default(),
            script: Box::new(script),
            exits: Vec::new(),
            pauses: 0,
        }
    }

    /// A hypervisor that gives the same answer to everything.
    pub(crate) fn fixed(answer: u64) -> Self {
        Self::new(move |_, _| answer)
    }

    /// An honest host, and what a hostile one makes of memory before the guest goes on.
    pub(crate) fn tampering(
        mut host: Host,
        mut tamper: impl FnMut(&mut Host, &HostMemory) + 'static,
    ) -> Self {
        Self::new(move |msr, memory| {
            let answer = host.exit(msr, memory);
            if msr & 0xfff == 0 {
                tamper(&mut host, memory);
            }
            answer
        })
    }

    pub(crate) fn pages(&self, first: u64, pages: usize) -> TestMemory {
        TestMemory {
            memory: Rc::clone(&self.memory),
            first: gfn(first),
            pages,
        }
    }
}

impl Hypervisor for TestHypervisor {
    fn exit(&mut self, ghcb_msr: u64) -> u64 {
        self.exits.push(ghcb_msr);
        self.memory.loads.borrow_mut().clear();
        (self.script)(ghcb_msr, &self.memory)
    }

    fn pause(&mut self) {
        self.pauses += 1;
    }
}
