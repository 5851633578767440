use super::*;
use crate::device::fw_cfg::fake::Host;
use core::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn the_host_cannot_name_too_few_or_too_many_processors() {
    for (named, used) in [(0, 1), (1, 1), (2, 2), (16, 16), (17, 16), (u16::MAX, 16)] {
        let host = Host {
            cpus: named,
            ..Host::default()
        };
        assert_eq!(count(host.device()), used, "{named}");
    }
}

#[test]
fn without_others_the_first_processor_works_alone() {
    assert_eq!(workers().count(), 1);
}

#[test]
fn a_team_that_waits_by_looking_works() {
    let clock = Clock::with_frequency(0, 2_000_000);
    let team = Team::new(2, Pauses { clock });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let member = team.join().unwrap();
            scope.spawn(|| member.serve());
        }
        for _ in 0..10 {
            let (come, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|worker| {
                sum.fetch_add(worker + 1, Ordering::Relaxed);
                come.fetch_add(1, Ordering::Relaxed);
                while worker == 0 && come.load(Ordering::Relaxed) < 3 {
                    hint::spin_loop();
                }
            });
            assert_eq!(sum.into_inner(), 6);
        }
        team.close();
    });
}
