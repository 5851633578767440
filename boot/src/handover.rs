//! What boot tells the kernel: one structure, written once, read once.

use crate::address::{PhysAddr, PhysRange};
use core::mem::{offset_of, size_of};

/// First field of every hand-over: "CLOISTER" in ASCII, little-endian.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CLOISTER");
/// Version of the structure; boot and kernel of one image always agree.
pub const VERSION: u32 = 3;

/// A machine without memory encryption: [`Handover::platform`].
pub const PLAIN: u32 = 0;
/// An SEV-SNP guest: [`Handover::platform`].
pub const SEV_SNP: u32 = 1;

/// What a processor that begins in 16-bit mode can reach, without the null page.
const LOW_MEMORY: PhysRange = match PhysRange::new(PhysAddr::new(0x1000), PhysAddr::new(1 << 20)) {
    Some(range) => range,
    None => panic!("the end is above the start"),
};

/// The state in which boot leaves the machine. Physical and virtual addresses are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Handover {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// [`PLAIN`] or [`SEV_SNP`].
    pub platform: u32,
    /// Bits to set in every page-table entry of private memory; 0 on a machine without memory
    /// encryption.
    pub encryption_mask: u64,
    /// Page-table root that is in force.
    pub page_table_root: PhysAddr,
    /// The kernel's segments, guard pages between them included.
    pub kernel: PhysRange,
    /// The whole ROM.
    pub rom: PhysRange,
    /// The manifest, inside the ROM.
    pub manifest: PhysRange,
    /// RAM that boot's stack, page tables and this structure use.
    pub boot_ram: PhysRange,
    /// Pages in `boot_ram` that the host reads and writes too; empty on a plain machine.
    pub host_pages: PhysRange,
    /// Page below 1 MiB in which other processors begin; empty where they begin elsewhere.
    pub start_page: PhysRange,
    /// Pages of RAM that are accepted as private: `boot_ram` and `kernel` hold all of them.
    pub validated_pages: u64,
    /// Timestamp counter at the reset vector, in ticks.
    pub reset_ticks: u64,
}

const _: () = {
    assert!(size_of::<Handover>() == 144);
    assert!(offset_of!(Handover, encryption_mask) == 16);
    assert!(offset_of!(Handover, kernel) == 32);
    assert!(offset_of!(Handover, boot_ram) == 80);
    assert!(offset_of!(Handover, reset_ticks) == 136);
};

/// Why a hand-over is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandoverError {
    /// Not a hand-over.
    Magic,
    /// Made by another version of boot.
    Version(u32),
    /// No platform, or one that does not go with the encryption mask and the pages of the host.
    Platform(u32),
    /// The named range is empty, turned around, or not where the others allow it.
    Range(&'static str),
}

impl Handover {
    /// Checks what the kernel relies on.
    pub fn check(&self) -> Result<(), HandoverError> {
        if self.magic != MAGIC {
            return Err(HandoverError::Magic);
        }
        if self.version != VERSION {
            return Err(HandoverError::Version(self.version));
        }
        let encrypted = self.encryption_mask != 0;
        let shares = !self.host_pages.is_empty();
        match (self.platform, encrypted, shares) {
            (PLAIN, false, false) | (SEV_SNP, true, true) => {}
            (platform, ..) => return Err(HandoverError::Platform(platform)),
        }
        for (name, range) in [
            ("kernel", self.kernel),
            ("rom", self.rom),
            ("manifest", self.manifest),
            ("boot RAM", self.boot_ram),
        ] {
            if range.is_empty() {
                return Err(HandoverError::Range(name));
            }
        }
        if !self.rom.contains(self.manifest) {
            return Err(HandoverError::Range("manifest"));
        }
        if !self.host_pages.is_empty() && !self.boot_ram.contains(self.host_pages) {
            return Err(HandoverError::Range("host pages"));
        }
        if !self.start_page.is_empty() && !LOW_MEMORY.contains(self.start_page) {
            return Err(HandoverError::Range("start page"));
        }
        if self.kernel.overlaps(self.boot_ram) || self.kernel.overlaps(self.rom) {
            return Err(HandoverError::Range("kernel"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)).unwrap()
    }

    fn sound() -> Handover {
        Handover {
            magic: MAGIC,
            version: VERSION,
            platform: PLAIN,
            encryption_mask: 0,
            page_table_root: PhysAddr::new(0x21_0000),
            kernel: range(0x40_0000, 0x60_0000),
            rom: range(0xfff0_0000, 0x1_0000_0000),
            manifest: range(0xfff8_0000, 0xfff8_0100),
            boot_ram: range(0x20_0000, 0x28_0000),
            host_pages: PhysRange::default(),
            start_page: range(0x8000, 0x9000),
            validated_pages: 0x280,
            reset_ticks: 1,
        }
    }

    #[test]
    fn a_sound_one_passes() {
        assert_eq!(sound().check(), Ok(()));
    }

    #[test]
    fn a_platform_goes_with_mask_and_pages() {
        let host_pages = range(0x21_6000, 0x21_9000);
        let snp = Handover {
            platform: SEV_SNP,
            encryption_mask: 1 << 51,
            host_pages,
            ..sound()
        };
        assert_eq!(snp.check(), Ok(()));
        for wrong in [
            Handover {
                platform: PLAIN,
                ..snp
            },
            Handover {
                encryption_mask: 0,
                ..snp
            },
            Handover {
                host_pages: PhysRange::default(),
                ..snp
            },
            Handover {
                platform: SEV_SNP,
                ..sound()
            },
            Handover {
                host_pages,
                ..sound()
            },
            Handover { platform: 2, ..snp },
        ] {
            let platform = HandoverError::Platform(wrong.platform);
            assert_eq!(wrong.check(), Err(platform), "{wrong:?}");
        }
        let outside = Handover {
            host_pages: range(0x1000, 0x4000),
            ..snp
        };
        assert_eq!(outside.check(), Err(HandoverError::Range("host pages")));
        for start_page in [range(0, 0x1000), range(0xf_f000, 0x10_1000)] {
            let outside = Handover {
                start_page,
                ..sound()
            };
            assert_eq!(outside.check(), Err(HandoverError::Range("start page")));
        }
    }

    #[test]
    fn altered_ones_are_refused() {
        assert_eq!(
            Handover {
                magic: 0,
                ..sound()
            }
            .check(),
            Err(HandoverError::Magic)
        );
        assert_eq!(
            Handover {
                version: 9,
                ..sound()
            }
            .check(),
            Err(HandoverError::Version(9))
        );
        assert_eq!(
            Handover {
                manifest: range(0, 5),
                ..sound()
            }
            .check(),
            Err(HandoverError::Range("manifest"))
        );
        assert_eq!(
            Handover {
                kernel: sound().boot_ram,
                ..sound()
            }
            .check(),
            Err(HandoverError::Range("kernel"))
        );
    }
}
