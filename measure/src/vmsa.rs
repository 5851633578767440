//! The state of a vCPU as it is measured: one page, the VMSA.
//!
//! Offsets are those of `struct sev_es_save_area` in Linux's `arch/x86/include/asm/svm.h`, after
//! AMD publication 24593, table B-4. What is not set is zero.

use crate::PAGE_BYTES;
use crate::config::{FpuState, LaunchConfig, ResetState};

/// Guest-physical address under which KVM measures every VMSA: 48 ones, cut to a whole page.
pub const VMSA_GPA: u64 = 0xffff_ffff_f000;

/// Where the first vCPU begins: the reset vector.
pub const BSP_RESET_ADDRESS: u32 = 0xffff_fff0;

/// Which vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuRole {
    /// The first, which begins at the reset vector.
    Bootstrap,
    /// Any other, which begins at this address, from the image's reset block.
    Application(u32),
}

/// A register's value as it is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Two bytes.
    U16(u16),
    /// Four bytes.
    U32(u32),
    /// Eight bytes.
    U64(u64),
    /// Sixteen bytes: selector, attributes, limit, base.
    Segment {
        /// Selector.
        selector: u16,
        /// Attributes in AMD's packed form.
        attributes: u16,
        /// Limit in bytes.
        limit: u32,
        /// Base address.
        base: u64,
    },
}

/// A register that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Offset in the page.
    pub offset: usize,
    /// Name as in AMD's manual.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

const fn register(offset: usize, name: &'static str, value: Value) -> Register {
    Register {
        offset,
        name,
        value,
    }
}

/// A segment of real mode: 64 KiB from `base` on.
const fn segment(selector: u16, attributes: u16, base: u64) -> Value {
    Value::Segment {
        selector,
        attributes,
        limit: 0xffff,
        base,
    }
}

/// Data, writable, accessed, present.
const DATA_ATTRIBUTES: u16 = 0x93;

/// The registers that are not zero when a vCPU starts, by offset.
pub fn registers(role: VcpuRole, config: &LaunchConfig) -> Vec<Register> {
    let ResetState {
        ss_attributes,
        tr_attributes,
        edx,
        pat,
        ..
    } = config.reset;
    let (address, cs_attributes, FpuState { mxcsr, fcw }) = match role {
        VcpuRole::Bootstrap => (
            BSP_RESET_ADDRESS,
            config.reset.bsp_cs_attributes,
            config.reset.bsp_fpu,
        ),
        VcpuRole::Application(address) => {
            (address, config.reset.ap_cs_attributes, config.reset.ap_fpu)
        }
    };
    // The selector stays that of the reset vector, whatever the base.
    let cs = segment(0xf000, cs_attributes, u64::from(address & 0xffff_0000));
    let edx = edx.unwrap_or(config.cpu.signature());
    vec![
        register(0x000, "ES", segment(0, DATA_ATTRIBUTES, 0)),
        register(0x010, "CS", cs),
        register(0x020, "SS", segment(0, ss_attributes, 0)),
        register(0x030, "DS", segment(0, DATA_ATTRIBUTES, 0)),
        register(0x040, "FS", segment(0, DATA_ATTRIBUTES, 0)),
        register(0x050, "GS", segment(0, DATA_ATTRIBUTES, 0)),
        register(0x060, "GDTR", segment(0, 0, 0)),
        // A local descriptor table, present.
        register(0x070, "LDTR", segment(0, 0x82, 0)),
        register(0x080, "IDTR", segment(0, 0, 0)),
        register(0x090, "TR", segment(0, tr_attributes, 0)),
        // SVME, without which no guest runs.
        register(0x0d0, "EFER", Value::U64(0x1000)),
        // MCE, which KVM sets.
        register(0x148, "CR4", Value::U64(0x40)),
        // ET; no paging, no protection.
        register(0x158, "CR0", Value::U64(0x10)),
        register(0x160, "DR7", Value::U64(0x400)),
        register(0x168, "DR6", Value::U64(0xffff_0ff0)),
        // The bit that is always one.
        register(0x170, "RFLAGS", Value::U64(2)),
        register(0x178, "RIP", Value::U64(u64::from(address & 0xffff))),
        register(0x268, "G_PAT", Value::U64(pat)),
        register(0x310, "RDX", Value::U64(u64::from(edx))),
        register(0x3b0, "SEV_FEATURES", Value::U64(config.features.0)),
        // x87 state.
        register(0x3e8, "XCR0", Value::U64(1)),
        register(0x408, "MXCSR", Value::U32(mxcsr)),
        register(0x410, "X87_FCW", Value::U16(fcw)),
    ]
}

/// The page of a vCPU.
pub fn page(role: VcpuRole, config: &LaunchConfig) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    for register in registers(role, config) {
        let mut put = |at: usize, bytes: &[u8]| {
            page[register.offset + at..register.offset + at + bytes.len()].copy_from_slice(bytes);
        };
        match register.value {
            Value::U16(value) => put(0, &value.to_le_bytes()),
            Value::U32(value) => put(0, &value.to_le_bytes()),
            Value::U64(value) => put(0, &value.to_le_bytes()),
            Value::Segment {
                selector,
                attributes,
                limit,
                base,
            } => {
                put(0, &selector.to_le_bytes());
                put(2, &attributes.to_le_bytes());
                put(4, &limit.to_le_bytes());
                put(8, &base.to_le_bytes());
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VmmKind;
    use crate::cpu::CpuModel;
    use crate::digest::{LaunchDigest, sha384};

    /// Digests of the pages that `sev-snp-measure` 0.0.13 writes with `--dump-vmsa`.
    #[test]
    fn pages_are_those_of_qemu() {
        let config = LaunchConfig::new(VmmKind::Qemu, 2, CpuModel::MILAN);
        let digest = |role| LaunchDigest(sha384(&page(role, &config))).to_string();
        assert_eq!(
            digest(VcpuRole::Bootstrap),
            "728af287318db5f3fc4d2357a969483c4225956dc555b514a78d64ee372112d1\
             3b3dca8afd02cdbd1c55697d8ce087f5"
        );
        assert_eq!(
            digest(VcpuRole::Application(0x0080_b004)),
            "24d6d6fe1cc2fd76d9504a2e411e2a1e229a6723c94521c373c21dd97514c448\
             95fc07fea07e04b4186d90160c8dad0b"
        );
    }

    #[test]
    fn registers_are_in_order_and_apart() {
        let config = LaunchConfig::new(VmmKind::Ec2, 1, CpuModel::MILAN);
        let registers = registers(VcpuRole::Bootstrap, &config);
        for pair in registers.windows(2) {
            let bytes = match pair[0].value {
                Value::U16(_) => 2,
                Value::U32(_) => 4,
                Value::U64(_) => 8,
                Value::Segment { .. } => 16,
            };
            assert!(pair[0].offset + bytes <= pair[1].offset, "{}", pair[1].name);
        }
    }
}
