//! A small image whose files are altered in known places.

use super::*;
use cloister_boot::manifest::Manifest;
use cloister_boot::rom::{BOOT_WINDOW_BYTES, ROM_END, TABLE_FROM_END};
use cloister_image::rom::{self, RomInputs};
use cloister_image::{fixture, model_pack};
use cloister_measure::igvm_of_rom;
use tempfile::TempDir;

/// Code begins here in [`program`].
const CODE: usize = 0x1000;
const KERNEL: u64 = 0x40_0000;
/// Address of the first instruction after reset.
const RESET_VECTOR: u64 = ROM_END - 16;

/// A program of one segment with a section `.text`, in which `first` and `second` lie, 16 bytes each.
fn program(address: u64, entry: u64, code: &[u8]) -> Vec<u8> {
    let names = b"\0.text\0.symtab\0.strtab\0first\0second\0";
    let symbols_at = CODE + code.len();
    let names_at = symbols_at + 3 * 24;
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut elf = vec![0; sections_at + 4 * 64];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    for (at, value) in [
        (16, 2_u16),
        (18, 62),
        (52, 64),
        (54, 56),
        (56, 1),
        (58, 64),
        (60, 4),
        (62, 3),
    ] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(20, 1_u32), (64, 1), (68, 5)] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(24, entry), (32, 64), (40, sections_at as u64)] {
        put(at, &value.to_le_bytes());
    }
    let length = code.len() as u64;
    for (word, value) in [CODE as u64, address, address, length, length, 0x1000]
        .into_iter()
        .enumerate()
    {
        put(72 + 8 * word, &value.to_le_bytes());
    }
    put(CODE, code);
    // Name, kind (function), section 1, address, size.
    for (index, (name, address)) in [(23_u32, address), (29, address + 16)]
        .into_iter()
        .enumerate()
    {
        let at = symbols_at + 24 * (index + 1);
        put(at, &name.to_le_bytes());
        put(at + 4, &[0x12, 0, 1, 0]);
        put(at + 8, &address.to_le_bytes());
        put(at + 16, &16_u64.to_le_bytes());
    }
    put(names_at, names);
    // Name, type, address, offset, size, link, entry size of each section but the empty one.
    let sections = [
        (1_u32, 1_u32, address, CODE, code.len(), 0_u32, 0_u64),
        (7, 2, 0, symbols_at, 3 * 24, 3, 24),
        (15, 3, 0, names_at, names.len(), 0, 0),
    ];
    for (index, (name, kind, address, offset, size, link, entry)) in
        sections.into_iter().enumerate()
    {
        let at = sections_at + 64 * (index + 1);
        put(at, &name.to_le_bytes());
        put(at + 4, &kind.to_le_bytes());
        for (word, value) in [
            (16, address),
            (24, offset as u64),
            (32, size as u64),
            (56, entry),
        ] {
            put(at + word, &value.to_le_bytes());
        }
        put(at + 40, &link.to_le_bytes());
        if kind == 2 {
            put(at + 44, &1_u32.to_le_bytes());
        }
    }
    elf
}

/// Writes an image of small files; JSON files with what a test looks at.
fn image(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("written");
    let mut code = vec![0x90; BOOT_WINDOW_BYTES];
    code[BOOT_WINDOW_BYTES - 16] = 0xe9;
    let boot = program(ROM_END - BOOT_WINDOW_BYTES as u64, RESET_VECTOR, &code);
    let kernel = program(KERNEL, KERNEL, &[0xc3; 64]);
    let rom = rom::pack(&RomInputs {
        boot_elf: &boot,
        kernel_elf: &kernel,
        manifest: &Manifest::default(),
    });
    let rom = rom.expect("the parts fit");
    let gguf = folder.join("model.gguf");
    fixture::write(&gguf).expect("written");
    model_pack::build(&gguf, &folder.join(MODEL_PACK), &mut |_, _| {}).expect("packed");
    write(BOOT_ELF, &boot);
    write(KERNEL_ELF, &kernel);
    write(ROM_BIN, &rom);
    write(IGVM, &igvm_of_rom(&rom).expect("an IGVM file"));
    write(
        SBOM,
        br#"{"components": [{"name": "spin", "version": "0.12.3"}]}"#,
    );
    write(
        IMAGE_JSON,
        br#"{"build": {"flags": ["-a", "-b"]}, "memory_mib": 128}"#,
    );
}

/// Two equal images.
fn images() -> (TempDir, TempDir) {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    for folder in &folders {
        image(folder.path());
    }
    folders.into()
}

/// What is found when a file of the second image is changed.
fn after(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Difference> {
    let (a, b) = images();
    let path = b.path().join(name);
    let mut bytes = fs::read(&path).expect("there");
    change(&mut bytes);
    fs::write(&path, bytes).expect("written");
    let found = compare(a.path(), b.path()).expect("compared");
    assert!(found.iter().all(|one| one.file == name), "{found:?}");
    found
}

/// The one difference, as a line.
fn line(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let found = after(name, change);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].to_string()
}

#[test]
fn equal_images_have_no_difference() {
    let (a, b) = images();
    assert_eq!(compare(a.path(), b.path()).expect("compared"), []);
}

#[test]
fn programs_differ_by_section_and_symbol() {
    let text = line(KERNEL_ELF, |elf| {
        elf[CODE + 18] = 1;
        elf[CODE + 20] = 2;
    });
    let expected = "kernel.elf: section .text, symbol second, 3 bytes from offset 0x1012: \
                    c3 c3 c3 c3 c3 c3 c3 c3 | 01 c3 02 c3 c3 c3 c3 c3";
    assert_eq!(text, expected);
    let text = line(BOOT_ELF, |elf| elf[CODE + 3] = 1);
    assert!(
        text.starts_with("boot.elf: section .text, symbol first, 1 bytes"),
        "{text}"
    );
    let text = line(KERNEL_ELF, |elf| elf[24] = 0x10);
    assert!(
        text.contains("ELF header, 1 bytes from offset 0x18: 00 00 40"),
        "{text}"
    );
}

#[test]
fn sections_may_be_longer_or_missing() {
    let (a, b) = images();
    let longer = program(KERNEL, KERNEL, &[0xc3; 80]);
    fs::write(b.path().join(KERNEL_ELF), longer).expect("written");
    let found = compare(a.path(), b.path()).expect("compared");
    let text = found
        .iter()
        .find(|one| one.part.starts_with("section .text"));
    let text = text.expect("named").to_string();
    assert!(
        text.contains("64 and 80 bytes long, 16 bytes from offset 0x1040: nothing | c3"),
        "{text}"
    );

    // Another name for `.text`.
    let names_at = CODE + 64 + 3 * 24;
    let found = after(KERNEL_ELF, |elf| elf[names_at + 2] = b'n');
    let parts: Vec<&str> = found.iter().map(|one| one.part.as_str()).collect();
    assert!(
        parts
            .iter()
            .any(|part| part.starts_with("section .text, only in the first")),
        "{parts:?}"
    );
    assert!(
        parts
            .iter()
            .any(|part| part.starts_with("section .next, only in the second")),
        "{parts:?}"
    );
}

#[test]
fn the_rom_differs_by_part() {
    let size = {
        let (a, _b) = images();
        fs::metadata(a.path().join(ROM_BIN)).expect("there").len() as usize
    };
    for (at, part) in [
        (0x1004, "kernel"),
        (0x2003, "manifest"),
        (size - TABLE_FROM_END + 31, "table"),
        (size - BOOT_WINDOW_BYTES + 5, "boot program"),
        (size - 0x800 + 1, "SEV metadata"),
        (size - 2, "reset vector"),
        (0x1fff, "outside of all parts"),
    ] {
        let found = after(ROM_BIN, |rom| rom[at] ^= 0x55);
        // A broken table names no parts, so that these are only in the first ROM.
        let one = found.iter().find(|one| one.part == part);
        let one = one.unwrap_or_else(|| panic!("{part}: {found:?}"));
        assert_eq!(one.place, Some((at as u64, 1)), "{part}");
    }
}

#[test]
fn the_pack_differs_by_tensor_and_chunk() {
    let text = line(MODEL_PACK, |pack| {
        let last = pack.iter().rposition(|byte| *byte != 0).expect("a weight");
        pack[last] ^= 1;
    });
    assert!(
        text.contains("model.pack: tensor ") && text.contains(", chunk 0"),
        "{text}"
    );
    // The digest of the first chunk stands at the end of the head's tables.
    let found = after(MODEL_PACK, |pack| {
        let head = cloister_engine::pack::Pack::open(pack).expect("a pack");
        let first = head
            .entries()
            .map(|tensor| tensor.offset)
            .min()
            .expect("tensors");
        let section = head.tokenizer_section().as_ptr() as usize - pack.as_ptr() as usize;
        let end = (first as usize).min(section);
        let at = pack[..end]
            .iter()
            .rposition(|byte| *byte != 0)
            .expect("a digest");
        pack[at] ^= 1;
        pack[section + 40] ^= 1;
    });
    let parts: Vec<&str> = found.iter().map(|one| one.part.as_str()).collect();
    assert_eq!(parts, ["head", "tokenizer, chunk 0"]);
}

#[test]
fn the_igvm_file_differs_by_headers_and_contents() {
    let text = line(IGVM, |file| *file.last_mut().expect("contents") ^= 1);
    assert!(
        text.starts_with("cloister.igvm: page contents, 1 bytes"),
        "{text}"
    );
    let text = line(IGVM, |file| file[20] ^= 1);
    assert!(
        text.starts_with("cloister.igvm: fixed header, 1 bytes from offset 0x14"),
        "{text}"
    );
    let text = line(IGVM, |file| file[30] ^= 1);
    assert!(
        text.starts_with("cloister.igvm: variable headers"),
        "{text}"
    );
}

#[test]
fn json_differs_by_field() {
    let replace = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).expect("text");
            *bytes = text.replace(&from, &to).into_bytes();
        }
    };
    let text = line(IMAGE_JSON, replace("\"-b\"", "\"-c\""));
    assert_eq!(text, "image.json: field build.flags[1]: \"-b\" | \"-c\"");
    let text = line(IMAGE_JSON, replace(", \"memory_mib\": 128", ""));
    assert_eq!(text, "image.json: field memory_mib: 128 | nothing");
    let text = line(SBOM, replace("0.12.3", "0.12.4"));
    assert_eq!(
        text,
        "sbom.cdx.json: field components[0].version: \"0.12.3\" | \"0.12.4\""
    );
    let text = line(SBOM, |bytes| bytes.push(b'\n'));
    assert!(
        text.starts_with("sbom.cdx.json: the text, but no field: {"),
        "{text}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let (a, b) = images();
    fs::remove_file(b.path().join(MODEL_PACK)).expect("removed");
    fs::remove_file(a.path().join(IMAGE_JSON)).expect("removed");
    let found = compare(a.path(), b.path()).expect("compared");
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "model.pack: the whole file: there | missing",
            "image.json: the whole file: missing | there"
        ]
    );
    fs::remove_file(a.path().join(MODEL_PACK)).expect("removed");
    assert_eq!(compare(a.path(), b.path()).expect("compared").len(), 1);
}

#[test]
fn many_differences_are_counted() {
    let many = |word: &str| {
        let list: Vec<String> = (0..50).map(|index| format!("\"{word}{index}\"")).collect();
        format!("[{}]", list.join(","))
    };
    let (a, b) = images();
    fs::write(a.path().join(SBOM), many("a")).expect("written");
    fs::write(b.path().join(SBOM), many("b")).expect("written");
    let found = compare(a.path(), b.path()).expect("compared");
    assert_eq!(found.len(), MAX_DIFFERENCES + 1);
    assert_eq!(found[MAX_DIFFERENCES].part, "30 more parts");
}
