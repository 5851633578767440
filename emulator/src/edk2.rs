//! Which module of an edk2 firmware an address lies in: its image header names the file that it was
//! linked from (UEFI platform initialization specification, volume 3, 2.3.4 "TE image").

/// Modules are shorter than this.
const MAX_MODULE_BYTES: u64 = 2 << 20;
const TE_HEADER_BYTES: u64 = 40;
const MACHINE_X64: u16 = 0x8664;
/// A longer name is cut.
const MAX_NAME_BYTES: usize = 64;

/// A module's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    name: [u8; MAX_NAME_BYTES],
    bytes: usize,
    /// Where its image begins.
    pub base: u64,
}

impl Module {
    /// The file's name without folders and ending, as in `PlatformPei`.
    pub fn name(&self) -> &str {
        core::str::from_utf8(&self.name[..self.bytes]).unwrap_or("?")
    }
}

/// The guest's memory by virtual address: fills the slice, or says that it cannot.
pub trait Reader {
    /// Reads bytes.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
}

impl<F: Fn(u64, &mut [u8]) -> bool> Reader for F {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self(address, bytes)
    }
}

/// The module around an address, if it is one that still has its name.
pub fn module_at(memory: &impl Reader, address: u64) -> Option<Module> {
    let lowest = address.saturating_sub(MAX_MODULE_BYTES);
    let mut base = address & !3;
    while base >= lowest.max(4) {
        let signature = u32::from_le_bytes(array(memory, base)?);
        let debug = match (signature as u16, (signature >> 16) as u16) {
            (0x5a56, MACHINE_X64) => te_debug(memory, base),
            (0x5a4d, _) => pe_debug(memory, base),
            _ => None,
        };
        if let Some(name) = debug.and_then(|(debug, bias)| file_name(memory, debug, bias)) {
            return module(memory, name, base);
        }
        base -= 4;
    }
    None
}

fn array<const N: usize>(memory: &impl Reader, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).then_some(bytes)
}

fn word(memory: &impl Reader, address: u64) -> Option<u64> {
    Some(u32::from_le_bytes(array(memory, address)?).into())
}

/// Address of a TE image's debug directory, and what is added to a relative address.
fn te_debug(memory: &impl Reader, base: u64) -> Option<(u64, u64)> {
    let stripped = u16::from_le_bytes(array(memory, base + 6)?);
    let bias = (base + TE_HEADER_BYTES).checked_sub(stripped.into())?;
    let relative = word(memory, base + 32)?;
    (relative != 0).then(|| (bias + relative, bias))
}

/// The same of a PE32+ image.
fn pe_debug(memory: &impl Reader, base: u64) -> Option<(u64, u64)> {
    let header = base + word(memory, base + 0x3c)?.min(0x1000);
    let is_pe = array(memory, header)? == *b"PE\0\0" && array(memory, header + 24)? == [0x0b, 2];
    let relative = word(memory, header + 24 + 112 + 6 * 8)?;
    (is_pe && relative != 0).then(|| (base + relative, base))
}

/// Address of the file name that a debug directory leads to.
fn file_name(memory: &impl Reader, debug: u64, bias: u64) -> Option<u64> {
    const CODE_VIEW: u64 = 2;
    if word(memory, debug + 12)? != CODE_VIEW {
        return None;
    }
    let entry = bias + word(memory, debug + 20)?;
    match &array(memory, entry)? {
        b"NB10" | b"MTOC" => Some(entry + 16),
        b"RSDS" => Some(entry + 24),
        _ => None,
    }
}

/// The last part of a path, without its ending.
fn module(memory: &impl Reader, path: u64, base: u64) -> Option<Module> {
    const MAX_PATH_BYTES: u64 = 512;
    let mut module = Module {
        name: [0; MAX_NAME_BYTES],
        bytes: 0,
        base,
    };
    let mut ended = false;
    for offset in 0..MAX_PATH_BYTES {
        match array(memory, path + offset)? {
            [0] => break,
            [b'/' | b'\\'] => (module.bytes, ended) = (0, false),
            [b'.'] => ended = true,
            [byte] if !ended && module.bytes < MAX_NAME_BYTES => {
                module.name[module.bytes] = byte;
                module.bytes += 1;
            }
            _ => (),
        }
    }
    (module.bytes > 0).then_some(module)
}

/// A bug that is known, and where it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBug {
    /// The module.
    pub module: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// Bugs that let a guest touch memory which it has not validated.
const UNVALIDATED: [KnownBug; 1] = [KnownBug {
    module: "PlatformPei",
    what: "ReserveEmuVariableNvStore() writes the variable store before the memory is validated \
           (edk2 pull request 6285, mended in November 2024)",
}];

/// The bug that an access of a module to unvalidated memory is known for.
pub fn known_bug(module: &str) -> Option<KnownBug> {
    UNVALIDATED.into_iter().find(|bug| bug.module == module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_te_image_is_found_by_an_address_inside() {
        let mut memory = vec![0u8; 0x4000];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        let base = 0x1100;
        put(base, b"VZ\x64\x86");
        put(base + 6, &0x200u16.to_le_bytes());
        // Directory at relative address 0x400, entry at 0x500.
        put(base + 32, &0x400u32.to_le_bytes());
        let bias = base + 40 - 0x200;
        put(bias + 0x400 + 12, &2u32.to_le_bytes());
        put(bias + 0x400 + 20, &0x500u32.to_le_bytes());
        put(bias + 0x500, b"RSDS");
        put(bias + 0x500 + 24, b"/build/X64/OvmfPkg/PlatformPei/DEBUG/PlatformPei.dll\0");
        let read = |address: u64, bytes: &mut [u8]| {
            let from = address as usize;
            let found = memory.get(from..from + bytes.len());
            found.map(|found| bytes.copy_from_slice(found)).is_some()
        };
        let module = module_at(&read, 0x2345).expect("the module");
        assert_eq!((module.name(), module.base), ("PlatformPei", 0x1100));
        assert!(known_bug(module.name()).is_some());
        assert_eq!(module_at(&read, 0x1000), None);
    }
}
