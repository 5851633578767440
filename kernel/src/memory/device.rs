//! Device registers in memory: one window of addresses and the local APIC, uncached, never executable, never RAM.

use super::{PhysAddr, PhysRange};
use crate::stop::{self, Reason};

/// Where the guest places the devices' registers: 256 MiB below the I/O APIC. The memory map
/// refuses RAM in it and the page tables map it as device memory.
pub const DEVICE_WINDOW: PhysRange =
    match PhysRange::from_len(PhysAddr::new(0xe000_0000), 256 << 20) {
        Some(window) => window,
        None => panic!("the window does not wrap"),
    };

/// The registers of the local APIC, where they are after reset.
pub const LOCAL_APIC: PhysRange = match PhysRange::from_len(PhysAddr::new(0xfee0_0000), 4096) {
    Some(page) => page,
    None => panic!("the page does not wrap"),
};

/// An integer that a device register can hold.
pub(crate) trait Register: Copy {}
impl Register for u8 {}
impl Register for u16 {}
impl Register for u32 {}
impl Register for u64 {}

/// Reads one register. An address outside [`DEVICE_WINDOW`] and [`LOCAL_APIC`] or a misaligned one ends the guest.
pub(crate) fn read<T: Register>(address: PhysAddr) -> T {
    let register = register_pointer::<T>(address);
    // SAFETY: 1. `register_pointer` returned an aligned address inside one of the two. 2. The
    // page tables map both as a whole, uncached, and nothing else lies there, so no Rust object
    // is read. 3. Every bit pattern is a valid integer.
    unsafe { register.read_volatile() }
}

/// Writes one register, under the same conditions as [`read`].
pub(crate) fn write<T: Register>(address: PhysAddr, value: T) {
    let register = register_pointer::<T>(address);
    // SAFETY: as in `read`; no Rust object lies there, so none is changed.
    unsafe { register.write_volatile(value) }
}

fn register_pointer<T: Register>(address: PhysAddr) -> *mut T {
    check(address, size_of::<T>() as u64);
    core::ptr::with_exposed_provenance_mut(address.as_u64() as usize)
}

/// Ends the guest if a register of so many bytes at `address` is misaligned or no device's.
pub(crate) fn check(address: PhysAddr, bytes: u64) {
    let inside = PhysRange::from_len(address, bytes)
        .is_some_and(|r| DEVICE_WINDOW.contains(r) || LOCAL_APIC.contains(r));
    if !inside || !address.is_aligned(bytes) {
        stop::stop(
            Reason::Panic,
            format_args!("device access at {address} of {bytes} bytes"),
        );
    }
}
