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

/// `to (+)= left * panel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Multiplication {
    /// How much of them.
    pub(crate) size: Size,
    /// The left side.
    pub(crate) left: Rows,
    /// The right side: as many rows as the inner length, of [`PANEL`] numbers each.
    pub(crate) panel: *const f32,
    /// The result.
    pub(crate) to: RowsMut,
    /// Whether it is added to what is there.
    pub(crate) is_added: bool,
}

dispatched! {
    /// Multiplies.
    ///
    /// # Safety
    ///
    /// `left` has the rows and the inner length, `to` the rows and columns, `panel` the inner length.
    pub(crate) unsafe fn multiply(it: Multiplication) = multiply_with
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn multiply_with<L: Lanes>(it: Multiplication) {
    // As many columns as four registers hold, or, where there are only 16 registers, two.
    let wide = if L::COUNT == 16 { 4 * L::COUNT } else { 2 * L::COUNT };
    let Multiplication { size, left, panel, to, .. } = it;
    for column in (0..size.columns).step_by(wide) {
        let columns = wide.min(size.columns - column);
        for row in (0..size.rows).step_by(ROWS) {
            let rows = ROWS.min(size.rows - row);
            // SAFETY: rows and columns are among those of the matrices.
            unsafe {
                of_rows::<L>(Multiplication {
                    size: Size { rows, columns, inner: size.inner },
                    left: Rows { start: left.start.add(row * left.stride), ..left },
                    panel: panel.add(column),
                    to: RowsMut { start: to.start.add(row * to.stride + column), ..to },
                    ..it
                });
            }
        }
    }
}

/// Chooses the code for so many rows.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn of_rows<L: Lanes>(it: Multiplication) {
    // SAFETY: as the caller says; the number of rows is that of the code.
    unsafe {
        match it.size.rows {
            6 => of_columns::<L, 6>(it),
            5 => of_columns::<L, 5>(it),
            4 => of_columns::<L, 4>(it),
            3 => of_columns::<L, 3>(it),
            2 => of_columns::<L, 2>(it),
            _ => of_columns::<L, 1>(it),
        }
    }
}

/// Chooses the code for so many registers of columns.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn of_columns<L: Lanes, const R: usize>(it: Multiplication) {
    // SAFETY: as the caller says; the number of registers holds the columns.
    unsafe {
        match it.size.columns.div_ceil(L::COUNT) {
            4 => tile::<L, R, 4>(it),
            3 => tile::<L, R, 3>(it),
            2 => tile::<L, R, 2>(it),
            _ => tile::<L, R, 1>(it),
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(it: Multiplication) {
    let Multiplication { size, left, panel, to, is_added } = it;
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
