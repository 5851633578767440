//! Keys that change while they are used.

use std::string::String;
use std::vec::Vec;

use cloister_protocol::api::problem::Problem;
use cloister_protocol::api::{paths, summarize as api};
use cloister_protocol::evidence::Evidence;
use cloister_protocol::keyconfig::{Kem, KeyConfigList};

use super::testing::{World, open, summarize};

const EPOCH_S: u32 = 20;

/// A client that keeps the keys which it has, as the real one does, and fetches new ones once when they are unknown.
struct Asker {
    keys: KeyConfigList,
    refetched: u64,
}

impl Asker {
    fn ask(&mut self, world: &mut World, text: &str) -> u16 {
        for attempt in 0..2 {
            let (request, opener) = world.encapsulate(&self.keys, &summarize(text, 3));
            let answer = world.exchange(&request);
            if answer.status == 200 {
                let response = open(answer, opener);
                let summary = api::Response::from_json(&response.content).unwrap();
                assert_eq!(summary.summary, text);
                return 200;
            }
            let problem = Problem::from_json(&answer.body).unwrap();
            if attempt > 0 || !problem.is_key_problem() {
                return answer.status;
            }
            self.keys = world.keys();
            self.refetched += 1;
        }
        unreachable!("the second attempt returns")
    }
}

#[test]
fn keys_change_under_load_and_no_request_is_lost() {
    let mut world = World::with_epoch(EPOCH_S);
    let keys = world.keys();
    let first = keys.epoch().unwrap();
    assert_eq!(first.end_s - first.start_s, u64::from(EPOCH_S));
    let mut askers: Vec<Asker> = (0..4)
        .map(|_| Asker {
            keys: keys.clone(),
            refetched: 0,
        })
        .collect();
    let mut asked = 0;
    for second in 0..u64::from(EPOCH_S) * 10 {
        world.skip_s(1);
        for (index, asker) in askers.iter_mut().enumerate() {
            let text = std::format!("second {second} of {index}");
            assert_eq!(asker.ask(&mut world, &text), 200, "{text}");
            asked += 1;
        }
    }
    let last = world.keys().epoch().unwrap();
    assert!(last.number >= first.number + 9, "{last:?}");
    assert_eq!(world.server.metrics().jobs_finished, asked, "each once");
    assert_eq!(world.live.get(), 0);
    for asker in &askers {
        // A key is good for its epoch and, as grace, for the next: so every other change goes unnoticed.
        assert!((3..=6).contains(&asker.refetched), "{}", asker.refetched);
    }
}

#[test]
fn a_job_outlives_the_key_that_its_request_was_sealed_to() {
    let mut world = World::with_epoch(EPOCH_S);
    let keys = world.keys();
    let (request, opener) = world.encapsulate(&keys, &summarize("long", 500));
    let client = world.connect();
    world.send(client, &request);
    world.turns(20);
    assert_eq!(world.live.get(), 1);
    // The key is replaced, and its grace ends too.
    for _ in 0..50 {
        world.lan.now_us += 999_000;
        world.turn();
        world.lan.turn(&mut world.stack);
    }
    let number = |keys: &KeyConfigList| keys.epoch().unwrap().number;
    assert!(number(&world.keys()) >= number(&keys) + 2);
    let (late, _) = world.encapsulate(&keys, &summarize("late", 1));
    assert_eq!(world.exchange(&late).status, 400);
    let answer = open(world.answer(client).unwrap(), opener);
    let summary = api::Response::from_json(&answer.content).unwrap();
    assert_eq!(summary.summary, "long");
}

#[test]
fn every_epoch_offers_x_wing_first_and_evidence_for_its_keys() {
    let mut world = World::with_epoch(EPOCH_S);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..5 {
        let list = world.get(paths::OHTTP_GATEWAY).body;
        let keys = world.keys();
        let kems: Vec<Kem> = keys.configs().iter().map(|config| config.kem()).collect();
        assert_eq!(kems, [Kem::XWing, Kem::X25519]);
        assert_eq!(keys.preferred().kem(), Kem::XWing);
        let evidence = Evidence::decode(&world.get(paths::EVIDENCE).body).unwrap();
        assert_eq!(evidence.key_configs, list);
        assert_eq!(evidence.epoch, keys.epoch().unwrap().number);
        assert!(!seen.contains(&list), "no key comes twice");
        seen.push(list);
        world.skip_s(u64::from(EPOCH_S) + 1);
    }
    let text = String::from_utf8(world.get(paths::HEALTH).body).unwrap();
    assert_eq!(text, "ready\n");
}
