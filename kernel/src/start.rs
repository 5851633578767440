//! From boot's hand-over to the service, one step after the other. Whatever is missing or wrong ends
//! the guest with its reason.

use crate::arch::{cpu, tables};
use crate::device::fw_cfg::FwCfg;
use crate::memory::kernel_image;
use crate::memory::map::{self, MemoryMap};
use crate::memory::shared;
use crate::memory::space::Space;
use crate::platform::{self, Platform};
use crate::service::{self, Machine};
use crate::stop::{self, Reason};
use crate::time::Clock;
use crate::{entropy, load, log, smp};
use cloister_boot::handover::Handover;
use cloister_boot::manifest::{self, Manifest, ModelRef};
use core::fmt::Debug;

/// The heap's first part, for what is needed before the rest of the RAM is divided.
const FIRST_HEAP_BYTES: u64 = 4 << 20;
const MIB: u64 = 1 << 20;
/// How often loading the model is reported, in hundredths of its length.
const PROGRESS_STEP_PERCENT: usize = 25;

/// The kernel's first Rust function.
pub fn kernel_main(handover: &Handover) -> ! {
    platform::start(handover);
    let platform = platform::current();
    tables::install(
        0,
        kernel_image::exception_stack(),
        kernel_image::double_fault_stack(),
    );
    require(
        handover.check(),
        Reason::BadHandover,
        "boot and kernel do not fit together",
    );
    cpu::harden(platform);
    let clock = start_clock(platform, handover);
    start_entropy(platform);
    let device = require(
        FwCfg::new(platform),
        Reason::FirmwareConfig,
        "no firmware configuration device with DMA",
    );
    let map = read_map(device, handover);
    let cpus = smp::count(device);
    let ram_bytes = map.ram_bytes;
    if ram_bytes < manifest::BASE_BYTES {
        too_little_memory(manifest::BASE_BYTES, ram_bytes);
    }
    // SAFETY: this is the only call, boot's tables are in force, and the map's frames are RAM that
    // holds neither the kernel nor what boot still needs.
    let space = unsafe {
        Space::new(
            platform,
            handover,
            map.frames,
            cpu::has_huge_pages(platform),
            cpus - 1,
        )
    };
    let mut space = space.unwrap_or_else(|error| {
        let what = "the RAM cannot be mapped or taken over";
        stop::stop(error.reason(), format_args!("{what}: {error:?}"))
    });
    #[cfg(feature = "selftest")]
    crate::selftest::run(device);
    if !space.grow_heap(FIRST_HEAP_BYTES) {
        too_little_memory(manifest::BASE_BYTES, ram_bytes);
    }
    let manifest = Manifest::decode(space.rom_part(handover, handover.manifest));
    let manifest = require(
        manifest,
        Reason::BadManifest,
        "the manifest in the ROM cannot be read",
    );
    smp::start(platform, clock, space.root(), cpus);
    let pack = prepare_memory(platform, device, space, &manifest, ram_bytes, &clock);
    smp::page_tables_are_final(clock);
    let enclosures = load::enclosures(device, shared::pool());
    let enclosures = require(
        enclosures,
        Reason::FirmwareConfig,
        "what goes with the evidence cannot be read (opt/cloister/certificates, release-note, release-proof: at most \
         64 KiB each)",
    );
    #[cfg(feature = "selftest")]
    crate::selftest::run_on_another_cpu(device);
    service::run(Machine {
        platform,
        clock,
        stack: kernel_image::main_stack(),
        manifest,
        model_pack: pack,
        enclosures,
    })
}

fn start_clock(platform: &dyn Platform, handover: &Handover) -> Clock {
    let clock = Clock::calibrate(platform, handover.reset_ticks);
    let what = "the timestamp counter cannot be calibrated";
    let clock = require(clock, Reason::NoClock, what);
    log!(
        "kernel on {}, {} kHz, {} us after reset",
        platform.name(),
        clock.khz(),
        clock.now_us()
    );
    clock
}

/// In a frame of its own, since moves leave copies of the seed behind, and only what lies below the service's frame is
/// wiped.
#[inline(never)]
fn start_entropy(platform: &'static dyn Platform) {
    let source = entropy::Source::new(platform);
    let what = "the processor's random numbers are missing or broken";
    entropy::install(require(source, Reason::NoEntropy, what));
}

fn read_map(device: FwCfg<'_>, handover: &Handover) -> MemoryMap {
    let mut buffer = [0; map::ENTRIES_MAX * map::ENTRY_BYTES];
    let file = device.find("etc/e820").transpose();
    let Some(file) = file else {
        stop::stop(
            Reason::MemoryMap,
            format_args!("the host gives no memory map (etc/e820)"),
        );
    };
    let table = file.and_then(|file| device.read_small(file, &mut buffer));
    let table = require(
        table,
        Reason::MemoryMap,
        "the host's memory map cannot be read",
    );
    let occupied = [handover.kernel, handover.boot_ram, handover.start_page];
    let has_start_page = usize::from(!handover.start_page.is_empty());
    let map = MemoryMap::parse(table, &occupied[..2 + has_start_page]);
    require(
        map,
        Reason::MemoryMap,
        "the host's memory map is not one of a machine",
    )
}

/// Loads the model, if the image names one, and gives all other RAM to the heap.
fn prepare_memory(
    platform: &'static dyn Platform,
    device: FwCfg<'_>,
    mut space: Space,
    manifest: &Manifest,
    ram_bytes: u64,
    clock: &Clock,
) -> Option<&'static [u8]> {
    let needed = manifest.memory_bytes();
    log!(
        "{} MiB of RAM on {}, {} MiB needed",
        ram_bytes / MIB,
        platform.name(),
        needed / MIB
    );
    if ram_bytes < needed {
        too_little_memory(needed, ram_bytes);
    }
    let pack = manifest.model.as_ref().map(|model| {
        let Some(mut region) = space.take_region(model.pack_bytes) else {
            too_little_memory(needed, ram_bytes);
        };
        load_pack(device, model, region.bytes_mut());
        let bytes = space.freeze(region);
        let bytes = require(
            bytes,
            Reason::PageTables,
            "the model cannot be made read-only",
        );
        log!("model {} loaded after {} ms", model.name, clock.now_ms());
        &bytes[..model.pack_bytes as usize]
    });
    space.finish();
    pack
}

fn load_pack(device: FwCfg<'_>, model: &ModelRef, memory: &mut [u8]) {
    let mut next_percent = PROGRESS_STEP_PERCENT;
    let progress = |done, of| {
        let percent = done * 100 / of;
        if percent >= next_percent {
            log!("model: {percent} % loaded and checked");
            next_percent = percent - percent % PROGRESS_STEP_PERCENT + PROGRESS_STEP_PERCENT;
        }
    };
    let (pool, workers) = (shared::pool(), smp::workers());
    let loaded = load::model(model, device, pool, memory, workers, progress);
    if let Err(error) = loaded {
        stop::stop(error.reason(), format_args!("{error}"));
    }
}

fn too_little_memory(needed_bytes: u64, ram_bytes: u64) -> ! {
    stop::stop(
        Reason::TooLittleMemory,
        format_args!(
            "this image needs {} MiB of RAM and the machine has {} MiB: give it more (-m)",
            needed_bytes.div_ceil(MIB),
            ram_bytes / MIB
        ),
    )
}

fn require<T, E: Debug>(outcome: Result<T, E>, reason: Reason, what: &str) -> T {
    outcome.unwrap_or_else(|error| stop::stop(reason, format_args!("{what}: {error:?}")))
}
