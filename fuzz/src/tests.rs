//! Every target on its seeds and on alterations of them, without a fuzzer.

use cloister_protocol::test_rng::TestRng;

use crate::TARGETS;

/// Alterations of each seed; the cheap targets take well under a second for as many.
const ROUNDS: usize = 2000;

#[test]
fn every_target_takes_its_seeds_and_alterations_of_them() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        let mut rng = TestRng(1);
        assert!(!(target.run)(b""), "{}", target.name);
        for seed in seeds {
            assert!((target.run)(&seed), "{}: a seed is valid", target.name);
            for _ in 0..ROUNDS {
                let mut bytes = seed.clone();
                for _ in 0..=rng.below(4) {
                    rng.alter(&mut bytes);
                }
                (target.run)(&bytes);
            }
        }
    }
}

#[test]
fn every_target_has_a_binary() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("Cargo.toml");
    for target in TARGETS {
        let name = target.name;
        let file = format!("fuzz_targets/{name}.rs");
        let source = std::fs::read_to_string(format!("{folder}/{file}")).expect(&file);
        let module = source
            .strip_prefix("//! See [`cloister_fuzz::")
            .and_then(|rest| rest.split("::").next())
            .unwrap_or_default();
        let expected = format!(
            "//! See [`cloister_fuzz::{module}::{name}`].\n#![no_main]\n\n\
             libfuzzer_sys::fuzz_target!(|data: &[u8]| {{\n    cloister_fuzz::{module}::{name}(data);\n}});\n"
        );
        assert_eq!(source, expected, "{file}");
        let named = format!("[[bin]]\nname = \"{name}\"\npath = \"{file}\"\n");
        assert!(manifest.contains(&named), "{named}");
    }
}
