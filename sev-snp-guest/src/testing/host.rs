//! A hypervisor that does what the GHCB specification says, written from its tables: offsets are literals here.

use super::{HostMemory, Psp};
use std::collections::BTreeMap;
use std::vec::Vec;

const RAX: usize = 0x1f8 / 8;
const RCX: usize = 0x308 / 8;
const RDX: usize = 0x310 / 8;
const RBX: usize = 0x318 / 8;
const EXIT_CODE: usize = 0x390 / 8;
const INFO_1: usize = 0x398 / 8;
const INFO_2: usize = 0x3a0 / 8;
const SCRATCH: usize = 0x3a8 / 8;
const XCR0: usize = 0x3e8 / 8;
const BITMAP: usize = 0x3f0 / 8;
const BUFFER: usize = 0x800 / 8;

/// An honest host.
pub(crate) struct Host {
    /// The registered GHCB.
    pub(crate) ghcb: Option<u64>,
    /// For each frame the last operation: 1 private, 2 shared.
    pub(crate) page_states: BTreeMap<u64, u64>,
    /// Entries of a list that one exit handles.
    pub(crate) psc_step: usize,
    pub(crate) msrs: BTreeMap<u32, u64>,
    pub(crate) ports: BTreeMap<u16, u32>,
    /// What a port gives to string reads.
    pub(crate) stream: Vec<u8>,
    pub(crate) device: BTreeMap<u64, u64>,
    pub(crate) started: Vec<[u64; 3]>,
    pub(crate) psp: Psp,
    /// How often the next guest requests are answered with "busy".
    pub(crate) busy: u32,
    pub(crate) certificates: Vec<u8>,
    /// Every request page that was seen.
    pub(crate) requests: Vec<Vec<u8>>,
    pub(crate) features: u64,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            ghcb: None,
            page_states: BTreeMap::new(),
            psc_step: 1000,
            msrs: BTreeMap::new(),
            ports: BTreeMap::new(),
            stream: Vec::new(),
            device: BTreeMap::new(),
            started: Vec::new(),
            psp: Psp::new(),
            busy: 0,
            certificates: Vec::from([0; 24]),
            requests: Vec::new(),
            features: 3,
        }
    }
}

impl Host {
    pub(crate) fn exit(&mut self, msr: u64, memory: &HostMemory) -> u64 {
        match msr & 0xfff {
            0 => {
                self.page_exit(msr >> 12, memory);
                msr
            }
            0x002 => 2 << 48 | 1 << 32 | 51 << 24 | 0x001,
            0x004 => self.msr_cpuid(msr),
            0x006 => 1 << 12 | 0x007,
            0x010 => 0xf_ffff_ffff_ffff << 12 | 0x011,
            0x012 => {
                self.ghcb = Some(msr >> 12);
                msr & !0xfff | 0x013
            }
            0x014 => {
                let frame = msr >> 12 & 0xff_ffff_ffff;
                self.page_states.insert(frame, msr >> 52 & 0xf);
                0x015
            }
            0x080 => self.features << 12 | 0x081,
            0x100 => panic!("terminated: {msr:#x}"),
            _ => 0,
        }
    }

    fn msr_cpuid(&self, msr: u64) -> u64 {
        // Leaf, and which register: enough to see that all arrive.
        let value = msr >> 32 << 4 | msr >> 30 & 3;
        value << 32 | 0x005
    }

    fn page_exit(&mut self, page: u64, memory: &HostMemory) {
        if self.ghcb != Some(page) {
            return finish(memory, page, 2, 1, &[]);
        }
        let input = |index: usize| {
            let valid = memory.get(page, BITMAP + index / 64) & 1 << (index % 64) != 0;
            valid.then(|| memory.get(page, index))
        };
        assert_eq!(memory.get(page, 511), 2 << 16, "version 2, usage 0");
        let (Some(code), Some(info_1), Some(info_2)) =
            (input(EXIT_CODE), input(INFO_1), input(INFO_2))
        else {
            return finish(memory, page, 2, 4, &[]);
        };
        let scratch = input(SCRATCH).map(|address| {
            assert_eq!(
                address,
                page << 12 | 0x800,
                "scratch lies in the shared buffer"
            );
        });
        let registers = [input(RAX), input(RBX), input(RCX), input(RDX)];
        match code {
            0x72 => self.cpuid(page, memory, registers, input(XCR0)),
            0x7b => self.port(page, memory, info_1, info_2, registers[0], scratch),
            0x7c => self.msr(page, memory, info_1, registers),
            0x8000_0001 => {
                scratch.expect("MMIO has a buffer");
                let value = self.device.get(&info_1).copied().unwrap_or(u64::MAX);
                let garbage = if info_2 == 8 {
                    0
                } else {
                    u64::MAX << (8 * info_2)
                };
                memory.set(page, BUFFER, value | garbage);
                finish(memory, page, 0, 0, &[]);
            }
            0x8000_0002 => {
                scratch.expect("MMIO has a buffer");
                self.device.insert(info_1, memory.get(page, BUFFER));
                finish(memory, page, 0, 0, &[]);
            }
            0x8000_0004 => finish(memory, page, 0, 1, &[]),
            0x8000_0010 => {
                scratch.expect("PSC has a buffer");
                self.page_state_change(page, memory);
            }
            0x8000_0011 => self.guest_request(page, memory, info_1, info_2, None),
            0x8000_0012 => {
                let buffer = registers[0].zip(registers[1]).expect("certificate buffer");
                self.guest_request(page, memory, info_1, info_2, Some(buffer));
            }
            0x8000_0013 => {
                self.started
                    .push([info_1, info_2, registers[0].unwrap_or(0)]);
                finish(memory, page, 0, 0, &[]);
            }
            0x8000_fffd => finish(memory, page, 0, self.features, &[]),
            _ => finish(memory, page, 2, 6, &[]),
        }
    }

    fn cpuid(
        &self,
        page: u64,
        memory: &HostMemory,
        registers: [Option<u64>; 4],
        xcr0: Option<u64>,
    ) {
        let [Some(leaf), _, Some(subleaf), _] = registers else {
            return finish(memory, page, 2, 4, &[]);
        };
        if (leaf == 0xd) != xcr0.is_some() {
            return finish(memory, page, 2, 4, &[]);
        }
        let result = [
            (RAX, leaf + 1),
            (RBX, subleaf),
            (RCX, xcr0.unwrap_or(0)),
            (RDX, 9),
        ];
        finish(memory, page, 0, 0, &result);
    }

    fn port(
        &mut self,
        page: u64,
        memory: &HostMemory,
        info_1: u64,
        info_2: u64,
        rax: Option<u64>,
        scratch: Option<()>,
    ) {
        let port = (info_1 >> 16) as u16;
        match info_1 & 0xffff {
            // REP INSB, ES, 64-bit addresses.
            0x21d => {
                scratch.expect("string reads have a buffer");
                assert!(info_2 <= 2032);
                let rest = self.stream.split_off(info_2 as usize);
                let part = core::mem::replace(&mut self.stream, rest);
                let mut bytes = memory.read_page(page);
                bytes[0x800..0x800 + part.len()].copy_from_slice(&part);
                memory.write_page(page, &bytes);
                finish(memory, page, 0, 0, &[]);
            }
            0x11 | 0x21 | 0x41 => {
                let value = self.ports.get(&port).copied().unwrap_or(u32::MAX);
                let garbage = 0xdead_beef << 32;
                finish(memory, page, 0, 0, &[(RAX, u64::from(value) | garbage)]);
            }
            0x10 | 0x20 | 0x40 => match rax {
                Some(value) => {
                    self.ports.insert(port, value as u32);
                    finish(memory, page, 0, 0, &[]);
                }
                None => finish(memory, page, 2, 4, &[]),
            },
            _ => finish(memory, page, 2, 5, &[]),
        }
    }

    fn msr(&mut self, page: u64, memory: &HostMemory, info_1: u64, registers: [Option<u64>; 4]) {
        // As KVM: no error code.
        let general_protection = 13 | 3 << 8 | 1 << 31;
        match (info_1, registers) {
            (0, [_, _, Some(number), _]) => match self.msrs.get(&(number as u32)) {
                Some(value) => {
                    let result = [(RAX, value & 0xffff_ffff), (RDX, value >> 32)];
                    finish(memory, page, 0, 0, &result);
                }
                None => finish(memory, page, 1, general_protection, &[]),
            },
            (1, [Some(low), _, Some(number), Some(high)]) => {
                self.msrs.insert(number as u32, high << 32 | low);
                finish(memory, page, 0, 0, &[]);
            }
            _ => finish(memory, page, 2, 4, &[]),
        }
    }

    fn page_state_change(&mut self, page: u64, memory: &HostMemory) {
        let header = memory.get(page, BUFFER);
        let (current, last) = (header & 0xffff, header >> 16 & 0xffff);
        let end = (last + 1).min(current + self.psc_step as u64);
        for index in current..end {
            let place = BUFFER + 1 + index as usize;
            let entry = memory.get(page, place);
            let pages = if entry & 1 << 56 != 0 { 512 } else { 1 };
            let first = entry >> 12 & 0xff_ffff_ffff;
            for frame in first + (entry & 0xfff)..first + pages {
                self.page_states.insert(frame, entry >> 52 & 0xf);
            }
            memory.set(page, place, entry & !0xfff | pages);
        }
        memory.set(page, BUFFER, end | last << 16);
        finish(memory, page, 0, 0, &[]);
    }

    fn guest_request(
        &mut self,
        page: u64,
        memory: &HostMemory,
        request: u64,
        response: u64,
        buffer: Option<(u64, u64)>,
    ) {
        let message = memory.read_page(request >> 12);
        self.requests.push(message.clone());
        if self.busy > 0 {
            self.busy -= 1;
            return finish(memory, page, 0, 2 << 32, &[]);
        }
        let needed = self.certificates.len().div_ceil(4096) as u64;
        if let Some((address, pages)) = buffer {
            if pages < needed {
                return finish(memory, page, 0, 1 << 32, &[(RBX, needed)]);
            }
            for (index, part) in self.certificates.chunks(4096).enumerate() {
                memory.write_page((address >> 12) + index as u64, part);
            }
        }
        let status = match self.psp.handle(&message) {
            Ok(answer) => {
                memory.write_page(response >> 12, &answer);
                0
            }
            Err(status) => u64::from(status),
        };
        finish(memory, page, 0, status, &[]);
    }
}

/// Results, and the bitmap of them and no others.
fn finish(memory: &HostMemory, page: u64, info_1: u64, info_2: u64, registers: &[(usize, u64)]) {
    let results = [(INFO_1, info_1), (INFO_2, info_2)];
    let mut valid = [0_u64; 2];
    for &(index, value) in results.iter().chain(registers) {
        memory.set(page, index, value);
        valid[index / 64] |= 1 << (index % 64);
    }
    memory.set(page, BITMAP, valid[0]);
    memory.set(page, BITMAP + 1, valid[1]);
}
