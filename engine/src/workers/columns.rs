//! A matrix of results that workers fill together: each one has some of the columns to itself.

use super::{MAX_WORKERS, Workers};
use core::marker::PhantomData;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A worker takes this part of what is left of a share: pieces get smaller towards the end, so that all workers come to
/// it at about the same time, whatever takes unequally long.
const PART: usize = 2;

/// Some columns of a matrix in memory, `[rows][width]`: in every row the same ones, which nobody else reaches.
#[derive(Debug)]
pub struct Columns<'m, T> {
    start: *mut T,
    rows: usize,
    width: usize,
    columns: Range<usize>,
    matrix: PhantomData<&'m mut [T]>,
}

// SAFETY: the value stands for a mutable reference to its columns.
unsafe impl<T: Send> Send for Columns<'_, T> {}
// SAFETY: a shared reference gives no access to an element.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

impl<'m, T> Columns<'m, T> {
    /// All columns.
    ///
    /// # Panics
    /// When the elements are no whole rows.
    pub fn all(matrix: &'m mut [T], width: usize) -> Self {
        assert!(
            width > 0 && matrix.len().is_multiple_of(width),
            "{} elements in rows of {width}",
            matrix.len()
        );
        Self {
            start: matrix.as_mut_ptr(),
            rows: matrix.len() / width,
            width,
            columns: 0..width,
            matrix: PhantomData,
        }
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which columns these are.
    pub fn range(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// These columns of one row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: 1. Row and columns lie inside the matrix that `all` borrowed for 'm. 2. Nobody else has these columns:
        // `all` had the whole matrix, and `piece` was promised that it is asked for each column once.
        unsafe {
            let start = self.start.add(row * self.width + self.columns.start);
            slice::from_raw_parts_mut(start, self.columns.len())
        }
    }

    /// Only some of these columns.
    ///
    /// # Panics
    /// When they are not among these.
    #[must_use]
    pub(crate) fn only(self, columns: Range<usize>) -> Self {
        self.check(&columns);
        Self { columns, ..self }
    }

    /// The same columns of the rows before `row`, and of the others.
    ///
    /// # Panics
    /// When there are fewer rows.
    pub(crate) fn split_rows(&mut self, row: usize) -> (Columns<'_, T>, Columns<'_, T>) {
        assert!(row <= self.rows, "row {row} of {}", self.rows);
        // SAFETY: the place lies inside the matrix that `all` borrowed, or behind its last element.
        let lower = unsafe { self.start.add(row * self.width) };
        let part = |start, rows| Columns {
            start,
            rows,
            width: self.width,
            columns: self.range(),
            matrix: PhantomData,
        };
        (part(self.start, row), part(lower, self.rows - row))
    }

    /// A part of the columns.
    ///
    /// # Safety
    /// While the part is in use, nobody reaches its columns in another way.
    unsafe fn piece(&self, columns: Range<usize>) -> Self {
        self.check(&columns);
        Self { columns, ..*self }
    }

    fn check(&self, columns: &Range<usize>) {
        assert!(
            self.columns.start <= columns.start && columns.end <= self.columns.end,
            "{columns:?} of {:?}",
            self.columns
        );
    }
}

/// Fills `matrix`, `[rows][width]`: `task` gets the number of its worker and some of the columns, which begin at a
/// multiple of `unit`.
pub(crate) fn split_columns<T: Send>(
    workers: &dyn Workers,
    matrix: &mut [T],
    width: usize,
    unit: usize,
    task: impl Fn(usize, Columns<'_, T>) + Sync,
) {
    let mut parts = [Columns::all(matrix, width)];
    split_parts(workers, &mut parts, unit, |worker, _, columns| {
        task(worker, columns);
    });
}

/// Fills columns of several matrices as one task, as if they lay side by side: `task` gets the number of its worker,
/// the index of the part, and some of the part's columns, which begin a multiple of `unit` behind the part's first.
///
/// Each worker has a share of its own, and helps the others when it has done it. So what one worker wrote is mostly what
/// it reads in the next task, and comes from its own cache.
pub(crate) fn split_parts<T: Send>(
    workers: &dyn Workers,
    parts: &mut [Columns<'_, T>],
    unit: usize,
    task: impl Fn(usize, usize, Columns<'_, T>) + Sync,
) {
    let parts = &*parts;
    let units_of = |part: &Columns<'_, T>| part.columns.len().div_ceil(unit);
    let all = parts.iter().map(units_of).sum();
    let shares = Shares::new(workers.count(), all);
    workers.run(&|worker| {
        while let Some(taken) = shares.take(worker) {
            let mut before = 0;
            for (index, part) in parts.iter().enumerate() {
                let units = units_of(part);
                let start = taken.start.saturating_sub(before);
                let mine = start..taken.end.saturating_sub(before).min(units);
                before += units;
                if mine.is_empty() {
                    continue;
                }
                let Range { start, end } = part.range();
                let columns = start + mine.start * unit..end.min(start + mine.end * unit);
                // SAFETY: the shares give each unit once, so that pieces share no column; the parts are exclusively
                // borrowed and not used otherwise.
                task(worker, index, unsafe { part.piece(columns) });
            }
        }
    });
    assert!(shares.take(0).is_none(), "the workers left columns undone");
}

/// Units of work, a share of them for each worker, side by side.
struct Shares {
    count: usize,
    units: usize,
    /// The first unit of each share that nobody has taken.
    next: [AtomicUsize; MAX_WORKERS],
}

impl Shares {
    /// # Panics
    /// When there are more than [`MAX_WORKERS`].
    fn new(count: usize, units: usize) -> Self {
        assert!((1..=MAX_WORKERS).contains(&count), "{count} workers");
        let start = |share| AtomicUsize::new(share * units / count);
        Self {
            count,
            units,
            next: core::array::from_fn(start),
        }
    }

    /// The worker's next piece: of its own share, or of that of the next worker which has something left.
    fn take(&self, worker: usize) -> Option<Range<usize>> {
        (worker..worker + self.count).find_map(|share| {
            let share = share % self.count;
            let end = (share + 1) * self.units / self.count;
            let end_of_piece = |start| match self.count {
                1 => end,
                _ => start + usize::div_ceil(end - start, PART),
            };
            let order = Ordering::Relaxed;
            let taken = self.next[share].try_update(order, order, |start| {
                (start < end).then(|| end_of_piece(start))
            });
            taken.ok().map(|start| start..end_of_piece(start))
        })
    }
}
