//! The GEMM micro-kernel: some rows times the columns of a packed panel, with the sums in
//! registers.
//!
//! The right-hand matrix is packed in panels of [`PANEL_COLUMNS`] columns, each stored row by row.
//! The kernel is instantiated for every number of rows and registers, so that its inner loop has no
//! branches.

use crate::simd::{Lanes, simd_dispatch};

/// The columns of a panel: four of the widest registers.
pub(crate) const PANEL_COLUMNS: usize = 64;

/// The rows that are multiplied at once. With four registers of columns, the sums occupy 24 of 32
/// registers.
const TILE_ROWS: usize = 6;

/// A matrix to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixRef {
    /// The first element.
    pub(crate) start: *const f32,
    /// The distance between rows, in elements.
    pub(crate) stride: usize,
}

/// A matrix to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixMut {
    /// The first element.
    pub(crate) start: *mut f32,
    /// The distance between rows, in elements.
    pub(crate) stride: usize,
}

/// The size of a multiplication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GemmSize {
    /// The rows of the left matrix and the result.
    pub(crate) rows: usize,
    /// The columns of the panel and the result, at most [`PANEL_COLUMNS`].
    pub(crate) columns: usize,
    /// The length of the sums.
    pub(crate) inner: usize,
}

/// The operands of `to = left * panel`, or of `to += left * panel`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gemm {
    /// The size.
    pub(crate) size: GemmSize,
    /// The left matrix.
    pub(crate) left: MatrixRef,
    /// The packed panel: `inner` rows of [`PANEL_COLUMNS`] elements.
    pub(crate) panel: *const f32,
    /// The result.
    pub(crate) to: MatrixMut,
    /// Whether the product is added to the result.
    pub(crate) accumulates: bool,
}

simd_dispatch! {
    /// Multiplies rows with the columns of a panel.
    ///
    /// # Safety
    ///
    /// `left` is valid for `rows` x `inner`, `to` for `rows` x `columns`, and `panel` for `inner`
    /// rows.
    pub(crate) unsafe fn gemm(operands: Gemm) = gemm_kernel
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn gemm_kernel<L: Lanes>(operands: Gemm) {
    // The columns of four registers, or of two where there are only 16 registers.
    let tile_columns = if L::COUNT == 16 { 4 * L::COUNT } else { 2 * L::COUNT };
    let Gemm { size, left, panel, to, .. } = operands;
    for column in (0..size.columns).step_by(tile_columns) {
        let columns = tile_columns.min(size.columns - column);
        for row in (0..size.rows).step_by(TILE_ROWS) {
            let rows = TILE_ROWS.min(size.rows - row);
            // SAFETY: rows and columns are among those of the matrices.
            unsafe {
                dispatch_rows::<L>(Gemm {
                    size: GemmSize { rows, columns, inner: size.inner },
                    left: MatrixRef { start: left.start.add(row * left.stride), ..left },
                    panel: panel.add(column),
                    to: MatrixMut { start: to.start.add(row * to.stride + column), ..to },
                    ..operands
                });
            }
        }
    }
}

/// Chooses the instance of the kernel by the number of rows.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn dispatch_rows<L: Lanes>(operands: Gemm) {
    // SAFETY: as the caller guarantees; the instance has this number of rows.
    unsafe {
        match operands.size.rows {
            6 => dispatch_columns::<L, 6>(operands),
            5 => dispatch_columns::<L, 5>(operands),
            4 => dispatch_columns::<L, 4>(operands),
            3 => dispatch_columns::<L, 3>(operands),
            2 => dispatch_columns::<L, 2>(operands),
            _ => dispatch_columns::<L, 1>(operands),
        }
    }
}

/// Chooses the instance of the kernel by the number of registers for the columns.
#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn dispatch_columns<L: Lanes, const R: usize>(operands: Gemm) {
    // SAFETY: as the caller guarantees; the registers hold all columns.
    unsafe {
        match operands.size.columns.div_ceil(L::COUNT) {
            4 => tile::<L, R, 4>(operands),
            3 => tile::<L, R, 3>(operands),
            2 => tile::<L, R, 2>(operands),
            _ => tile::<L, R, 1>(operands),
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled for each set of instructions")]
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(operands: Gemm) {
    let Gemm { size, left, panel, to, accumulates } = operands;
    let last_columns = size.columns - (V - 1) * L::COUNT;
    // SAFETY: as the caller guarantees; the last register is loaded and stored up to the last
    // column.
    unsafe {
        let mut sums = [[L::zero(); V]; R];
        if accumulates {
            for (row, sums) in sums.iter_mut().enumerate() {
                let from = to.start.add(row * to.stride);
                for (index, sum) in sums.iter_mut().enumerate() {
                    let from = from.add(index * L::COUNT);
                    let is_full = index + 1 < V || last_columns == L::COUNT;
                    *sum =
                        if is_full { L::load(from) } else { L::load_partial(from, last_columns) };
                }
            }
        }
        for inner in 0..size.inner {
            let mut columns = [L::zero(); V];
            for (index, column) in columns.iter_mut().enumerate() {
                *column = L::load(panel.add(inner * PANEL_COLUMNS + index * L::COUNT));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let number = L::splat(*left.start.add(row * left.stride + inner));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = number.mul_add(column, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            let to = to.start.add(row * to.stride);
            for (index, sum) in sums.iter().enumerate() {
                let to = to.add(index * L::COUNT);
                let is_full = index + 1 < V || last_columns == L::COUNT;
                if is_full { sum.store(to) } else { sum.store_partial(to, last_columns) }
            }
        }
    }
}
