//! Every target on its seeds and on alterations of them, without a fuzzer.

use cloister_fuzz::TARGETS;
use cloister_protocol::test_rng::TestRng;

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
    for target in TARGETS {
        let path = format!(
            "{}/fuzz_targets/{}.rs",
            env!("CARGO_MANIFEST_DIR"),
            target.name
        );
        let source = std::fs::read_to_string(&path).expect(&path);
        assert!(
            source.contains(&format!("::{}(data)", target.name)),
            "{path}"
        );
    }
}
