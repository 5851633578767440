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

#[test]
fn every_worker_is_called_once_with_its_number() {
    for workers in teams() {
        let calls: Vec<AtomicUsize> = (0..workers.count()).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=200 {
            workers.run(&|worker| {
                calls[worker].fetch_add(1, Ordering::Relaxed);
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
    let calls = AtomicUsize::new(0);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        workers.run(&|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(calls.into_inner(), 9);
}

#[test]
fn columns_are_filled_once_whatever_their_number() {
    for workers in teams() {
        for (rows, width, unit) in [
            (1, 1, 8),
            (1, 7, 8),
            (3, 64, 8),
            (16, 1001, 8),
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
        let ended = AtomicUsize::new(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workers.run(&|worker| {
                assert_ne!(worker, failing, "on purpose");
                std::thread::sleep(Duration::from_millis(5));
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert!(outcome.is_err(), "{failing}");
        assert_eq!(ended.into_inner(), 2, "the others were waited for");
    }
}

#[test]
fn a_task_inside_a_task_is_refused() {
    let workers = Threads::new(2);
    let refused = AtomicUsize::new(0);
    workers.run(&|_| {
        if catch_unwind(AssertUnwindSafe(|| workers.run(&|_| ()))).is_err() {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(refused.into_inner(), 2);
}

#[test]
fn a_team_has_as_many_places_as_it_has_members() {
    let workers = Team::new(2, Never);
    let numbers: Vec<usize> = core::iter::from_fn(|| workers.join())
        .map(|member| member.number())
        .collect();
    assert_eq!(numbers, [1, 2]);
}

/// Nobody waits.
struct Never;

impl Wait for Never {
    fn for_task(&self, _: usize, _: &dyn Fn() -> bool) {}
    fn wake(&self) {}
    fn for_members(&self, _: &dyn Fn() -> bool) {}
}
