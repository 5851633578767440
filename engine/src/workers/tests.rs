use super::*;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn teams() -> Vec<Box<dyn Workers>> {
    let mut teams: Vec<Box<dyn Workers>> = vec![Box::new(Alone)];
    for count in 1..=4 {
        teams.push(Box::new(Threads::new(count)));
    }
    teams
}

/// Under Miri each step takes thousands of times longer.
const ROUNDS: usize = if cfg!(miri) { 4 } else { 200 };
/// A row that is no whole number of units.
const LONG: usize = if cfg!(miri) { 101 } else { 1001 };

/// A task's first worker waits here until so many others have come.
fn wait_for(others: usize, come: &AtomicUsize) {
    while come.load(Ordering::Relaxed) < others {
        std::thread::yield_now();
    }
}

#[test]
fn the_first_worker_is_always_called_and_the_others_once_at_most() {
    for workers in teams() {
        let calls: Vec<AtomicUsize> = (0..workers.count()).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=ROUNDS {
            workers.run(&|worker| {
                calls[worker].fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls[0].load(Ordering::Relaxed), round, "{workers:?}");
            for calls in &calls {
                assert!(calls.load(Ordering::Relaxed) <= round, "{workers:?}");
            }
        }
    }
}

#[test]
fn every_worker_comes_once_to_a_task_that_lasts() {
    for workers in teams() {
        let calls: Vec<AtomicUsize> = (0..workers.count()).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=ROUNDS {
            let come = AtomicUsize::new(0);
            workers.run(&|worker| {
                calls[worker].fetch_add(1, Ordering::Relaxed);
                match worker {
                    0 => wait_for(workers.count() - 1, &come),
                    _ => drop(come.fetch_add(1, Ordering::Relaxed)),
                }
            });
            for calls in &calls {
                assert_eq!(calls.load(Ordering::Relaxed), round, "{workers:?}");
            }
        }
    }
}

#[test]
fn workers_that_sleep_are_woken() {
    let workers = Threads::new(3);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        let come = AtomicUsize::new(0);
        workers.run(&|worker| match worker {
            0 => wait_for(2, &come),
            _ => drop(come.fetch_add(1, Ordering::Relaxed)),
        });
    }
}

#[test]
fn a_member_that_never_comes_is_not_waited_for() {
    let team = Team::new(2, Asking);
    let _absent = team.join();
    for round in 1..=ROUNDS {
        let calls = AtomicUsize::new(0);
        team.run(&|worker| {
            assert_eq!(worker, 0);
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 1, "{round}");
    }
}

#[test]
fn a_member_that_comes_late_takes_part_from_then_on() {
    let team = Team::new(1, Asking);
    team.run(&|worker| assert_eq!(worker, 0));
    std::thread::scope(|scope| {
        let come = AtomicUsize::new(0);
        team.run(&|worker| {
            if worker > 0 {
                come.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // In the middle of a task, to which it may still come.
            let member = team.join().expect("there is a place");
            scope.spawn(|| member.serve());
            wait_for(1, &come);
        });
        assert_eq!(come.load(Ordering::Relaxed), 1, "once for each task");
        team.close();
    });
    // Between the last task and the end nobody is there, and work is done all the same.
    team.run(&|worker| assert_eq!(worker, 0));
}

#[test]
fn nobody_is_inside_when_a_task_has_ended() {
    let team = Team::new(3, Asking);
    std::thread::scope(|scope| {
        while let Some(member) = team.join() {
            scope.spawn(|| member.serve());
        }
        for _ in 0..ROUNDS {
            // Gone after the task, as Miri would notice.
            let inside = Box::new(AtomicUsize::new(0));
            team.run(&|worker| {
                inside.fetch_add(1, Ordering::Relaxed);
                (0..worker * 7).for_each(|_| core::hint::spin_loop());
                inside.fetch_sub(1, Ordering::Relaxed);
            });
            assert_eq!(inside.into_inner(), 0);
        }
        team.close();
    });
}

#[test]
fn what_members_write_is_seen_after_the_task() {
    let workers = Threads::new(3);
    for round in 0..ROUNDS {
        let mut matrix = vec![0; 64];
        split_columns(&workers, &mut matrix, 64, 1, |_, mut columns| {
            columns.row(0).fill(round);
        });
        assert!(matrix.iter().all(|x| *x == round));
    }
}

#[test]
fn columns_are_filled_once_whatever_their_number() {
    for workers in teams() {
        for (rows, width, unit) in [
            (1, 1, 8),
            (1, 7, 8),
            (3, 64, 8),
            (16, LONG, 8),
            (2, 896, 64),
        ] {
            let mut matrix = vec![0; rows * width];
            split_columns(&*workers, &mut matrix, width, unit, |_, mut columns| {
                let range = columns.range();
                assert!(range.start.is_multiple_of(unit));
                assert_eq!((columns.rows(), columns.width()), (rows, width));
                for row in 0..rows {
                    for (x, column) in columns.row(row).iter_mut().zip(range.clone()) {
                        *x += row * width + column + 1;
                    }
                }
            });
            assert!(
                matrix.iter().copied().eq(1..=rows * width),
                "{workers:?} {rows} {width} {unit}"
            );
        }
    }
}

#[test]
fn several_matrices_are_filled_as_one_task() {
    for workers in teams() {
        let (mut wide, mut narrow, mut none) = (vec![0; 2 * 70], vec![0; 3 * 9], vec![0; 8]);
        let mut parts = [
            Columns::all(&mut wide, 70).only(16..70),
            Columns::all(&mut none, 8).only(8..8),
            Columns::all(&mut narrow, 9),
        ];
        split_parts(&*workers, &mut parts, 8, |_, part, mut columns| {
            assert!(columns.range().start.is_multiple_of(8) && !columns.range().is_empty());
            for row in 0..columns.rows() {
                columns.row(row).iter_mut().for_each(|x| *x += part + 1);
            }
        });
        let is_wide = |(at, x): (usize, &usize)| *x == usize::from(at % 70 >= 16);
        assert!(wide.iter().enumerate().all(is_wide), "{workers:?}");
        assert!(none.iter().all(|x| *x == 0) && narrow.iter().all(|x| *x == 3));
    }
}

#[test]
fn rows_are_parted() {
    let mut matrix = [0; 3 * 4];
    let mut columns = Columns::all(&mut matrix, 4).only(1..3);
    let (mut upper, mut lower) = columns.split_rows(1);
    assert_eq!((upper.rows(), lower.rows()), (1, 2));
    upper.row(0).fill(1);
    lower.row(1).fill(2);
    assert_eq!(matrix, [0, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 0]);
}

#[test]
fn a_worker_that_calls_nobody_is_noticed() {
    #[derive(Debug)]
    struct Lazy;
    impl Workers for Lazy {
        fn count(&self) -> usize {
            2
        }
        fn run(&self, _: &(dyn Fn(usize) + Sync)) {}
    }
    let undone = catch_unwind(|| split_columns(&Lazy, &mut [0; 4], 4, 1, |_, _| ()));
    assert!(undone.is_err());
}

#[test]
fn a_panic_in_any_worker_reaches_the_caller() {
    for failing in 0..3 {
        let workers = Threads::new(3);
        let (come, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workers.run(&|worker| {
                come.fetch_add(1, Ordering::Relaxed);
                wait_for(3, &come);
                assert_ne!(worker, failing, "on purpose");
                std::thread::sleep(Duration::from_millis(5));
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert!(outcome.is_err(), "{failing}");
        assert_eq!(ended.into_inner(), 2, "those inside were waited for");
    }
}

#[test]
fn a_worker_that_has_panicked_ends_the_team() {
    let workers = Threads::new(2);
    let come = AtomicUsize::new(0);
    let task = |worker: usize| match worker {
        0 => wait_for(1, &come),
        _ => {
            come.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose");
        }
    };
    assert!(catch_unwind(AssertUnwindSafe(|| workers.run(&task))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| workers.run(&|_| ()))).is_err());
}

#[test]
fn a_task_inside_a_task_is_refused() {
    let workers = Threads::new(2);
    let (come, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    workers.run(&|_| {
        come.fetch_add(1, Ordering::Relaxed);
        wait_for(2, &come);
        if catch_unwind(AssertUnwindSafe(|| workers.run(&|_| ()))).is_err() {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(refused.into_inner(), 2);
}

#[test]
fn a_team_has_as_many_places_as_it_has_members() {
    let workers = Team::new(2, Asking);
    let numbers: Vec<usize> = core::iter::from_fn(|| workers.join())
        .map(|member| member.number())
        .collect();
    assert_eq!(numbers, [1, 2]);
}

/// Waits by asking again and again.
struct Asking;

impl Wait for Asking {
    fn for_task(&self, _: usize, _: &dyn Fn() -> bool) {
        std::thread::yield_now();
    }
    fn wake(&self) {}
    fn for_members(&self, _: &dyn Fn() -> bool) {
        std::thread::yield_now();
    }
}
