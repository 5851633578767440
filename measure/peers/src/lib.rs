//! Launches for comparisons: random, but the same on each run.

use cloister_measure::config::GuestFeatures;
use cloister_measure::testing::{Rng, RomBuilder};
use cloister_measure::{CpuModel, KernelHashes, LaunchConfig, VmmKind};
use std::fs;
use std::path::{Path, PathBuf};

/// Names of CPU models that all peers know.
pub const CPU_NAMES: [&str; 16] = [
    "EPYC",
    "EPYC-v1",
    "EPYC-v2",
    "EPYC-IBPB",
    "EPYC-v3",
    "EPYC-v4",
    "EPYC-Rome",
    "EPYC-Rome-v1",
    "EPYC-Rome-v2",
    "EPYC-Rome-v3",
    "EPYC-Milan",
    "EPYC-Milan-v1",
    "EPYC-Milan-v2",
    "EPYC-Genoa",
    "EPYC-Genoa-v1",
    "EPYC-Turin",
];

/// What `-kernel`, `-initrd` and `-append` name.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel file.
    pub kernel: Vec<u8>,
    /// The initial RAM disk.
    pub initrd: Option<Vec<u8>>,
    /// The command line.
    pub append: Option<String>,
}

impl Kernel {
    /// The hashes that the launch covers.
    pub fn hashes(&self) -> KernelHashes {
        let initrd = self.initrd.as_deref().unwrap_or(&[]);
        KernelHashes::new(&self.kernel, initrd, self.append.as_deref().unwrap_or(""))
    }
}

/// A launch, and the inputs that peers read from files.
#[derive(Clone, Debug)]
pub struct Case {
    /// The image.
    pub rom: Vec<u8>,
    /// The launch; the kernel's hashes are in it.
    pub config: LaunchConfig,
    /// Name of the CPU model.
    pub cpu_name: &'static str,
    /// The kernel.
    pub kernel: Option<Kernel>,
}

impl Case {
    /// Draws a launch by one of `vmms`.
    pub fn random(rng: &mut Rng, vmms: &[VmmKind]) -> Self {
        let kernel = (rng.below(2) == 0).then(|| random_kernel(rng));
        let cpu_name = rng.pick(&CPU_NAMES);
        let cpu: CpuModel = cpu_name.parse().expect("a known name");
        let vcpus = if rng.below(10) == 0 {
            1 + rng.below(96)
        } else {
            1 + rng.below(8)
        };
        let config = LaunchConfig {
            features: GuestFeatures(1 | (rng.number() & rng.number() & 0xffff)),
            kernel: kernel.as_ref().map(Kernel::hashes),
            ..LaunchConfig::new(rng.pick(vmms), vcpus as u32, cpu)
        };
        let rom = random_rom(rng, kernel.is_some());
        Self {
            rom,
            config,
            cpu_name,
            kernel,
        }
    }

    /// Writes the files into `folder`, which is made; gives the paths of image, kernel and initial
    /// RAM disk.
    pub fn write(&self, folder: &Path) -> Files {
        fs::create_dir_all(folder).expect("the folder can be made");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).expect("the file can be written");
            path
        };
        let initrd = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.initrd.as_ref());
        Files {
            rom: write("rom.bin", &self.rom),
            kernel: self
                .kernel
                .as_ref()
                .map(|kernel| write("kernel", &kernel.kernel)),
            initrd: initrd.map(|initrd| write("initrd", initrd)),
        }
    }
}

/// Paths of a case's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The image.
    pub rom: PathBuf,
    /// The kernel.
    pub kernel: Option<PathBuf>,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
}

fn random_kernel(rng: &mut Rng) -> Kernel {
    let bytes = 1 + rng.below(5000);
    let kernel = rng.bytes(bytes);
    let initrd = (rng.below(3) > 0).then(|| {
        let bytes = rng.below(3000);
        rng.bytes(bytes)
    });
    let append = ["console=ttyS0", "ro quiet", "", "init=/\u{fc}ber"];
    let append = (rng.below(3) > 0).then(|| rng.pick(&append).to_owned());
    Kernel {
        kernel,
        initrd,
        append,
    }
}

/// An image of 1 to 8 pages with its tables in any order.
fn random_rom(rng: &mut Rng, takes_kernel: bool) -> Vec<u8> {
    let pages = 1 + rng.below(8);
    let rom = RomBuilder::new(pages * 4096).contents(|byte| *byte = rng.number() as u8);
    let (rom, hashes_page) = random_sections(rng, rom, takes_kernel);
    let offset = 16 * rng.below((4096 - 176) / 16 + 1) as u32;
    // Address 0 is "no place": the sections begin behind the first page.
    let hash_table = hashes_page + offset;
    let reset = 1 + rng.below(0xffff_fffe) as u32;
    let rom = random_entry(rng, rom);
    let rom = match rng.below(2) {
        0 => random_entry(rng, rom.reset(reset)).hash_table(hash_table, 0x400),
        _ => random_entry(rng, rom.hash_table(hash_table, 0x400)).reset(reset),
    };
    random_entry(rng, rom).build()
}

/// Adds up to two entries that mean nothing.
fn random_entry(rng: &mut Rng, mut rom: RomBuilder) -> RomBuilder {
    for _ in 0..rng.below(3) {
        let guid: [u8; 16] = rng.bytes(16).try_into().expect("16 bytes");
        let bytes = rng.below(40);
        let data = rng.bytes(bytes);
        rom = rom.entry(cloister_measure::guid::Guid::from_bytes(guid), &data);
    }
    rom
}

/// Adds sections that do not overlap, in any order of addresses, and gives the address of the last
/// one for kernel hashes.
fn random_sections(rng: &mut Rng, mut rom: RomBuilder, takes_kernel: bool) -> (RomBuilder, u32) {
    let mut sections = vec![];
    let mut gpa = 0x1000 * (1 + rng.below(0x1000) as u32);
    let mut hashes_page = gpa;
    for number in 0..1 + rng.below(10) {
        let kind = match number {
            0 if takes_kernel => 0x10,
            _ => rng.pick(&[1, 1, 1, 2, 3, 4, 0x10]),
        };
        let one_page = matches!(kind, 2 | 3 | 0x10);
        let pages = if one_page {
            1
        } else {
            1 + rng.below(20) as u32
        };
        if kind == 0x10 {
            hashes_page = gpa;
        }
        sections.push((gpa, pages * 0x1000, kind));
        gpa += 0x1000 * (pages + rng.below(3) as u32);
    }
    while !sections.is_empty() {
        let (gpa, bytes, kind) = sections.swap_remove(rng.below(sections.len()));
        rom = rom.section(gpa, bytes, kind);
    }
    (rom, hashes_page)
}
