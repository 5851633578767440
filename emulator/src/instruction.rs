//! The few instructions that L0 reads itself, because TCG gives neither the next RIP nor decode assists.

/// Bytes that the longest instruction has.
pub const MAX_BYTES: usize = 15;

/// An instruction at the guest's RIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `rep vmmcall`.
    Vmgexit,
    /// PVALIDATE.
    Pvalidate,
    /// RMPADJUST.
    Rmpadjust,
    /// A move from or to a control register.
    MoveControl {
        /// Number of the control register.
        control: u8,
        /// Number of the general register, 0 RAX to 15 R15.
        general: u8,
        /// To the control register.
        write: bool,
        /// Bytes of the instruction.
        bytes: u64,
    },
    /// LMSW from a general register.
    Lmsw {
        /// Number of the general register.
        general: u8,
        /// Bytes of the instruction.
        bytes: u64,
    },
    /// CLTS.
    Clts,
    /// HLT.
    Hlt,
    /// INVD.
    Invd,
    /// None of these.
    Other,
}

impl Instruction {
    /// Decodes the bytes at RIP.
    pub fn decode(code: &[u8; MAX_BYTES]) -> Self {
        match code {
            [0xf3, 0x0f, 0x01, 0xd9, ..] => Self::Vmgexit,
            [0xf2, 0x0f, 0x01, 0xff, ..] => Self::Pvalidate,
            [0xf3, 0x0f, 0x01, 0xfe, ..] => Self::Rmpadjust,
            [0xf4, ..] => Self::Hlt,
            [0x0f, 0x08, ..] => Self::Invd,
            _ => Self::decode_control(code),
        }
    }

    fn decode_control(code: &[u8; MAX_BYTES]) -> Self {
        let (rex, rest, prefixes) = match code {
            [rex @ 0x40..=0x4f, rest @ ..] => (*rex, &rest[..], 1),
            _ => (0, &code[..], 0),
        };
        let extended = |bit: u8, number: u8| if rex & bit == 0 { number } else { number | 8 };
        match *rest {
            [0x0f, opcode @ (0x20 | 0x22), modrm, ..] => Self::MoveControl {
                control: extended(4, modrm >> 3 & 7),
                general: extended(1, modrm & 7),
                write: opcode == 0x22,
                bytes: 3 + prefixes,
            },
            [0x0f, 0x01, modrm @ 0xf0..=0xf7, ..] => Self::Lmsw {
                general: extended(1, modrm & 7),
                bytes: 3 + prefixes,
            },
            [0x0f, 0x06, ..] => Self::Clts,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(code: &[u8]) -> Instruction {
        let mut bytes = [0x90; MAX_BYTES];
        bytes[..code.len()].copy_from_slice(code);
        Instruction::decode(&bytes)
    }

    #[test]
    fn instructions_of_the_platform_are_told_apart() {
        assert_eq!(decode(&[0xf3, 0x0f, 0x01, 0xd9]), Instruction::Vmgexit);
        assert_eq!(decode(&[0x0f, 0x01, 0xd9]), Instruction::Other);
        assert_eq!(decode(&[0x0f, 0x08]), Instruction::Invd);
        assert_eq!(decode(&[0x0f, 0x09]), Instruction::Other);
        assert_eq!(decode(&[0xf2, 0x0f, 0x01, 0xff]), Instruction::Pvalidate);
        assert_eq!(decode(&[0xf3, 0x0f, 0x01, 0xfe]), Instruction::Rmpadjust);
        // mov %r8, %cr0
        let write = Instruction::MoveControl {
            control: 0,
            general: 8,
            write: true,
            bytes: 4,
        };
        assert_eq!(decode(&[0x41, 0x0f, 0x22, 0xc0]), write);
        // mov %cr8, %rax
        let read = Instruction::MoveControl {
            control: 8,
            general: 0,
            write: false,
            bytes: 4,
        };
        assert_eq!(decode(&[0x44, 0x0f, 0x20, 0xc0]), read);
    }
}
