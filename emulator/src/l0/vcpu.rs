//! A guest CPU: its VMCB, the registers that a VMCB has no field for, and the way into it and back.

use crate::cpu;
use crate::entry::MAX_CPUS;
use cloister_emulator::page::{C_BIT, Page};
use cloister_emulator::vmcb::{self, IO_MAP_BYTES, MSR_MAP_BYTES, Pointers, SAVE, control};
use cloister_emulator::vmsa::field;
use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr;
use spin::{Mutex, Once};

const VM_HSAVE_PA: u32 = 0xc001_0117;
const RAX: usize = 0;
const RSP: usize = 4;
/// x87, SSE, AVX and protection keys; what else a processor offers stays off.
const STATE_COMPONENTS: u32 = 0x207;

global_asm!(
    include_str!("run.s"),
    vmcb = const offset_of!(Cpu, vmcb_address),
    guest_xcr0 = const offset_of!(Cpu, guest_xcr0),
    host_xcr0 = const offset_of!(Cpu, host_xcr0),
    state = const offset_of!(Cpu, state),
    options(att_syntax)
);

unsafe extern "sysv64" {
    fn l0_run(cpu: *mut Cpu);
}

/// A guest CPU. `run.s` knows its layout.
#[repr(C, align(4096))]
pub(crate) struct Cpu {
    registers: [u64; 16],
    vmcb_address: u64,
    guest_xcr0: u64,
    host_xcr0: u64,
    /// XSAVE area; the guest's legacy state begins as a VMSA says.
    state: XsaveArea,
    vmcb: Page,
}

#[repr(C, align(64))]
struct XsaveArea([u8; 3072]);

impl Cpu {
    /// A CPU that was never started.
    const STOPPED: Self = Self {
        registers: [0; 16],
        vmcb_address: 0,
        guest_xcr0: 1,
        host_xcr0: 1,
        state: XsaveArea([0; 3072]),
        vmcb: Page::ZERO,
    };

    /// Puts the CPU into the state of a VMSA.
    pub(crate) fn load(&mut self, vmsa: &Page, nested_cr3: u64) {
        let (io_map, msr_map) = maps();
        let pointers = Pointers {
            io_map,
            msr_map,
            nested_cr3,
        };
        *self = Self::STOPPED;
        self.vmcb = vmcb::from_vmsa(vmsa, pointers);
        // Page tables are private, whatever CR3 says.
        self.set_saved(field::CR3, vmsa.u64(field::CR3) | C_BIT);
        self.vmcb_address = ptr::from_ref(&self.vmcb).expose_provenance() as u64;
        self.host_xcr0 = host_xcr0();
        self.guest_xcr0 = vmsa.u64(field::XCR0).max(1) & self.host_xcr0;
        let middle = [field::RCX, field::RDX, field::RBX];
        for (number, offset) in middle.into_iter().enumerate() {
            self.registers[number + 1] = vmsa.u64(offset);
        }
        let others = (5..).zip((field::RBP..).step_by(8));
        for (number, offset) in others.take(11) {
            self.registers[number] = vmsa.u64(offset);
        }
        // FCW, FSW, abridged FTW (all empty), MXCSR; and the header: x87 and SSE are in use.
        self.state.0[0..2].copy_from_slice(&vmsa.field::<2>(field::X87_FCW));
        self.state.0[2..4].copy_from_slice(&vmsa.field::<2>(field::X87_FSW));
        self.state.0[24..28].copy_from_slice(&vmsa.field::<4>(field::MXCSR));
        self.state.0[512] = 3;
    }

    /// Runs the guest until its next exit.
    pub(crate) fn run(&mut self) {
        // SAFETY: `load` set the VMCB's pointers to maps and nested tables that stay; the tables lead
        // only to the guest's pages, so the guest reaches nothing of L0; `enable` gave this CPU a
        // page for its host state; `run.s` keeps the registers of the ABI.
        unsafe { l0_run(self) };
    }

    /// The VMCB.
    pub(crate) fn vmcb(&self) -> &Page {
        &self.vmcb
    }

    /// The VMCB, to be changed.
    pub(crate) fn vmcb_mut(&mut self) -> &mut Page {
        &mut self.vmcb
    }

    /// A field of the VMCB's save area.
    pub(crate) fn saved(&self, offset: usize) -> u64 {
        self.vmcb.u64(SAVE + offset)
    }

    /// Writes a field of the VMCB's save area.
    pub(crate) fn set_saved(&mut self, offset: usize, value: u64) {
        self.vmcb.set_u64(SAVE + offset, value);
    }

    /// A general register by its number in instructions.
    pub(crate) fn register(&self, number: u8) -> u64 {
        match usize::from(number) {
            RAX => self.saved(field::RAX),
            RSP => self.saved(field::RSP),
            other => self.registers[other],
        }
    }

    /// Writes a general register.
    pub(crate) fn set_register(&mut self, number: u8, value: u64) {
        match usize::from(number) {
            RAX => self.set_saved(field::RAX, value),
            RSP => self.set_saved(field::RSP, value),
            other => self.registers[other] = value,
        }
    }

    /// Goes on behind an instruction.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.set_saved(field::RIP, self.saved(field::RIP).wrapping_add(bytes));
        self.vmcb.set_u32(control::INTERRUPT_SHADOW, 0);
    }

    /// Exit code and the two words of information.
    pub(crate) fn exit(&self) -> (u64, u64, u64) {
        (
            self.vmcb.u64(control::EXIT_CODE) & 0xffff_ffff,
            self.vmcb.u64(control::EXIT_INFO1),
            self.vmcb.u64(control::EXIT_INFO2),
        )
    }

    /// Which state components the guest uses.
    pub(crate) fn xcr0(&self) -> u64 {
        self.guest_xcr0
    }
}

/// The guest's CPUs. Each is used by the processor of the same number, and locked while it runs.
pub(crate) static CPUS: [Mutex<Cpu>; MAX_CPUS] = [const { Mutex::new(Cpu::STOPPED) }; MAX_CPUS];

/// Prepares this processor for VMRUN.
pub(crate) fn enable(number: usize) {
    static HOST_STATE: [Mutex<Page>; MAX_CPUS] = [const { Mutex::new(Page::ZERO) }; MAX_CPUS];
    let page = HOST_STATE[number].lock();
    let address = ptr::from_ref(page.bytes()).expose_provenance();
    // The page belongs to the processor from now on.
    core::mem::forget(page);
    cpu::write_msr(VM_HSAVE_PA, address as u64);
    cpu::set_xcr0(host_xcr0());
}

/// The state components that L0 saves and restores.
fn host_xcr0() -> u64 {
    u64::from(cpu::cpuid(0xd, 0)[0] & STATE_COMPONENTS)
}

/// Host addresses of the I/O and MSR permission maps.
fn maps() -> (u64, u64) {
    #[repr(C, align(4096))]
    struct Maps {
        io: [u8; IO_MAP_BYTES],
        msr: [u8; MSR_MAP_BYTES],
    }
    static MAPS: Once<Maps> = Once::new();
    let maps = MAPS.call_once(|| {
        let mut msr = [0; MSR_MAP_BYTES];
        vmcb::fill_msr_map(&mut msr);
        Maps {
            io: [0xff; IO_MAP_BYTES],
            msr,
        }
    });
    let address = |place: *const u8| place.expose_provenance() as u64;
    (address(maps.io.as_ptr()), address(maps.msr.as_ptr()))
}
