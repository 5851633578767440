//! From the firmware image to a guest that is ready to run.

use crate::cpu;
use crate::entry::MAX_CPUS;
use crate::fw_cfg;
use crate::hostile::Hostile;
use crate::log::{self, log};
use crate::machine::{CpuState, PLATFORM, Platform};
use crate::memory::{self, TablePages};
use crate::smp;
use crate::vcpu::CPUS;
use cloister_emulator::checks::Options;
use cloister_emulator::cpuid::cpuid_page;
use cloister_emulator::digest::PageKind;
use cloister_emulator::firmware::Firmware;
use cloister_emulator::guest_message::Channel;
use cloister_emulator::launch::{Ingredients, launch as launch_pages};
use cloister_emulator::memory_map::MemoryMap;
use cloister_emulator::nested::NestedTables;
use cloister_emulator::rmp::{Rmp, RmpError, Size};
use cloister_emulator::secrets::{Vmpcks, secrets_page};
use cloister_emulator::statistics::Statistics;
use cloister_emulator::vmsa::{RESET_VECTOR, reset_vmsa};

/// Launches the guest: private memory, measured pages, the first CPU's state.
pub(crate) fn launch(options: Options) {
    let image = memory::firmware(fw_cfg::load_firmware());
    let firmware = Firmware::parse(image)
        .unwrap_or_else(|error| log::diagnose(format_args!("the firmware image: {error:?}")));
    let map = memory_map(image.len() as u64);
    let mut rmp = Rmp::new(map, memory::rmp_entries()).expect("there is an entry for every page");
    let cpu_signature = cpu::cpuid(1, 0)[0];
    let keys = message_keys();
    let cpus = fw_cfg::cpus();
    if cpus as usize > MAX_CPUS {
        log::diagnose(format_args!(
            "{cpus} CPUs: the emulator has at most {MAX_CPUS}"
        ))
    }
    let mut hostile = Hostile::new(options.hostile);
    let mut cpuid = cpuid_page(&cpu::cpuid);
    hostile.cpuid_page(&mut cpuid);
    let ingredients = Ingredients {
        image,
        cpus,
        cpu_signature,
        cpuid: &cpuid,
        secrets: &secrets_page(cpu_signature, &keys),
    };
    let mut pages = 0;
    let digest = launch_pages(&firmware, &ingredients, |kind, gpa, page| {
        pages += 1;
        if kind == PageKind::Vmsa {
            return Ok(());
        }
        let host = map.private(gpa).ok_or((gpa, RmpError::NoMemory))?;
        memory::write_page(host, page);
        match rmp.validate(gpa, Size::Small, true) {
            Ok(true) => Ok(()),
            Ok(false) => Err((gpa, RmpError::Permission)),
            Err(error) => Err((gpa, error)),
        }
    });
    let digest = digest.unwrap_or_else(|(gpa, error)| {
        log::diagnose(format_args!("page {gpa:#x} cannot be launched: {error:?}"))
    });
    log!(
        "launch: {} KiB of firmware, {pages} pages, {cpus} CPUs",
        image.len() >> 10
    );
    log!("launch digest {}", Hex(&digest.value()));
    let tables = NestedTables::new(TablePages::new()).expect("the first tables");
    let state = reset_vmsa(RESET_VECTOR, cpu_signature);
    CPUS[0].lock().load(&state, tables.root(false));
    smp::set_reset_state(&reset_vmsa(firmware.reset_address(), cpu_signature));
    *PLATFORM.lock() = Some(Platform {
        options,
        map,
        rmp,
        tables,
        channel: Channel::new(keys),
        measurement: digest.value(),
        cpu_signature,
        cpus: [CpuState::default(); MAX_CPUS],
        hostile,
        statistics: Statistics::default(),
        started: cpu::ticks(),
    });
}

/// The guest's memory, as the machine's configuration memory tells it, and its private backing.
fn memory_map(rom_bytes: u64) -> MemoryMap {
    let read = |register: u8| {
        cpu::out8(0x70, register);
        u64::from(cpu::in8(0x71))
    };
    // Registers 0x34 and 0x35: memory above 16 MiB in units of 64 KiB.
    let ram_bytes = (16 << 20) + (read(0x35) << 8 | read(0x34)) * (64 << 10);
    let map = MemoryMap::new(ram_bytes, rom_bytes, memory::BACKING)
        .unwrap_or_else(|| log::diagnose(format_args!("{ram_bytes:#x} bytes of RAM are too much")));
    if !memory::keeps_what_is_written(map.backing_end() - 8) {
        let needed = (map.backing_end() >> 20) - 4096;
        log::diagnose(format_args!(
            "L0 needs {needed} MiB at 4 GiB (pc-dimm), and has less"
        ))
    }
    map
}

/// Keys for guest messages: others at every launch, but no secret.
fn message_keys() -> Vmpcks {
    use sha2::{Digest, Sha256};
    core::array::from_fn(|level| {
        let mut hash = Sha256::new();
        hash.update(b"cloister emulator VMPCK");
        hash.update([level as u8]);
        hash.update(cpu::ticks().to_le_bytes());
        hash.finalize().into()
    })
}

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
