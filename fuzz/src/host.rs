//! What the guest's drivers are told by a host that owns every port and register.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cloister_kernel::device::fw_cfg::FwCfg;
use cloister_kernel::device::pci::{Bus, Window};
use cloister_kernel::device::virtio::PciTransport;
use cloister_kernel::memory::{DEVICE_WINDOW, PhysAddr, PhysRange};
use cloister_kernel::platform::{
    CpuStart, CpuStartError, Cpuid, Evidence, PageStateError, Platform,
};
use cloister_kernel::stop::Reason;

/// The file that [`fw_cfg`] looks for.
const FILE: &str = "etc/e820";
/// The most bytes of that file.
const FILE_BYTES: usize = 512;

/// The firmware configuration device: a file that is found has at most the bytes that there is room for.
pub fn fw_cfg(data: &[u8]) -> bool {
    let _machine = Machine::with(data);
    let Ok(device) = FwCfg::new(&MACHINE) else {
        return false;
    };
    let Ok(Some(file)) = device.find(FILE) else {
        return false;
    };
    let mut buffer = [0; FILE_BYTES];
    match device.read_small(file, &mut buffer) {
        Ok(content) => assert_eq!(content.len(), file.bytes as usize),
        Err(_) => assert!(file.bytes as usize > FILE_BYTES),
    }
    true
}

/// A directory with two files.
pub fn fw_cfg_seeds() -> Vec<Vec<u8>> {
    let entry = |bytes: u32, item: u16, name: &str| {
        let mut entry = [&bytes.to_be_bytes()[..], &item.to_be_bytes(), &[0; 2]].concat();
        entry.extend_from_slice(name.as_bytes());
        entry.resize(64, 0);
        entry
    };
    let count = 2_u32.to_be_bytes();
    let features = 3_u32.to_le_bytes();
    let directory = [entry(7, 0x20, "opt/other"), entry(20, 0x21, FILE)].concat();
    vec![[b"QEMU", &features, &count, &directory[..], &[5; 20]].concat()]
}

/// The network card: where it is driven, its structures lie in the window for devices.
pub fn network_card(data: &[u8]) -> bool {
    let _machine = Machine::with(data);
    let Ok(function) = Bus::new(&MACHINE).find(VENDOR, DEVICE) else {
        return false;
    };
    let mut window = Window::new(DEVICE_WINDOW);
    let Ok(bars) = function.enable(&mut window) else {
        return false;
    };
    PciTransport::new(&MACHINE, function, &bars).is_ok()
}

const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1041;

/// A card with its three structures in one 64-bit register of 16 KiB.
pub fn network_card_seeds() -> Vec<Vec<u8>> {
    let mut config = [0; CONFIG_BYTES + 4 * BARS];
    config[..2].copy_from_slice(&VENDOR.to_le_bytes());
    config[2..4].copy_from_slice(&DEVICE.to_le_bytes());
    config[6] = 1 << 4;
    config[0x34] = 0x40;
    let wide = 4;
    config[FIRST_BAR + 4 * wide] = 0b100;
    for (index, kind) in [1, 2, 4].into_iter().enumerate() {
        let at = 0x40 + 0x18 * index;
        let next = if index == 2 { 0 } else { at as u8 + 0x18 };
        config[at..at + 5].copy_from_slice(&[0x09, next, 20, kind, wide as u8]);
        config[at + 8..at + 12].copy_from_slice(&(0x1000 * index as u32).to_le_bytes());
        config[at + 12..at + 16].copy_from_slice(&0x1000_u32.to_le_bytes());
    }
    let size = !(0x4000_u32 - 1) | 0b100;
    config[CONFIG_BYTES + 4 * wide..][..4].copy_from_slice(&size.to_le_bytes());
    config[CONFIG_BYTES + 4 * (wide + 1)..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    vec![config.to_vec()]
}

/// Length of a PCI function's configuration space; behind it lie the sizes that its registers read as.
const CONFIG_BYTES: usize = 256;
const FIRST_BAR: usize = 0x10;
const BARS: usize = 6;

const PCI_ADDRESS_PORT: u16 = 0xcf8;
const PCI_DATA_PORT: u16 = 0xcfc;

/// A machine whose devices are the fuzzer's bytes. Drivers keep it for good, so there is one, and one run at a time.
struct Machine {
    devices: Mutex<Devices>,
}

static MACHINE: Machine = Machine {
    devices: Mutex::new(Devices {
        data: Vec::new(),
        read: 0,
        pci_address: 0,
        is_measured: [false; BARS],
    }),
};

struct Devices {
    data: Vec<u8>,
    /// Bytes that ports have given.
    read: usize,
    pci_address: u32,
    /// Base address registers that read as their size.
    is_measured: [bool; BARS],
}

impl Machine {
    /// Gives the machine these bytes, until the guard is dropped.
    fn with(data: &[u8]) -> MutexGuard<'static, ()> {
        static RUN: Mutex<()> = Mutex::new(());
        let run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
        *MACHINE.devices() = Devices {
            data: data.to_vec(),
            read: 0,
            pci_address: 0,
            is_measured: [false; BARS],
        };
        run
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Devices {
    /// The next bytes in their order; behind the last one, what a bus without a device gives.
    fn next<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| {
            let byte = self.data.get(self.read).copied();
            self.read += 1;
            byte.unwrap_or(0xff)
        })
    }

    fn word(&self, at: usize) -> u32 {
        let byte = |index| self.data.get(at + index).copied().unwrap_or(0);
        u32::from_le_bytes(std::array::from_fn(byte))
    }

    /// The base address register that the address names.
    fn bar(&self) -> Option<usize> {
        let index = (self.pci_address as usize & 0xfc).checked_sub(FIRST_BAR)? / 4;
        (index < BARS).then_some(index)
    }

    /// There is one function, 0.0.
    fn read_pci(&self) -> u32 {
        if self.pci_address & 0xff_ff00 != 0 {
            return u32::MAX;
        }
        match self.bar() {
            Some(index) if self.is_measured[index] => self.word(CONFIG_BYTES + 4 * index),
            _ => self.word(self.pci_address as usize & 0xfc),
        }
    }

    fn write_pci(&mut self, value: u32) {
        if let Some(index) = self.bar() {
            self.is_measured[index] = value == u32::MAX;
        }
    }
}

impl Platform for Machine {
    fn name(&self) -> &'static str {
        "fuzzed"
    }

    fn in_u8(&self, _: u16) -> u8 {
        u8::from_le_bytes(self.devices().next())
    }

    fn in_u16(&self, _: u16) -> u16 {
        u16::from_le_bytes(self.devices().next())
    }

    fn in_u32(&self, port: u16) -> u32 {
        let mut devices = self.devices();
        match port {
            PCI_DATA_PORT => devices.read_pci(),
            _ => u32::from_le_bytes(devices.next()),
        }
    }

    fn out_u8(&self, _: u16, _: u8) {}

    fn out_u16(&self, _: u16, _: u16) {}

    fn out_u32(&self, port: u16, value: u32) {
        let mut devices = self.devices();
        match port {
            PCI_ADDRESS_PORT => devices.pci_address = value,
            PCI_DATA_PORT => devices.write_pci(value),
            _ => {}
        }
    }

    fn mmio_read_u8(&self, address: PhysAddr) -> u8 {
        check(address, 1);
        0
    }

    fn mmio_read_u16(&self, address: PhysAddr) -> u16 {
        check(address, 2);
        u16::from_le_bytes(self.devices().next())
    }

    fn mmio_read_u32(&self, address: PhysAddr) -> u32 {
        check(address, 4);
        u32::from_le_bytes(self.devices().next())
    }

    fn mmio_read_u64(&self, address: PhysAddr) -> u64 {
        check(address, 8);
        u64::from_le_bytes(self.devices().next())
    }

    fn mmio_write_u8(&self, address: PhysAddr, _: u8) {
        check(address, 1);
    }

    fn mmio_write_u16(&self, address: PhysAddr, _: u16) {
        check(address, 2);
    }

    fn mmio_write_u32(&self, address: PhysAddr, _: u32) {
        check(address, 4);
    }

    fn mmio_write_u64(&self, address: PhysAddr, _: u64) {
        check(address, 8);
    }

    fn cpuid(&self, _: u32, _: u32) -> Cpuid {
        Cpuid::default()
    }

    fn read_msr(&self, _: u32) -> u64 {
        0
    }

    fn write_msr(&self, _: u32, _: u64) {}

    fn validate(&self, _: PhysRange) -> Result<(), PageStateError> {
        Ok(())
    }

    fn share(&self, _: PhysRange) -> Result<(), PageStateError> {
        Ok(())
    }

    fn hardware_random(&self) -> Option<u64> {
        None
    }

    fn attest(&self, _: &[u8; 64]) -> Evidence {
        Evidence::None
    }

    fn start_cpu(&self, _: &CpuStart<'_>) -> Result<(), CpuStartError> {
        Err(CpuStartError::Unsupported)
    }

    fn stop(&self, reason: Reason) -> ! {
        panic!("a driver stopped the guest: {reason:?}");
    }
}

/// Drivers keep to the window for devices, whatever the device says.
fn check(address: PhysAddr, bytes: u64) {
    let access = PhysRange::from_len(address, bytes).expect("no wrap-around");
    assert!(DEVICE_WINDOW.contains(access), "{access:?}");
    assert!(address.is_aligned(bytes), "{access:?}");
}
