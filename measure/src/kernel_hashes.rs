//! The table of hashes through which a launch with `-kernel` and `kernel-hashes=on` covers kernel,
//! initial RAM disk and command line (QEMU `target/i386/sev.c`, 176 bytes).

use crate::guid::Guid;
use sha2::{Digest, Sha256};

/// Length of the table with its padding.
pub const TABLE_BYTES: usize = 176;

/// Length of the table without its padding, as it says of itself.
const UNPADDED_BYTES: usize = HEADER_BYTES + 3 * ENTRY_BYTES;
const HEADER_BYTES: usize = Guid::BYTES + 2;
const ENTRY_BYTES: usize = Guid::BYTES + 2 + 32;

const _: () = assert!(UNPADDED_BYTES == 168 && UNPADDED_BYTES.next_multiple_of(16) == TABLE_BYTES);

const TABLE: Guid = Guid::from_text(0x9438d606_4f22_4cc9_b479_a793d411fd21);
const COMMAND_LINE: Guid = Guid::from_text(0x97d02dd8_bd20_4c94_aa78_e7714d36ab2a);
const INITRD: Guid = Guid::from_text(0x44baf731_3a2f_4bd7_9af1_41e29169781d);
const KERNEL: Guid = Guid::from_text(0x4de79437_abd2_427f_b835_d5b172d2045b);

/// SHA-256 of what `-kernel`, `-initrd` and `-append` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    /// Of the whole kernel file.
    pub kernel: [u8; 32],
    /// Of the initial RAM disk; of no bytes if there is none.
    pub initrd: [u8; 32],
    /// Of the command line and a NUL behind it; of the NUL alone if there is none.
    pub command_line: [u8; 32],
}

impl KernelHashes {
    /// Hashes the files; `initrd` and `command_line` may be empty.
    pub fn new(kernel: &[u8], initrd: &[u8], command_line: &str) -> Self {
        let command_line = Sha256::new().chain_update(command_line).chain_update([0]);
        Self {
            kernel: Sha256::digest(kernel).into(),
            initrd: Sha256::digest(initrd).into(),
            command_line: command_line.finalize().into(),
        }
    }

    /// The table as it lies in the guest's memory.
    pub fn to_bytes(&self) -> [u8; TABLE_BYTES] {
        let mut table = [0; TABLE_BYTES];
        table[..Guid::BYTES].copy_from_slice(&TABLE.to_bytes());
        table[Guid::BYTES..HEADER_BYTES].copy_from_slice(&(UNPADDED_BYTES as u16).to_le_bytes());
        let hashes = [
            (COMMAND_LINE, self.command_line),
            (INITRD, self.initrd),
            (KERNEL, self.kernel),
        ];
        let entries = table[HEADER_BYTES..UNPADDED_BYTES].chunks_exact_mut(ENTRY_BYTES);
        for (entry, (guid, hash)) in entries.zip(hashes) {
            entry[..Guid::BYTES].copy_from_slice(&guid.to_bytes());
            entry[Guid::BYTES..HEADER_BYTES].copy_from_slice(&(ENTRY_BYTES as u16).to_le_bytes());
            entry[HEADER_BYTES..].copy_from_slice(&hash);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `sev-snp-measure` 0.0.13 for the same inputs.
    #[test]
    fn the_table_is_byte_for_byte_that_of_qemu() {
        let hashes = KernelHashes::new(b"KERNEL-TEST-IMAGE", b"INITRD-TEST", "console=ttyS0");
        let text: String = hashes
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = "06d63894224fc94cb479a793d411fd21a800\
             d82dd09720bd944caa78e7714d36ab2a3200\
             f18aae9b3c09e55bc3047ad361e2442d7c53372470b2958fb83293209a784f71\
             31f7ba442f3ad74b9af141e29169781d3200\
             44f4d6231cfbbfdd88a24e6776e8af30da1702a7f39def540defb10460227c9c\
             3794e74dd2ab7f42b835d5b172d2045b3200\
             5a396ff1b6a9a0dba78f583e42f71582c93012bd9bb57d62f9feebb0c9c18356\
             0000000000000000";
        assert_eq!(text, expected);
    }
}
