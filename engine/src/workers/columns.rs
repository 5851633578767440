//! A matrix of results that workers fill together: each one has some of the columns to itself.

use super::Workers;
use core::marker::PhantomData;
use core::ops::Range;
use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Pieces of work for each worker: more of them even out what takes unequally long.
const PIECES: usize = 4;

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

    /// A part of the columns.
    ///
    /// # Safety
    /// While the part is in use, nobody reaches its columns in another way.
    unsafe fn piece(&self, columns: Range<usize>) -> Self {
        assert!(
            self.columns.start <= columns.start && columns.end <= self.columns.end,
            "{columns:?} of {:?}",
            self.columns
        );
        Self { columns, ..*self }
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
    let all = Columns::all(matrix, width);
    if workers.count() == 1 {
        return task(0, all);
    }
    let pieces = workers.count() * PIECES;
    let columns = width.div_ceil(unit).div_ceil(pieces) * unit;
    let next = AtomicUsize::new(0);
    workers.run(&|worker| {
        loop {
            let start = next.fetch_add(columns, Ordering::Relaxed);
            if start >= width {
                return;
            }
            // SAFETY: `next` gives each start once, so that pieces share no column; `all` is not used otherwise.
            let piece = unsafe { all.piece(start..width.min(start + columns)) };
            task(worker, piece);
        }
    });
    assert!(
        next.into_inner() >= width,
        "the workers left columns undone"
    );
}
