//! Work that is shared among the threads of candle's pool.

use std::ops::Range;

use candle_core::utils::{barrier_pool, get_num_threads};

/// Numbers that several threads write to, each its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: whoever hands it to threads promises, by calling `at`, that they write to different places.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Numbers to write to.
    pub(crate) const fn of(numbers: &mut [f32]) -> Self {
        Self(numbers.as_mut_ptr())
    }

    /// The place of a number.
    ///
    /// # Safety
    ///
    /// It is one of the numbers, and no other thread reads or writes it.
    pub(crate) const unsafe fn at(self, index: usize) -> *mut f32 {
        // SAFETY: the caller says that it is one of the numbers.
        unsafe { self.0.add(index) }
    }

    /// The numbers from one on.
    ///
    /// # Safety
    ///
    /// It is one of the numbers.
    pub(crate) const unsafe fn from(self, index: usize) -> Self {
        // SAFETY: the caller says that it is one of the numbers.
        Self(unsafe { self.0.add(index) })
    }

    /// Some of the numbers.
    ///
    /// # Safety
    ///
    /// They are there, and no other thread reads or writes them.
    pub(crate) const unsafe fn part<'a>(self, start: usize, length: usize) -> &'a mut [f32] {
        // SAFETY: the caller says that they are there and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

/// How many threads there are.
pub(crate) fn count() -> usize {
    get_num_threads()
}

/// Does `work` for each range of `0..items`; the ranges are disjoint and make up all.
pub(crate) fn each<F: Fn(Range<usize>) + Sync>(items: usize, work: F) {
    if items == 1 || count() == 1 {
        work(0..items);
    } else {
        barrier_pool().execute_chunked(items, work);
    }
}

/// A vector of so many numbers, for somebody who writes every one of them.
///
/// # Safety
///
/// Each is written before it is read.
#[expect(clippy::uninit_vec, reason = "the caller writes all of them first")]
pub(crate) unsafe fn unwritten(length: usize) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(length);
    // SAFETY: there is room for them, every pattern of bits is a number, and none is read before.
    unsafe { numbers.set_len(length) };
    numbers
}
