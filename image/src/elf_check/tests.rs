use super::*;
use cloister_boot::layout::KERNEL_WINDOW;

/// A program of one code segment, whose symbol table has one symbol, defined in section `defined_in`
/// (0 means undefined).
fn program(symbol: &str, defined_in: u16) -> Vec<u8> {
    const CODE: usize = 0x1000;
    const SYMBOLS: usize = 0x1100;
    const NAMES: usize = 0x1200;
    const SECTIONS: usize = 0x1300;
    let address = KERNEL_WINDOW.start().as_u64();
    let mut elf = vec![0; SECTIONS + 3 * 64];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    for (at, value) in [
        (16, 2_u16),
        (18, 62),
        (52, 64),
        (54, 56),
        (56, 1),
        (58, 64),
        (60, 3),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(62, &2_u16.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    for (at, value) in [(24, address), (32, 64), (40, SECTIONS as u64)] {
        put(at, &value.to_le_bytes());
    }
    put(64, &1_u32.to_le_bytes());
    put(68, &5_u32.to_le_bytes());
    for (word, value) in [CODE as u64, address, address, 16, 16, 4096]
        .into_iter()
        .enumerate()
    {
        put(72 + 8 * word, &value.to_le_bytes());
    }
    // Section 1: symbols (type 2, linked to the names in section 2), entries of 24 bytes.
    for (at, value) in [(4, 2_u32), (40, 2), (44, 1)] {
        put(SECTIONS + 64 + at, &value.to_le_bytes());
    }
    for (at, value) in [(24, SYMBOLS as u64), (32, 48), (56, 24)] {
        put(SECTIONS + 64 + at, &value.to_le_bytes());
    }
    // Section 2: names (type 3).
    put(SECTIONS + 128 + 4, &3_u32.to_le_bytes());
    for (at, value) in [(24, NAMES as u64), (32, symbol.len() as u64 + 2)] {
        put(SECTIONS + 128 + at, &value.to_le_bytes());
    }
    put(NAMES + 1, symbol.as_bytes());
    // The second symbol: name 1, global function, defined in the section.
    put(SYMBOLS + 24, &1_u32.to_le_bytes());
    put(SYMBOLS + 28, &[0x12, 0]);
    put(SYMBOLS + 30, &defined_in.to_le_bytes());
    elf
}

#[test]
fn a_program_whose_symbols_are_all_defined_passes() {
    assert!(check(&program("memcpy", 1), KERNEL_WINDOW).is_ok());
}

#[test]
fn an_undefined_symbol_is_named() {
    let outcome = check(&program("getrandom", 0), KERNEL_WINDOW);
    assert_eq!(
        outcome,
        Err(ElfCheckError::Undefined(vec!["getrandom".to_owned()]))
    );
}

#[test]
fn a_program_for_a_loader_is_refused() {
    let this_test = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let outcome = check(&this_test, KERNEL_WINDOW);
    assert!(
        matches!(outcome, Err(ElfCheckError::Headers(_))),
        "{outcome:?}"
    );
}

#[test]
fn what_is_no_program_is_refused() {
    for bytes in [&b""[..], b"\x7fELF", &[0; 4096]] {
        assert!(matches!(
            check(bytes, KERNEL_WINDOW),
            Err(ElfCheckError::Headers(_))
        ));
    }
}
