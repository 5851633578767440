//! What L0 relies on, and QEMU's known defects: a tiny guest is run before the real one, so that a
//! QEMU that behaves differently is noticed by name.

use crate::log::{self, End, log};
use crate::memory::{self, TablePages};
use crate::vcpu::{CPUS, Cpu};
use cloister_emulator::exit;
use cloister_emulator::nested::{NestedTables, Tree};
use cloister_emulator::page::C_BIT;
use cloister_emulator::vmcb::{SAVE, control};
use cloister_emulator::vmsa::{RESET_VECTOR, Segment, field, reset_vmsa};

/// The guest's pages: tables, code, stack with data, interrupt and segment tables.
const LEVEL4: u64 = 0x1000;
const LEVEL3: u64 = 0x2000;
const LEVEL2: u64 = 0x3000;
const CODE: u64 = 0x5000;
const STACK_TOP: u64 = 0x7000;
const DATA: u64 = 0x7000;
const IDT: u64 = 0x8000;
const GDT: u64 = 0x9000;
const PAGES_END: u64 = 0xa000;
/// Guest-virtual address of the same memory without the C-bit.
const SHARED: u64 = 0x20_0000;
/// Where nothing is mapped by the nested tables.
const HOLE: u64 = 0x10_0000;
/// Vector that no test uses, with a handler all the same.
const VC: u64 = 29;
const GP: u64 = 13;
const HANDLER: u64 = CODE + 0x80;
/// Masks of the two interrupt controllers.
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];
const INJECT_EXCEPTION: u64 = 3 << 8 | 1 << 11 | 1 << 31;

/// What a test found.
enum Finding {
    /// As L0 needs it.
    Works,
    /// A known defect, which L0 works around.
    Defect,
    /// A known defect is gone; the workaround does no harm.
    Mended,
    /// Not as L0 needs it.
    Broken,
}

/// A line of the table: what is tested, and how.
type Test = (&'static str, fn(&mut Guest<'_>) -> Finding);

const TESTS: &[Test] = &[
    ("CPUID exits at the instruction", |g| {
        g.exits(&[0x0f, 0xa2], exit::CPUID)
    }),
    ("rep vmmcall exits at its prefix", |g| {
        g.exits(&[0xf3, 0x0f, 0x01, 0xd9], exit::VMMCALL)
    }),
    ("PVALIDATE exits as invalid", |g| {
        g.exits(&[0xf2, 0x0f, 0x01, 0xff], exit::UD)
    }),
    ("RMPADJUST exits as invalid", |g| {
        g.exits(&[0xf3, 0x0f, 0x01, 0xfe], exit::UD)
    }),
    ("HLT exits", |g| g.exits(&[0xf4], exit::HLT)),
    ("WBINVD exits", |g| g.exits(&[0x0f, 0x09], exit::WBINVD)),
    ("RDPMC exits", |g| g.exits(&[0x0f, 0x33], exit::RDPMC)),
    ("MONITOR exits", |g| {
        g.exits(&[0x0f, 0x01, 0xc8], exit::MONITOR)
    }),
    ("MWAIT exits", |g| g.exits(&[0x0f, 0x01, 0xc9], exit::MWAIT)),
    ("VMRUN exits", |g| g.exits(&[0x0f, 0x01, 0xd8], exit::VMRUN)),
    ("write of CR0 exits", |g| {
        g.exits(&[0x0f, 0x22, 0xc0], exit::WRITE_CR0)
    }),
    ("write of CR3 exits", |g| {
        g.exits(&[0x0f, 0x22, 0xd8], exit::WRITE_CR3)
    }),
    ("write of DR7 exits", |g| {
        g.exits(&[0x0f, 0x23, 0xf8], exit::WRITE_DR7)
    }),
    ("OUT exits with the next RIP", |g| g.port()),
    ("GHCB register exits", |g| g.ghcb_register()),
    ("C-bit 51 chooses the memory", |g| g.c_bit()),
    ("nested fault names C-bit and kind", |g| g.nested_fault()),
    ("injected #GP has its error code", |g| {
        if g.injected_frame_bytes(GP) == 48 {
            Finding::Works
        } else {
            Finding::Broken
        }
    }),
    ("defect A: injected #VC lacks its error code", |g| {
        defect(g.injected_frame_bytes(VC), 40, 48)
    }),
    ("defect B: read of CR3 is reported as CR0", |g| {
        g.run_code(&[0x0f, 0x20, 0xd8]);
        defect(g.cpu.exit().0, exit::READ_CR0, exit::READ_CR3)
    }),
    ("defect C: there is no next RIP", |g| {
        g.run_code(&[0x0f, 0xa2]);
        defect(g.cpu.vmcb().u64(0xc8), 0, CODE + 2)
    }),
    ("defect C: RDTSCP is reported as RDTSC", |g| {
        g.intercept_tsc();
        g.run_code(&[0x0f, 0x01, 0xf9]);
        defect(g.cpu.exit().0, 0x6e, 0x87)
    }),
    (
        "defect D: a faulted interrupt is reported as an exception",
        |g| g.faulted_interrupt(),
    ),
    ("defect E: INVD is reported as WBINVD", |g| {
        g.run_code(&[0x0f, 0x08]);
        defect(g.cpu.exit().0, exit::WBINVD, exit::INVD)
    }),
    ("a guest without EFER.SVME is refused", |g| {
        g.cpu
            .set_saved(field::EFER, g.cpu.saved(field::EFER) & !0x1000);
        g.run_code(&[0xf4]);
        if g.cpu.exit().0 == exit::INVALID {
            Finding::Works
        } else {
            Finding::Broken
        }
    }),
];

fn defect(seen: u64, broken: u64, right: u64) -> Finding {
    if seen == broken {
        Finding::Defect
    } else if seen == right {
        Finding::Mended
    } else {
        Finding::Broken
    }
}

/// Runs all tests. Ends L0 if it cannot work on this QEMU.
pub(crate) fn run() {
    let mut broken = 0;
    let mut cpu = CPUS[0].lock();
    for (name, test) in TESTS {
        let mut guest = Guest::new(&mut cpu);
        let finding = match test(&mut guest) {
            Finding::Works => "works",
            Finding::Defect => "present, worked around",
            Finding::Mended => "MENDED: the workaround can go",
            Finding::Broken => {
                broken += 1;
                "NOT AS EXPECTED"
            }
        };
        log!("selftest: {name}: {finding}");
        if finding == "NOT AS EXPECTED" {
            let ((code, info1, info2), rip) = (cpu.exit(), cpu.saved(field::RIP));
            log!("selftest:   exit {code:#x} info {info1:#x} {info2:#x} rip {rip:#x}");
        }
    }
    log!("selftest: {} tests, {broken} not as expected", TESTS.len());
    let cycles = Guest::new(&mut cpu).cycles_per_exit();
    log!("selftest: an exit and the way back take {cycles} cycles");
    if broken > 0 {
        log::end(End::Selftest)
    }
}

/// A guest in 64-bit mode with a few pages.
struct Guest<'a> {
    cpu: &'a mut Cpu,
}

impl<'a> Guest<'a> {
    fn new(cpu: &'a mut Cpu) -> Self {
        let mut tables = NestedTables::new(TablePages::new()).expect("the first tables");
        for page in (0..PAGES_END).step_by(4096) {
            memory::write(memory::BACKING + page, &[0; 4096]);
            let mut map = |tree, gpa, host| {
                tables
                    .map(tree, gpa, host, false)
                    .expect("tables for ten pages");
            };
            map(Tree::Private, page, memory::BACKING + page);
            map(Tree::Shared, page, memory::BACKING + PAGES_END + page);
        }
        let word = |address: u64, value: u64| {
            memory::write(memory::BACKING + address, &value.to_le_bytes());
        };
        word(LEVEL4, LEVEL3 | C_BIT | 7);
        word(LEVEL3, LEVEL2 | C_BIT | 7);
        word(LEVEL2, C_BIT | 0x87);
        word(LEVEL2 + 8, 0x87);
        word(LEVEL2 + 16, C_BIT | 0x87);
        for vector in [GP, VC] {
            word(IDT + vector * 16, HANDLER | 8 << 16 | 0x8e00 << 32);
        }
        word(GDT + 8, 0x00af_9b00_0000_ffff);
        word(HANDLER, 0xf4);
        word(DATA, u64::from_le_bytes(*b"private!"));
        let shared = memory::BACKING + PAGES_END + DATA;
        memory::write(shared, b"shared!!");
        cpu.load(&reset_vmsa(RESET_VECTOR, 0), tables.root(true));
        set_long_mode(cpu);
        Self { cpu }
    }

    fn run_code(&mut self, code: &[u8]) {
        memory::write(memory::BACKING + CODE, code);
        self.cpu.run();
    }

    /// Whether an instruction exits with this code, with RIP at its first byte.
    fn exits(&mut self, code: &[u8], wanted: u64) -> Finding {
        self.run_code(code);
        let right = self.cpu.exit().0 == wanted && self.cpu.saved(field::RIP) == CODE;
        if right {
            Finding::Works
        } else {
            Finding::Broken
        }
    }

    fn works(condition: bool) -> Finding {
        if condition {
            Finding::Works
        } else {
            Finding::Broken
        }
    }

    fn port(&mut self) -> Finding {
        // out %al, $0x80
        self.run_code(&[0xe6, 0x80]);
        let (code, info1, info2) = self.cpu.exit();
        Self::works(code == exit::IO && info1 >> 16 == 0x80 && info2 == CODE + 2)
    }

    fn ghcb_register(&mut self) -> Finding {
        self.cpu.set_register(1, 0xc001_0130);
        self.run_code(&[0x0f, 0x32]);
        let read = self.cpu.exit();
        self.run_code(&[0x0f, 0x30]);
        let write = self.cpu.exit();
        Self::works(read.0 == exit::MSR && read.1 == 0 && write.0 == exit::MSR && write.1 == 1)
    }

    fn c_bit(&mut self) -> Finding {
        // mov (%rsi), %rax; mov (%rdi), %rbx; hlt
        self.cpu.set_register(6, DATA);
        self.cpu.set_register(7, SHARED + DATA);
        self.run_code(&[0x48, 0x8b, 0x06, 0x48, 0x8b, 0x1f, 0xf4]);
        let private = self.cpu.register(0).to_le_bytes() == *b"private!";
        let shared = self.cpu.register(3).to_le_bytes() == *b"shared!!";
        Self::works(self.cpu.exit().0 == exit::HLT && private && shared)
    }

    fn nested_fault(&mut self) -> Finding {
        // mov %eax, (%rsi): the entry's memory is private, the page is nowhere.
        self.cpu.set_register(6, HOLE + 8);
        self.run_code(&[0x89, 0x06]);
        let (code, info1, info2) = self.cpu.exit();
        let data = code == exit::NPF
            && info2 == C_BIT | (HOLE + 8)
            && info1 & exit::NPF_WALK == 0
            && info1 & exit::NPF_WRITE != 0;
        // The same through a table that lies nowhere.
        let table = (HOLE | C_BIT | 7).to_le_bytes();
        memory::write(memory::BACKING + LEVEL2 + 24, &table);
        self.cpu.set_register(6, 3 << 21);
        self.cpu.run();
        let (code, info1, info2) = self.cpu.exit();
        let walk = code == exit::NPF && info2 == C_BIT | HOLE && info1 & exit::NPF_WALK != 0;
        Self::works(data && walk)
    }

    /// Bytes that an injected exception with an error code pushes.
    fn injected_frame_bytes(&mut self, vector: u64) -> u64 {
        let inject = 0x55 << 32 | INJECT_EXCEPTION | vector;
        self.cpu.vmcb_mut().set_u64(control::INJECT, inject);
        self.run_code(&[0xf4]);
        self.cpu.vmcb_mut().set_u64(control::INJECT, 0);
        if self.cpu.saved(field::RIP) == HANDLER {
            STACK_TOP - self.cpu.saved(field::RSP)
        } else {
            0
        }
    }

    /// An interrupt whose delivery meets a hole in the nested tables.
    fn faulted_interrupt(&mut self) -> Finding {
        const VECTOR: u64 = 0x60;
        const TO_SELF: u32 = 1 << 18 | 1 << 14;
        const VALID: u64 = 1 << 31;
        const EXCEPTION: u64 = 3 << 8;
        let apic = |register: u64, value: u32| {
            memory::write_device(0xfee0_0000 + register, &value.to_le_bytes());
        };
        // QEMU's BIOS left the timer running: its interrupt would come first.
        let masks = PIC_MASKS.map(crate::cpu::in8);
        PIC_MASKS
            .into_iter()
            .for_each(|port| crate::cpu::out8(port, 0xff));
        apic(0xf0, 0x1ff);
        apic(0x300, TO_SELF | VECTOR as u32);
        let table = Segment {
            selector: 0,
            attributes: 0,
            limit: 0xfff,
            base: HOLE,
        };
        table.write(self.cpu.vmcb_mut(), SAVE + field::IDTR);
        self.cpu.set_saved(field::RFLAGS, 0x202);
        self.run_code(&[0x90, 0x90, 0xf4]);
        let event = self.cpu.vmcb().u64(control::EXIT_INTERRUPT) & 0xffff_ffff;
        // End of interrupt: nothing of the test stays.
        apic(0xb0, 0);
        crate::cpu::out8(PIC_MASKS[0], masks[0]);
        crate::cpu::out8(PIC_MASKS[1], masks[1]);
        if self.cpu.exit().0 != exit::NPF {
            return Finding::Broken;
        }
        defect(event, VALID | EXCEPTION | VECTOR, VALID | VECTOR)
    }

    /// Cycles for the way from the guest to L0 and back.
    fn cycles_per_exit(&mut self) -> u64 {
        const EXITS: u64 = 10_000;
        self.run_code(&[0x0f, 0xa2]);
        let started = crate::cpu::ticks();
        for _ in 0..EXITS {
            self.cpu.run();
        }
        (crate::cpu::ticks() - started) / EXITS
    }

    fn intercept_tsc(&mut self) {
        let vmcb = self.cpu.vmcb_mut();
        vmcb.set_u32(control::INTERCEPTS, vmcb.u32(control::INTERCEPTS) | 1 << 14);
        vmcb.set_u32(
            control::INTERCEPTS2,
            vmcb.u32(control::INTERCEPTS2) | 1 << 7,
        );
    }
}

/// 64-bit mode, flat, at the first instruction of the code page.
fn set_long_mode(cpu: &mut Cpu) {
    let segment = |selector, attributes, limit, base| Segment {
        selector,
        attributes,
        limit,
        base,
    };
    let vmcb = cpu.vmcb_mut();
    segment(8, 0xa9b, u32::MAX, 0).write(vmcb, SAVE + field::CS);
    segment(16, 0xc93, u32::MAX, 0).write(vmcb, SAVE + field::SS);
    segment(0, 0, 0xfff, IDT).write(vmcb, SAVE + field::IDTR);
    segment(0, 0, 0xfff, GDT).write(vmcb, SAVE + field::GDTR);
    cpu.set_saved(field::CR0, 0x8000_0033);
    cpu.set_saved(field::CR3, LEVEL4 | C_BIT);
    cpu.set_saved(field::CR4, 0x6a0);
    // SVME, LMA, LME
    cpu.set_saved(field::EFER, 0x1500);
    cpu.set_saved(field::RIP, CODE);
    cpu.set_saved(field::RSP, STACK_TOP);
}
