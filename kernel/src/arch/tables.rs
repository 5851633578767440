//! Descriptor tables: segments, the task state with the exception stacks, and all 256 vectors.

use crate::memory::PhysRange;
use crate::smp::MAX_CPUS;
use core::arch::{asm, global_asm};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

global_asm!(include_str!("vectors.s"), options(att_syntax));

/// Interrupt-stack-table slot of every vector but the double fault.
const EXCEPTION_STACK: u8 = 1;
/// Slot of the double fault, so that it works when the other stack does not.
const DOUBLE_FAULT_STACK: u8 = 2;
const DOUBLE_FAULT: usize = 8;
const VECTORS: usize = 256;
/// Distance between the entry stubs in `vectors.s`.
const STUB_BYTES: u64 = 16;
/// Present, privilege 0, 64-bit interrupt gate.
const INTERRUPT_GATE: u8 = 0x8e;

/// A gate of the interrupt descriptor table (APM volume 2, figure 4-24).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    attributes: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const _: () = {
    assert!(size_of::<Gate>() == 16);
    assert!(core::mem::offset_of!(Gate, stack) == 4);
    assert!(core::mem::offset_of!(Gate, offset_high) == 8);
};

/// Operand of LIDT.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// What each processor has of its own.
struct CpuTables {
    task: Once<TaskStateSegment>,
    segments: Once<(GlobalDescriptorTable, Selectors)>,
}

static CPUS: [CpuTables; MAX_CPUS] = [const {
    CpuTables {
        task: Once::new(),
        segments: Once::new(),
    }
}; MAX_CPUS];
static GATES: Once<[Gate; VECTORS]> = Once::new();

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

unsafe extern "C" {
    static exception_vectors: u8;
}

/// Makes and loads the tables of processor `number`, the one that calls: from here on every exception ends in
/// `exceptions`, on one of these stacks.
pub fn install(number: u32, exception_stack: PhysRange, double_fault_stack: PhysRange) {
    let tables = &CPUS[number as usize];
    let task = tables.task.call_once(|| {
        let mut task = TaskStateSegment::new();
        for (slot, stack) in [
            (EXCEPTION_STACK, exception_stack),
            (DOUBLE_FAULT_STACK, double_fault_stack),
        ] {
            let top = VirtAddr::new(stack.end().as_u64());
            task.interrupt_stack_table[usize::from(slot) - 1] = top;
        }
        task
    });
    let (segments, selectors) = tables.segments.call_once(|| {
        let mut segments = GlobalDescriptorTable::new();
        let code = segments.append(Descriptor::kernel_code_segment());
        let data = segments.append(Descriptor::kernel_data_segment());
        let task = segments.append(Descriptor::tss_segment(task));
        (segments, Selectors { code, data, task })
    });
    segments.load();
    // SAFETY: the selectors belong to the table that was just loaded and lives for ever: flat code
    // and data, and a task state whose stacks are mapped. Zero selectors are unused.
    unsafe {
        CS::set_reg(selectors.code);
        SS::set_reg(selectors.data);
        for set in [DS::set_reg, ES::set_reg, FS::set_reg, GS::set_reg] {
            set(SegmentSelector::NULL);
        }
        load_tss(selectors.task);
    }
    let gates = GATES.call_once(|| core::array::from_fn(|vector| gate(vector, selectors.code)));
    load(gates);
}

fn load(gates: &'static [Gate; VECTORS]) {
    let pointer = TablePointer {
        limit: (size_of_val(gates) - 1) as u16,
        base: gates.as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the table lives for ever and each gate leads to the stub of its vector.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
}

/// From now on a page fault cannot be delivered and becomes a double fault.
#[cfg(feature = "selftest")]
pub fn remove_page_fault_gate() {
    const PAGE_FAULT: usize = 14;
    static WITHOUT: Once<[Gate; VECTORS]> = Once::new();
    let Some(gates) = GATES.get() else { return };
    load(WITHOUT.call_once(|| {
        let mut gates = *gates;
        gates[PAGE_FAULT].attributes = 0;
        gates
    }));
}

fn gate(vector: usize, code: SegmentSelector) -> Gate {
    let stubs = (&raw const exception_vectors).expose_provenance() as u64;
    let offset = stubs + vector as u64 * STUB_BYTES;
    Gate {
        offset_low: offset as u16,
        selector: code.0,
        stack: if vector == DOUBLE_FAULT {
            DOUBLE_FAULT_STACK
        } else {
            EXCEPTION_STACK
        },
        attributes: INTERRUPT_GATE,
        offset_middle: (offset >> 16) as u16,
        offset_high: (offset >> 32) as u32,
        reserved: 0,
    }
}
