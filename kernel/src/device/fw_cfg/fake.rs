//! The device in software, with files of the test's choosing, and a host that can lie.

use super::*;
use crate::memory::PhysRange;
use crate::platform::{CpuStart, CpuStartError, Cpuid, Evidence, PageStateError};
use crate::stop::Reason;
use spin::Mutex;
use std::string::String;
use std::vec::Vec;

/// How the fake host answers.
#[derive(Clone, Default)]
pub(crate) struct Host {
    /// Files: name, stated size, true content. Item numbers count from 0x20.
    pub(crate) files: Vec<(String, u32, Vec<u8>)>,
    /// A directory count other than the number of files.
    pub(crate) count: Option<u32>,
    /// Item number of the first file, where it is not the right one.
    pub(crate) first_item: Option<u16>,
    /// Answers instead of "QEMU".
    pub(crate) signature: Option<[u8; 4]>,
    /// Control word that each DMA request ends with; 0 is success.
    pub(crate) dma_outcome: u32,
    /// Processors.
    pub(crate) cpus: u16,
    /// A byte of the file that is flipped on its way.
    pub(crate) flipped: Option<usize>,
}

impl Host {
    pub(crate) fn with(name: &str, content: &[u8]) -> Self {
        let file = (String::from(name), content.len() as u32, content.to_vec());
        Self {
            files: Vec::from([file]),
            ..Self::default()
        }
    }

    /// The device; it lives as long as the test process.
    pub(crate) fn device(self) -> FwCfg<'static> {
        FwCfg {
            platform: self.platform(),
        }
    }

    pub(crate) fn platform(self) -> &'static FakePlatform {
        let state = State {
            host: self,
            item: Vec::new(),
            at: 0,
            dma_high: 0,
        };
        std::boxed::Box::leak(std::boxed::Box::new(FakePlatform(Mutex::new(state))))
    }

    fn item(&self, item: u16) -> Vec<u8> {
        match item {
            ITEM_SIGNATURE => self.signature.unwrap_or(*b"QEMU").to_vec(),
            ITEM_INTERFACE => [3, 0, 0, 0].to_vec(),
            ITEM_CPUS => self.cpus.to_le_bytes().to_vec(),
            ITEM_DIRECTORY => self.directory(),
            file => {
                let index = usize::from(file).wrapping_sub(0x20);
                let mut content = self
                    .files
                    .get(index)
                    .map(|f| f.2.clone())
                    .unwrap_or_default();
                if let Some(byte) = self.flipped.and_then(|at| content.get_mut(at)) {
                    *byte ^= 1;
                }
                content
            }
        }
    }

    fn directory(&self) -> Vec<u8> {
        let mut bytes = self
            .count
            .unwrap_or(self.files.len() as u32)
            .to_be_bytes()
            .to_vec();
        for (index, (name, size, _)) in self.files.iter().enumerate() {
            let item = self.first_item.unwrap_or(0x20) + index as u16;
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&item.to_be_bytes());
            bytes.extend_from_slice(&[0; 2]);
            let mut field = [0; NAME_BYTES];
            let length = name.len().min(NAME_BYTES);
            field[..length].copy_from_slice(&name.as_bytes()[..length]);
            bytes.extend_from_slice(&field);
        }
        bytes
    }
}

pub(crate) struct FakePlatform(Mutex<State>);

struct State {
    host: Host,
    item: Vec<u8>,
    at: usize,
    dma_high: u32,
}

impl State {
    fn select(&mut self, item: u16) {
        self.item = self.host.item(item);
        self.at = 0;
    }

    /// Beyond an item's end the device gives zeros.
    fn next(&mut self) -> u8 {
        self.at += 1;
        self.item.get(self.at - 1).copied().unwrap_or(0)
    }

    fn dma(&mut self, request: u64) {
        let request = std::ptr::with_exposed_provenance_mut::<[u8; 16]>(request as usize);
        // SAFETY: the driver's request lies in the test pool's memory, which is never freed.
        let bytes = unsafe { request.read_volatile() };
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let control = word(0);
        if control & DMA_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let target = u64::from(word(8)) << 32 | u64::from(word(12));
        for index in 0..u64::from(word(4)) {
            let byte = self.next();
            let target = std::ptr::with_exposed_provenance_mut::<u8>((target + index) as usize);
            // SAFETY: as above, for the bounce buffer.
            unsafe { target.write_volatile(byte) };
        }
        // SAFETY: as above.
        unsafe {
            request
                .cast::<[u8; 4]>()
                .write_volatile(self.host.dma_outcome.to_be_bytes())
        };
    }
}

impl Platform for FakePlatform {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn in_u8(&self, port: u16) -> u8 {
        assert_eq!(port, DATA_PORT);
        self.0.lock().next()
    }
    fn out_u16(&self, port: u16, value: u16) {
        assert_eq!(port, SELECTOR_PORT);
        self.0.lock().select(value);
    }
    fn out_u32(&self, port: u16, value: u32) {
        let mut state = self.0.lock();
        let value = u32::from_be(value);
        if port == DMA_PORT {
            state.dma_high = value;
        } else {
            let request = u64::from(state.dma_high) << 32 | u64::from(value);
            state.dma(request);
        }
    }
    fn in_u16(&self, _: u16) -> u16 {
        unimplemented!()
    }
    fn in_u32(&self, _: u16) -> u32 {
        unimplemented!()
    }
    fn out_u8(&self, _: u16, _: u8) {
        unimplemented!()
    }
    fn mmio_read_u8(&self, _: PhysAddr) -> u8 {
        unimplemented!()
    }
    fn mmio_read_u16(&self, _: PhysAddr) -> u16 {
        unimplemented!()
    }
    fn mmio_read_u32(&self, _: PhysAddr) -> u32 {
        unimplemented!()
    }
    fn mmio_read_u64(&self, _: PhysAddr) -> u64 {
        unimplemented!()
    }
    fn mmio_write_u8(&self, _: PhysAddr, _: u8) {
        unimplemented!()
    }
    fn mmio_write_u16(&self, _: PhysAddr, _: u16) {
        unimplemented!()
    }
    fn mmio_write_u32(&self, _: PhysAddr, _: u32) {
        unimplemented!()
    }
    fn mmio_write_u64(&self, _: PhysAddr, _: u64) {
        unimplemented!()
    }
    fn cpuid(&self, _: u32, _: u32) -> Cpuid {
        unimplemented!()
    }
    fn read_msr(&self, _: u32) -> u64 {
        unimplemented!()
    }
    fn write_msr(&self, _: u32, _: u64) {
        unimplemented!()
    }
    fn validate(&self, _: PhysRange) -> Result<(), PageStateError> {
        unimplemented!()
    }
    fn share(&self, _: PhysRange) -> Result<(), PageStateError> {
        unimplemented!()
    }
    fn hardware_random(&self) -> Option<u64> {
        unimplemented!()
    }
    fn attest(&self, _: &[u8; 64]) -> Evidence {
        unimplemented!()
    }
    fn start_cpu(&self, _: &CpuStart<'_>) -> Result<(), CpuStartError> {
        unimplemented!()
    }
    fn stop(&self, reason: Reason) -> ! {
        panic!("stopped: {reason:?}")
    }
}
