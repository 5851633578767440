use super::*;

struct Fake(Vec<u8>);

impl Memory for Fake {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), WalkError> {
        let from = address as usize;
        let source = self.0.get(from..from + bytes.len());
        bytes.copy_from_slice(source.ok_or(WalkError::NotPresent)?);
        Ok(())
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), WalkError> {
        let from = address as usize;
        let target = self.0.get_mut(from..from + bytes.len());
        target.ok_or(WalkError::NotPresent)?.copy_from_slice(bytes);
        Ok(())
    }
}

const GDT: u64 = 0x100;
const IDT: u64 = 0x1000;
const TSS: u64 = 0x200;

fn guest(long: bool) -> (Page, Fake) {
    let mut memory = Fake(vec![0; 0x4000]);
    let code: u64 = if long {
        0x00af_9b00_0000_ffff
    } else {
        0x00cf_9b00_0000_ffff
    };
    memory
        .write(GDT + 8, &code.to_le_bytes())
        .expect("in memory");
    let mut vmcb = Page::ZERO;
    let table = |base, limit| Segment {
        selector: 0,
        attributes: 0,
        limit,
        base,
    };
    table(GDT, 0xff).write(&mut vmcb, SAVE + field::GDTR);
    table(IDT, 0xfff).write(&mut vmcb, SAVE + field::IDTR);
    table(TSS, 0x67).write(&mut vmcb, SAVE + field::TR);
    Segment {
        selector: 8,
        attributes: 0,
        limit: 0,
        base: 0,
    }
    .write(&mut vmcb, SAVE + field::CS);
    vmcb.set_u64(SAVE + field::CR0, CR0_PE);
    vmcb.set_u64(SAVE + field::EFER, if long { EFER_LMA } else { 0 });
    vmcb.set_u64(SAVE + field::RFLAGS, 0x202);
    vmcb.set_u64(SAVE + field::RIP, 0x7777);
    vmcb.set_u64(SAVE + field::RSP, 0x3008);
    (vmcb, memory)
}

fn word(memory: &Fake, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes).expect("in memory");
    u64::from_le_bytes(bytes)
}

#[test]
fn a_64_bit_frame_lies_on_the_interrupt_stack() {
    let (mut vmcb, mut memory) = guest(true);
    let gate = [0x34, 0x12, 8, 0, 1, 0x8e, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    memory.write(IDT + 29 * 16, &gate).expect("in memory");
    memory
        .write(TSS + TSS_IST1, &0x2ff8u64.to_le_bytes())
        .expect("in memory");
    deliver(&mut vmcb, &mut memory, VC, 0x72).expect("delivered");
    assert_eq!(vmcb.u64(SAVE + field::RIP), 0x56_1234);
    let rsp = vmcb.u64(SAVE + field::RSP);
    assert_eq!(rsp, 0x2ff0 - 48);
    assert_eq!(word(&memory, rsp), 0x72);
    assert_eq!(word(&memory, rsp + 8), 0x7777);
    assert_eq!(word(&memory, rsp + 24), 0x202);
    assert_eq!(word(&memory, rsp + 32), 0x3008);
    assert_eq!(vmcb.u64(SAVE + field::RFLAGS), 2);
    assert_eq!(Segment::read(&vmcb, SAVE + field::CS).attributes, 0xa9b);
}

#[test]
fn a_32_bit_frame_lies_on_the_current_stack() {
    let (mut vmcb, mut memory) = guest(false);
    let gate = [0x34, 0x12, 8, 0, 0, 0x8f, 0x56, 0];
    memory.write(IDT + 29 * 8, &gate).expect("in memory");
    deliver(&mut vmcb, &mut memory, VC, 0x72).expect("delivered");
    assert_eq!(vmcb.u64(SAVE + field::RSP), 0x3008 - 16);
    assert_eq!(word(&memory, 0x3008 - 16), 0x7777 << 32 | 0x72);
    // A trap gate keeps the interrupt flag.
    assert_eq!(vmcb.u64(SAVE + field::RFLAGS), 0x202);
}

#[test]
fn without_a_gate_nothing_changes() {
    let (mut vmcb, mut memory) = guest(true);
    let missing = deliver(&mut vmcb, &mut memory, VC, 0x72);
    assert_eq!(missing, Err(DeliveryError::BadGate(0)));
    vmcb.set_u64(SAVE + field::CR0, 0);
    let real = deliver(&mut vmcb, &mut memory, VC, 0x72);
    assert_eq!(real, Err(DeliveryError::RealMode));
    assert_eq!(vmcb.u64(SAVE + field::RIP), 0x7777);
}
