//! From reset to "ready", and every way in which a guest must stop instead.

use cloister_measure::{igvm_of_rom, measure_igvm};
use cloister_protocol::api::problem::Problem;
use cloister_tests::guests::{
    self, ChangedPack, boot, boot_to_stop, empty_image, fixture_image, options, tiny_image,
};
use cloister_tests::{raw, sealed};
use xtask::qemu::{GuestOptions, Stop};

/// Boots the image with the generated model, but with another pack.
fn stop_with_pack(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Stop {
    let pack = ChangedPack::of(fixture_image(), name, change);
    boot_to_stop(&GuestOptions {
        model_pack: Some(pack.path().to_owned()),
        ..options(fixture_image())
    })
}

#[test]
fn the_first_byte_comes_from_the_reset_stub() {
    let guest = boot(&options(fixture_image()));
    let times = guest.times();
    let (first, kernel, ready) = (times.first_byte_ms, times.kernel_ms, times.ready_ms);
    assert!(
        first < kernel && kernel < ready && first.is_some(),
        "{times:?}"
    );
}

#[test]
fn the_rom_has_at_most_4_mib() {
    assert!(fixture_image().facts().rom.bytes <= 4 << 20);
}

#[test]
fn the_igvm_file_is_that_of_the_rom_and_its_digest_is_foretold() {
    let image = fixture_image();
    let [rom, igvm] = [image.rom(), image.igvm()].map(|path| std::fs::read(path).expect("built"));
    assert_eq!(igvm_of_rom(&rom).expect("a good ROM"), igvm);
    let digest = measure_igvm(&igvm).expect("a good file").digest();
    assert_eq!(digest.to_string(), image.facts().igvm.digest);
}

#[test]
fn an_image_without_a_model_serves_everything_else() {
    let guest = boot(&options(empty_image()));
    let port = guest.port();
    assert_eq!(raw::get(port, "/healthz").status, 200);
    let response = sealed::ask(
        port,
        &sealed::summarize_message(br#"{"messages":[{"text":"Hi"}]}"#),
    );
    assert_eq!(response.status, 503);
    let problem = Problem::from_json(&response.content).expect("a problem document");
    assert!(
        problem
            .detail
            .is_some_and(|detail| detail.contains("no model"))
    );
}

#[test]
fn a_pack_altered_in_one_byte_is_found() {
    let stop = stop_with_pack("body", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    assert_eq!(stop.name, "model-altered", "{stop}");
    let stop = stop_with_pack("last", |bytes| {
        *bytes.last_mut().expect("not empty") ^= 0x80
    });
    assert_eq!(stop.name, "model-altered", "{stop}");
}

#[test]
fn a_pack_for_another_rom_is_found() {
    // The head holds the digests of everything else, and its own digest is in the ROM.
    let stop = stop_with_pack("head", |bytes| bytes[100] ^= 1);
    assert_eq!(stop.name, "model-other-image", "{stop}");
    let other = tiny_image().model_pack().expect("it has a model");
    let stop = boot_to_stop(&GuestOptions {
        model_pack: Some(other),
        ..options(fixture_image())
    });
    assert!(
        ["model-other-image", "model-truncated"].contains(&stop.name.as_str()),
        "{stop}"
    );
}

#[test]
fn a_truncated_pack_is_found() {
    for (name, keep) in [("half", 2), ("short", 1000)] {
        let stop = stop_with_pack(name, |bytes| bytes.truncate(bytes.len() / keep));
        assert_eq!(stop.name, "model-truncated", "{stop}");
    }
}

#[test]
fn a_pack_with_more_behind_it_is_found_or_ignored() {
    // The manifest says how long the pack is; what the host appends must not be believed.
    let pack = ChangedPack::of(fixture_image(), "longer", |bytes| bytes.extend([0; 8192]));
    let options = GuestOptions {
        model_pack: Some(pack.path().to_owned()),
        ..options(fixture_image())
    };
    let mut guest = xtask::qemu::Guest::start(guests::qemu(), &options).expect("QEMU starts");
    match guest.wait_ready(guests::BOOT_TIMEOUT) {
        Ok(_) => assert_eq!(raw::get(guest.port(), "/healthz").status, 200),
        Err(error) => assert!(error.to_string().contains("model"), "{error}"),
    }
}

#[test]
fn a_missing_pack_is_named() {
    let stop = boot_to_stop(&GuestOptions {
        model_pack: None,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "model-missing", "{stop}");
    assert!(
        stop.detail.contains("opt/cloister/model"),
        "says which file: {stop}"
    );
}

#[test]
fn too_little_ram_says_how_much_is_needed() {
    let with_memory = |memory_mib| GuestOptions {
        memory_mib,
        ..options(tiny_image())
    };
    let stop = boot_to_stop(&with_memory(96));
    assert_eq!(stop.name, "too-little-memory", "{stop}");
    assert!(stop.detail.contains("MiB"), "says how much: {stop}");
    let needed = stop
        .detail
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse::<u64>().ok())
        .max();
    assert!(needed.is_some_and(|mib| mib > 96), "{stop}");
}

#[test]
fn hardly_any_ram_is_a_clear_stop_too() {
    let stop = boot_to_stop(&GuestOptions {
        memory_mib: 34,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "too-little-memory", "{stop}");
}

#[test]
fn ram_above_4_gib_is_taken() {
    // QEMU splits the RAM: below 2 or 3 GiB, and the rest above 4 GiB.
    let guest = boot(&GuestOptions {
        memory_mib: 6 << 10,
        ..options(fixture_image())
    });
    assert_eq!(raw::get(guest.port(), "/healthz").status, 200);
}

#[test]
fn no_hardware_randomness_is_no_service() {
    let cpu = Some("max,-rdrand,-rdseed".to_owned());
    let stop = boot_to_stop(&GuestOptions {
        cpu,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "no-entropy", "{stop}");
}

#[test]
fn a_machine_without_a_network_card_is_named() {
    let stop = boot_to_stop(&GuestOptions {
        network: false,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "no-network", "{stop}");
}

#[test]
fn a_firmware_configuration_without_dma_is_named() {
    let extra = ["-global", "fw_cfg_io.dma_enabled=off"]
        .map(Into::into)
        .to_vec();
    let stop = boot_to_stop(&GuestOptions {
        extra,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "firmware-config", "{stop}");
}

#[test]
fn an_older_cpu_serves_or_says_what_it_lacks() {
    // Without AVX2 the engine's portable kernels are chosen.
    let cpu = Some("max,-avx2,-fma".to_owned());
    let guest = boot(&GuestOptions {
        cpu,
        ..options(fixture_image())
    });
    let summary = guests::client(&guest.url())
        .summarize(&xtask::example::request(Default::default(), Some(4)));
    assert!(summary.is_ok(), "{summary:?}");
}

#[test]
fn an_altered_rom_does_not_serve() {
    // The manifest lies behind the kernel; its digest of the model is what is altered here.
    let rom = std::fs::read(fixture_image().rom()).expect("the ROM can be read");
    let root = &fixture_image()
        .facts()
        .model
        .as_ref()
        .expect("it has a model")
        .root;
    let root: Vec<u8> = (0..32)
        .map(|index| u8::from_str_radix(&root[2 * index..2 * index + 2], 16).expect("hex"))
        .collect();
    let place = rom
        .windows(32)
        .position(|bytes| bytes == root)
        .expect("the ROM names the model");
    let mut altered = rom;
    altered[place] ^= 1;
    let path = fixture_image().rom().with_file_name("altered-rom.bin");
    std::fs::write(&path, altered).expect("written");
    let stop = boot_to_stop(&GuestOptions {
        rom: path,
        ..options(fixture_image())
    });
    assert_eq!(stop.name, "model-other-image", "{stop}");
}
