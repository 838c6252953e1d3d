//! Parallel loops on candle's thread pool, and the output that several threads write.

use std::ops::Range;

use candle_core::utils::{barrier_pool, get_num_threads};

/// An output that several threads write to, each in a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput(*mut f32);

// SAFETY: the unsafe methods require that threads access different parts.
unsafe impl Send for SharedOutput {}
// SAFETY: as above.
unsafe impl Sync for SharedOutput {}

impl SharedOutput {
    /// An output in this slice.
    pub(crate) const fn of(numbers: &mut [f32]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The address of a number.
    ///
    /// # Safety
    ///
    /// The index is in bounds, and no other thread accesses the number.
    pub(crate) const unsafe fn at(self, index: usize) -> *mut f32 {
        // SAFETY: the caller guarantees that the index is in bounds.
        unsafe { self.0.add(index) }
    }

    /// The output from an index on.
    ///
    /// # Safety
    ///
    /// The index is in bounds.
    pub(crate) const unsafe fn offset(self, index: usize) -> Self {
        // SAFETY: the caller guarantees that the index is in bounds.
        Self(unsafe { self.0.add(index) })
    }

    /// A part of the output.
    ///
    /// # Safety
    ///
    /// The part is in bounds, and no other thread accesses it.
    pub(crate) const unsafe fn slice<'a>(self, start: usize, length: usize) -> &'a mut [f32] {
        // SAFETY: the caller guarantees that the part is in bounds and not shared.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

/// The number of threads.
pub(crate) fn thread_count() -> usize {
    get_num_threads()
}

/// Runs `work` in parallel on disjoint ranges that cover `0..items`.
pub(crate) fn parallel_for<F: Fn(Range<usize>) + Sync>(items: usize, work: F) {
    if items == 1 || thread_count() == 1 {
        work(0..items);
    } else {
        barrier_pool().execute_chunked(items, work);
    }
}

/// A vector of this length without initial values.
///
/// # Safety
///
/// Every number is written before it is read.
#[expect(clippy::uninit_vec, reason = "the caller writes every number first")]
pub(crate) unsafe fn uninitialized(length: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(length);
    // SAFETY: the capacity suffices, and the caller reads no number before it is written.
    unsafe { numbers.set_len(length) };
    numbers
}
