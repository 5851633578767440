//! Fixed places in low memory until the kernel has read the host's memory map.
//!
//! Below 2 MiB only [`START_PAGE`] is ever mapped, and only where it is needed: there are the null page, and the guard
//! below boot's stack, which begins exactly at 2 MiB.

use crate::address::{LARGE_PAGE_BYTES, PhysAddr, PhysRange, VirtAddr};

/// RAM that boot uses: stack, first page tables, hand-over, the kernel's first page tables, launch pages.
pub const BOOT_RAM: PhysRange = fixed(0x20_0000, 0x28_0000);
/// Boot's stack, at the low end of [`BOOT_RAM`].
pub const BOOT_STACK: PhysRange = fixed(0x20_0000, 0x21_0000);
/// The four tables that the 32-bit code fills.
pub const FIRST_TABLES: PhysRange = fixed(0x21_0000, 0x21_4000);
/// The page with the hand-over.
pub const HANDOVER: PhysRange = fixed(0x21_4000, 0x21_5000);
/// Where the reset code leaves the timestamp counter.
pub const RESET_TICKS: PhysAddr = PhysAddr::new(0x21_5000);
/// How boot's words reach the host: [`console`].
pub const CONSOLE: PhysAddr = PhysAddr::new(0x21_5008);
/// Where the reset code leaves a random number that the encryption mask must find again.
pub const MASK_PROBE: PhysAddr = PhysAddr::new(0x21_5010);
/// Pages that an SEV-SNP guest shares with its host, in this order: the GHCB, requests to the security
/// processor, its responses.
pub const HOST_PAGES: PhysRange = fixed(0x21_6000, 0x21_9000);
/// Where the reset code maps the large page of [`BOOT_RAM`] a second time, without encryption mask.
pub const UNMASKED_ALIAS: VirtAddr = VirtAddr::new(0x3fe0_0000);
/// The tables that the kernel starts with.
pub const KERNEL_TABLES: PhysRange = fixed(0x22_0000, 0x27_e000);
/// Page that the launch of an SEV-SNP guest fills with its secrets.
pub const SECRETS_PAGE: PhysRange = fixed(0x27_e000, 0x27_f000);
/// Page that the launch of an SEV-SNP guest fills with checked CPUID values, the last one of [`BOOT_RAM`].
pub const CPUID_PAGE: PhysRange = fixed(0x27_f000, 0x28_0000);
/// Where a launcher starts processors but the first: they halt there. In `link.ld` too.
pub const AP_PARKING: PhysAddr = PhysAddr::new(0xffff_f7f0);
/// Page for the first instructions of other processors on a plain machine, which begin in 16-bit mode. The kernel copies
/// them there.
pub const START_PAGE: PhysRange = fixed(0x8000, 0x9000);
/// Where the kernel's segments may lie.
pub const KERNEL_WINDOW: PhysRange = fixed(0x40_0000, 0x200_0000);

/// Values of the word at [`CONSOLE`]. The boot program has no variables, and a panic knows nothing else.
pub mod console {
    /// Ports, as on a plain machine. The reset code writes it, or [`NONE`].
    pub const PORTS: u32 = 0;
    /// The GHCB's MSR protocol, which carries no words.
    pub const NONE: u32 = 1;
    /// The GHCB.
    pub const GHCB: u32 = 2;
}

const fn fixed(start: u64, end: u64) -> PhysRange {
    match PhysRange::new(PhysAddr::new(start), PhysAddr::new(end)) {
        Some(range) => range,
        None => panic!("the end is above the start"),
    }
}

const _: () = {
    assert!(BOOT_RAM.contains(BOOT_STACK) && BOOT_RAM.contains(FIRST_TABLES));
    assert!(BOOT_RAM.contains(HANDOVER) && BOOT_RAM.contains(KERNEL_TABLES));
    assert!(BOOT_STACK.start().as_u64() == BOOT_RAM.start().as_u64());
    assert!(!BOOT_STACK.overlaps(FIRST_TABLES) && !FIRST_TABLES.overlaps(HANDOVER));
    assert!(!HANDOVER.overlaps(KERNEL_TABLES) && !BOOT_RAM.overlaps(KERNEL_WINDOW));
    assert!(HANDOVER.end().as_u64() <= RESET_TICKS.as_u64());
    assert!(MASK_PROBE.as_u64() < HOST_PAGES.start().as_u64());
    assert!(HOST_PAGES.end().as_u64() <= KERNEL_TABLES.start().as_u64());
    assert!(BOOT_RAM.start().is_aligned(LARGE_PAGE_BYTES));
    assert!(KERNEL_TABLES.end().as_u64() == SECRETS_PAGE.start().as_u64());
    assert!(SECRETS_PAGE.end().as_u64() == CPUID_PAGE.start().as_u64());
    assert!(CPUID_PAGE.end().as_u64() == BOOT_RAM.end().as_u64());
};
