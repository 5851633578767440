//! A kernel that breaks one of its own rules must stop with the reason for it.
//!
//! It is a program of its own, built with the feature `selftest`; the rule comes from the host. No
//! image that serves contains it.

use cloister_boot::manifest::Manifest;
use cloister_image::rom::{self, RomInputs};
use cloister_tests::guests::{boot_to_stop, empty_image, options, workspace};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use xtask::guest_build;
use xtask::qemu::{GuestOptions, Stop};

/// The ROM with that kernel.
fn rom() -> &'static PathBuf {
    static ROM: OnceLock<PathBuf> = OnceLock::new();
    ROM.get_or_init(|| {
        let kernel = guest_build::build_selftest(workspace()).expect("the selftest kernel builds");
        let [boot, _] = empty_image().elf_files();
        let rom = rom::pack(&RomInputs {
            boot_elf: &fs::read(boot).expect("the boot program was built"),
            kernel_elf: &fs::read(kernel).expect("the kernel was built"),
            manifest: &Manifest::default(),
        });
        let path = workspace().cloister().join("test-images/selftest.bin");
        fs::write(&path, rom.expect("the parts fit")).expect("the folder can be written");
        path
    })
}

fn break_rule(rule: &str, cpus: u32) -> Stop {
    let file = format!("name=opt/cloister/selftest,string={rule}");
    boot_to_stop(&GuestOptions {
        rom: rom().clone(),
        network: false,
        cpus,
        extra: vec!["-fw_cfg".into(), file.into()],
        ..options(empty_image())
    })
}

#[track_caller]
fn expect(rule: &str, reason: &str) {
    let stop = break_rule(rule, 1);
    assert_eq!(stop.name, reason, "{rule}: {stop}");
}

#[test]
fn the_null_page_is_unmapped() {
    expect("null-read", "page-fault");
}

#[test]
fn code_constants_and_rom_cannot_be_written() {
    expect("text-write", "page-fault");
    expect("rodata-write", "page-fault");
    expect("rom-write", "page-fault");
}

#[test]
fn data_and_heap_cannot_be_executed() {
    expect("data-execute", "page-fault");
    expect("heap-execute", "page-fault");
}

#[test]
fn a_stack_ends_in_a_guard_page() {
    expect("stack-overflow", "stack-overflow");
}

#[test]
fn every_exception_ends_the_guest() {
    expect("invalid-opcode", "exception");
    expect("divide", "exception");
    expect("interrupt", "exception");
}

#[test]
fn a_double_fault_is_caught() {
    expect("double-fault", "double-fault");
}

#[test]
fn a_panic_names_its_place_and_quotes_nothing() {
    let stop = break_rule("panic", 1);
    assert_eq!(stop.name, "panic", "{stop}");
    let line = stop.to_string();
    assert!(
        line.contains("selftest.rs:") && !line.contains("never printed"),
        "{line}"
    );
}

#[test]
fn a_rule_that_another_processor_breaks_ends_the_guest_too() {
    for (rule, reason) in [
        ("other-null-read", "page-fault"),
        ("other-text-write", "page-fault"),
        ("other-stack-overflow", "stack-overflow"),
        ("other-invalid-opcode", "exception"),
        ("other-panic", "panic"),
    ] {
        let stop = break_rule(rule, 2);
        assert_eq!(stop.name, reason, "{rule}: {stop}");
        assert!(stop.to_string().contains("cpu 1: "), "{rule}: {stop}");
    }
    assert_eq!(
        break_rule("other-null-read", 1).name,
        "done",
        "nobody breaks it"
    );
}

#[test]
fn cryptography_with_c_and_assembly_works_in_the_guest() {
    let stop = break_rule("cryptography", 1);
    assert!(
        stop.name == "done" && stop.to_string().contains("cryptography works"),
        "{stop}"
    );
}

#[test]
fn the_test_itself_would_notice_a_rule_that_can_be_broken() {
    expect("no-such-rule", "done");
}
