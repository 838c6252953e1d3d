//! The inside of every product: some rows times the columns of a panel, sums in registers.

use crate::lanes::{Lanes, dispatched};

/// Columns of a panel: four of the widest registers.
pub(crate) const PANEL: usize = 64;

/// Rows that are multiplied at once. With four registers of columns that makes 24 sums of 32 registers.
const ROWS: usize = 6;

/// A matrix by its first number and how far its rows are apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The first number.
    pub(crate) start: *const f32,
    /// Numbers from one row to the next.
    pub(crate) stride: usize,
}

/// The same, to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsMut {
    /// The first number.
    pub(crate) start: *mut f32,
    /// Numbers from one row to the next.
    pub(crate) stride: usize,
}

/// How much is multiplied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rows of the left side and the result.
    pub(crate) rows: usize,
    /// Columns of the right side and the result, at most [`PANEL`].
    pub(crate) columns: usize,
    /// What is summed over.
    pub(crate) inner: usize,
}

dispatched! {
    /// `to (+)= left * panel`: added to what is there, if `is_added`.
    ///
    /// # Safety
    ///
    /// `left` has the rows and the inner length, `to` the rows and columns, and `panel` as many rows as
    /// the inner length, of [`PANEL`] numbers each.
    pub(crate) unsafe fn multiply(
        size: Size,
        left: Rows,
        panel: *const f32,
        to: RowsMut,
        is_added: bool,
    ) = multiply_with
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn multiply_with<L: Lanes>(
    size: Size,
    left: Rows,
    panel: *const f32,
    to: RowsMut,
    is_added: bool,
) {
    // As many columns as four registers hold, or, where there are only 16 registers, two.
    let wide = if L::COUNT == 16 { 4 * L::COUNT } else { 2 * L::COUNT };
    let mut column = 0;
    while column < size.columns {
        let columns = wide.min(size.columns - column);
        let mut row = 0;
        while row < size.rows {
            let rows = ROWS.min(size.rows - row);
            let part = Size { rows, columns, inner: size.inner };
            // SAFETY: rows and columns are among those of the matrices.
            unsafe {
                let left = Rows { start: left.start.add(row * left.stride), ..left };
                let to = RowsMut { start: to.start.add(row * to.stride + column), ..to };
                of_rows::<L>(part, left, panel.add(column), to, is_added);
            }
            row += rows;
        }
        column += columns;
    }
}

/// Chooses the code for so many rows.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn of_rows<L: Lanes>(
    size: Size,
    left: Rows,
    panel: *const f32,
    to: RowsMut,
    is_added: bool,
) {
    // SAFETY: as the caller says; the number of rows is that of the code.
    unsafe {
        match size.rows {
            6 => of_columns::<L, 6>(size, left, panel, to, is_added),
            5 => of_columns::<L, 5>(size, left, panel, to, is_added),
            4 => of_columns::<L, 4>(size, left, panel, to, is_added),
            3 => of_columns::<L, 3>(size, left, panel, to, is_added),
            2 => of_columns::<L, 2>(size, left, panel, to, is_added),
            _ => of_columns::<L, 1>(size, left, panel, to, is_added),
        }
    }
}

/// Chooses the code for so many registers of columns.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn of_columns<L: Lanes, const R: usize>(
    size: Size,
    left: Rows,
    panel: *const f32,
    to: RowsMut,
    is_added: bool,
) {
    // SAFETY: as the caller says; the number of registers holds the columns.
    unsafe {
        match size.columns.div_ceil(L::COUNT) {
            4 => tile::<L, R, 4>(size, left, panel, to, is_added),
            3 => tile::<L, R, 3>(size, left, panel, to, is_added),
            2 => tile::<L, R, 2>(size, left, panel, to, is_added),
            _ => tile::<L, R, 1>(size, left, panel, to, is_added),
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
    size: Size,
    left: Rows,
    panel: *const f32,
    to: RowsMut,
    is_added: bool,
) {
    let last = size.columns - (V - 1) * L::COUNT;
    // SAFETY: as the caller says; the last register of columns is read and written as far as it goes.
    unsafe {
        let mut sums = [[L::zero(); V]; R];
        if is_added {
            for (row, sums) in sums.iter_mut().enumerate() {
                let from = to.start.add(row * to.stride);
                for (place, sum) in sums.iter_mut().enumerate() {
                    let from = from.add(place * L::COUNT);
                    let is_whole = place + 1 < V || last == L::COUNT;
                    *sum = if is_whole { L::load(from) } else { L::load_some(from, last) };
                }
            }
        }
        for inner in 0..size.inner {
            let mut columns = [L::zero(); V];
            for (place, it) in columns.iter_mut().enumerate() {
                *it = L::load(panel.add(inner * PANEL + place * L::COUNT));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let number = L::splat(*left.start.add(row * left.stride + inner));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = number.times_plus(column, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let to = to.start.add(row * to.stride);
            for (place, sum) in sums.iter().enumerate() {
                let to = to.add(place * L::COUNT);
                let is_whole = place + 1 < V || last == L::COUNT;
                if is_whole { sum.store(to) } else { sum.store_some(to, last) }
            }
        }
    }
}
